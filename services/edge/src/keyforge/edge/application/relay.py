"""Brings a provider's answer to the agent: whole, or as a stream whose usage is read as it passes."""

import asyncio
from contextlib import suppress
from typing import Final

from keyforge.contracts.errors import problem
from keyforge.edge.application.call import Call, Headers, refuse
from keyforge.edge.application.dispatch import read_bounded
from keyforge.edge.application.ports import ProviderRegistry
from keyforge.edge.application.provider_call import UpstreamResponse
from keyforge.edge.application.provider_errors import UpstreamError, UpstreamTimeout
from keyforge.edge.application.running import RunningRequest
from keyforge.edge.core.dialects.stream_bounds import is_over_reservation
from keyforge.edge.core.judge import PricedRequest
from keyforge.edge.core.settlement.outcome import Outcome
from keyforge.runtime.clock import Clock

ERROR_BYTES_MAX: Final = 64 * 1024
"""A provider's error that is handed on is no larger."""
CLOSE_S: Final = 2.0
"""How long the last bytes of a stream may take to leave."""
EVENT_STREAM: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


class Relay:
    """Hands answers on to agents."""

    __slots__ = ("clock", "drain_bytes_max", "drain_s", "providers")

    def __init__(self, providers: ProviderRegistry, clock: Clock, *, drain_s: float, drain_bytes_max: int) -> None:
        self.providers = providers
        self.clock = clock
        self.drain_s = drain_s
        self.drain_bytes_max = drain_bytes_max

    async def hand_over(self, call: Call, priced: PricedRequest, answer: UpstreamResponse, outcome: Outcome) -> None:
        """Read a whole answer, note what it used, and hand it on."""
        try:
            body = await (read_bounded(answer) if priced.outgoing.stream else answer.read())
        except UpstreamError as fault:
            if answer.status >= 400:
                outcome.refused_by_provider(fault.type, answer.status)
            else:
                outcome.unknown(fault.type, answer.status)
            await refuse(call, problem(fault.type))
            return
        outcome.response_commitment = priced.commitments.of_response(body)
        body = self.providers.redact(outcome.attempts, body)
        if answer.status >= 400:
            outcome.refused_by_provider("upstream_error", answer.status)
            await _hand_on_error(call, priced, answer.status, body)
            return
        metered = priced.outgoing.served.read_usage(body, priced.outgoing.workload)
        if metered is None:
            outcome.unknown("upstream_malformed", answer.status)
            await refuse(call, problem("upstream_malformed"))
            return
        outcome.answered("ok", answer.status, metered.usage, metered.reported_cost_nusd)
        await call.answer(answer.status, body, _lowered(priced))

    async def stream(
        self,
        call: Call,
        priced: PricedRequest,
        answer: UpstreamResponse,
        outcome: Outcome,
        running: RunningRequest,
        deadline: float,
    ) -> None:
        """Pass a stream on as it comes, within its reservation and deadline; settle it whatever the agent does."""
        stream = _RelayedStream(self, call, priced, answer, running, deadline)
        gone = asyncio.ensure_future(call.gone())
        gone.add_done_callback(lambda _: running.leave(self.drain_s))
        try:
            why = await stream.run()
        finally:
            gone.cancel()
            answer.abandon()
            outcome.response_commitment = stream.hash.hexdigest()
            meter = stream.meter
            outcome.answered("unfinished", answer.status, meter.usage, meter.reported_cost_nusd)
        outcome.name = why or ("agent_gone" if running.gone else "ok")
        if not running.gone and not running.writing_since:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await stream.close(why, self.providers.redact(outcome.attempts, meter.error or b""))


