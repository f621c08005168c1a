"""The way of one request, from its first byte to its settlement."""

import asyncio

from keyforge.contracts.errors import Problem
from keyforge.contracts.ids import EdgeId
from keyforge.edge.application.admission import Admission
from keyforge.edge.application.admitted_request import AdmittedRequest
from keyforge.edge.application.agent_stream import AgentStream
from keyforge.edge.application.answer_headers import sent_as
from keyforge.edge.application.call import Call
from keyforge.edge.application.callers import Callers
from keyforge.edge.application.dispatch import Dispatch
from keyforge.edge.application.ports import OutcomeLog
from keyforge.edge.application.relay import Relay
from keyforge.edge.application.request_body import headers_beside, read_body
from keyforge.edge.application.running import RunningRequests
from keyforge.edge.core.dialects.registry import AgentRoute
from keyforge.edge.core.settlement.outcome import Outcome
from keyforge.edge.metrics import Metrics
from keyforge.runtime.clock import Clock


class RequestFlow:
    """Carries requests that cost money. Each step is a use case of its own; the order is here."""

    __slots__ = (
        "_admission",
        "_body_bytes_max",
        "_body_s",
        "_callers",
        "_clock",
        "_dispatch",
        "_early_head_s",
        "_edge_id",
        "_metrics",
        "_outcomes",
        "_relay",
        "_request_s",
        "_running",
    )

    def __init__(
        self,
        *,
        edge_id: EdgeId,
        callers: Callers,
        admission: Admission,
        dispatch: Dispatch,
        relay: Relay,
        running: RunningRequests,
        outcomes: OutcomeLog,
        clock: Clock,
        metrics: Metrics,
        request_s: int,
        body_bytes_max: int,
        body_s: float,
        early_head_s: float,
    ) -> None:
        self._edge_id = edge_id
        self._callers = callers
        self._admission = admission
        self._dispatch = dispatch
        self._relay = relay
        self._running = running
        self._outcomes = outcomes
        self._clock = clock
        self._metrics = metrics
        self._request_s = request_s
        self._body_bytes_max = body_bytes_max
        self._body_s = body_s
        self._early_head_s = early_head_s

    async def serve(self, call: Call, on: AgentRoute) -> None:
        """Carry one request to its end: who asks, what, is there money, forward, settle. Any step may end it."""
        # Who asks?
        key = await self._callers.identify(call)
        if key is None:
            return

        # What do they ask? Bounded in bytes and time.
        body = await read_body(call, self._body_bytes_max, self._body_s)
        if isinstance(body, Problem):
            await self._callers.refuse(call, key, body, headers_beside(body))
            return

        # From here on a revocation cuts it. The deadline starts before the reserve: it passes before the admission's.
        deadline = self._clock.monotonic() + self._request_s
        with self._running.entered(key) as running:
            # May they, what can it cost at most, and is there money for that? Not one byte goes out before an allow.
            priced = await self._admission.reserve(call, on, key, body)
            if isinstance(priced, Problem):
                await self._callers.refuse(call, key, priced)
                return

            # Whatever happens now, the log gets an end.
            version = priced.reserve.secret_version
            gone = None
            outcome = Outcome(call.request_id, priced.key, self._edge_id, priced.at, self._request_s, version)
            try:
                if priced.outgoing.request.stream:
                    running.stream = AgentStream(call, sent_as(priced), early_head_s=self._early_head_s)
                admitted = AdmittedRequest(call, priced, outcome, running, deadline, running.stream)
                if admitted.stream is not None:
                    gone = self._watch(admitted)
                failed = await self._dispatch.send(admitted, self._relay.take)
                if failed is not None:
                    await self._relay.tell(admitted, failed)
            finally:
                if gone is not None:
                    gone.cancel()
                self._outcomes.append(key.partition, outcome.event(self._since_ms(call)))
                self._metrics.outcomes[outcome.name] += 1

    def _watch(self, admitted: AdmittedRequest) -> asyncio.Future[None]:
        """Notice, until this is cancelled, that the agent of a stream hangs up."""
        gone = asyncio.ensure_future(admitted.call.gone())
        gone.add_done_callback(lambda _: admitted.running.leave(self._relay.drain_s))
        return gone

    def _since_ms(self, call: Call) -> int:
        return round((self._clock.monotonic() - call.began) * 1000)