class _RelayedStream:
    """One stream under way."""

    def __init__(
        self,
        relay: Relay,
        call: Call,
        priced: PricedRequest,
        answer: UpstreamResponse,
        running: RunningRequest,
        deadline: float,
    ) -> None:
        self._relay = relay
        self._call = call
        self._priced = priced
        self._answer = answer
        self._running = running
        self._deadline = deadline
        self._begun = False
        self._drained_bytes = 0
        outgoing = priced.outgoing
        self.meter = outgoing.speaks.stream(outgoing.request, outgoing.workload, outgoing.worst.output_tokens)
        self.hash = priced.commitments.of_stream()

    async def run(self) -> str:
        """Read the provider's stream to its end; return why it ended early, or nothing."""
        running, deadline, monotonic = self._running, self._deadline, self._relay.clock.monotonic
        try:
            async with asyncio.timeout(deadline - monotonic()) as scope:
                running.bind(scope)
                return await self._pass_on()
        except TimeoutError:
            if running.cut_by or not running.gone:
                return running.cut_by or "stream_over_deadline"
            if not running.writing_since:
                return "agent_gone"
        # The agent stopped reading in the middle of a piece: read on without it.
        left_s = min(self._relay.drain_s, deadline - monotonic())
        with suppress(TimeoutError):
            async with asyncio.timeout(left_s) as scope:
                running.bind(scope)
                return await self._pass_on()
        return "agent_gone"

    async def _pass_on(self) -> str:
        meter, running = self.meter, self._running
        try:
            async for piece in self._answer:
                self.hash.update(piece)
                shown = meter.feed(piece)
                if running.gone:
                    self._drained_bytes += len(piece)
                    if self._drained_bytes > self._relay.drain_bytes_max:
                        return "agent_gone"
                elif shown:
                    await self._show(shown)
                if why := self._wrong():
                    return why
        except UpstreamError as fault:
            if meter.done:  # what came after the end was of no use to anybody
                return ""
            over = isinstance(fault, UpstreamTimeout) and self._relay.clock.monotonic() >= self._deadline
            return "stream_over_deadline" if over else fault.type
        rest = meter.end()
        if rest and not running.gone:
            await self._show(rest)
        return self._wrong() or ("" if meter.done or meter.finished else "upstream_cut")

    async def _show(self, data: bytes) -> None:
        if not self._begun:
            self._begun = True
            await self._call.start(200, [*EVENT_STREAM, *_lowered(self._priced)])
        self._running.writing_since = self._relay.clock.monotonic()
        await self._call.piece(data)
        self._running.writing_since = 0.0

    def _wrong(self) -> str:
        """Return what must end the stream now."""
        meter, bound = self.meter, self._priced.outgoing.worst.output_tokens
        if meter.error is not None:
            return "upstream_error"
        if meter.malformed:
            return "upstream_malformed"
        if is_over_reservation(meter.output_bytes, bound):
            return "stream_over_reservation"
        return ""

    async def close(self, why: str, error: bytes) -> None:
        """End the answer: as it should, with an error in the stream (the provider's own `error`, if there is one), or,
        if nothing was sent yet, as a problem."""
        wrong = problem(why) if why else None
        if not self._begun:
            await refuse(self._call, wrong or problem("upstream_cut"))
            return
        if wrong is not None:
            event = error if why == "upstream_error" and b"\n" not in error else b""
            await self._call.piece(self.meter.close_event() + self._priced.on.agent.error_event(event or wrong.body()))
        await self._call.end()


async def _hand_on_error(call: Call, priced: PricedRequest, status: int, body: bytes) -> None:
    """A provider's error about the request itself is the agent's to read; its internal errors are not."""
    if status < 500 and len(body) <= ERROR_BYTES_MAX and priced.outgoing.speaks.is_error(body):
        await call.answer(status, body, [(b"x-keyforge-error", b"upstream")])
    else:
        await refuse(call, problem("upstream_error", metadata={"status": status}))


def _lowered(priced: PricedRequest) -> Headers:
    """Return the header that names the output cap, where the agent asked for more than it may have."""
    lowered_to = priced.outgoing.lowered_to
    return [] if lowered_to is None else [(b"x-keyforge-max-output-tokens", b"%d" % lowered_to)]
