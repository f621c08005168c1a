"""Brings a provider's answer to the agent: whole, or as a stream whose usage is read as it passes.

An error is returned and not shown, as long as nothing of the answer was: another credential may serve the request.
"""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from typing import Final

from keyforge.contracts.errors import Problem, problem
from keyforge.contracts.usage import Usage
from keyforge.edge.application.admitted_request import AdmittedRequest
from keyforge.edge.application.agent_stream import AgentStream
from keyforge.edge.application.answer_headers import ignored, sent_as
from keyforge.edge.application.call import refuse
from keyforge.edge.application.ports import ProviderRegistry
from keyforge.edge.application.provider_call import AFTER_END_S, BODY_BYTES_MAX, UpstreamResponse
from keyforge.edge.application.provider_errors import UpstreamBodyTooLarge, UpstreamError, UpstreamTimeout
from keyforge.edge.core.dialects.failure import Failure, failure_of
from keyforge.edge.core.dialects.provider_error import ProviderError, error_of
from keyforge.edge.core.dialects.stream_bounds import text_bytes_max
from keyforge.runtime.clock import Clock

CLOSE_S: Final = 2.0
"""How long the last bytes of a stream may take to leave."""
HELD_BYTES_MAX: Final = 64 * 1024
"""Of a stream that has shown no content yet. Chosen: more than 2,000 comments of a provider that is busy; what comes
after them is passed on as it comes."""


class Relay:
    """Hands answers on to agents."""

    __slots__ = ("clock", "drain_bytes_max", "drain_s", "providers")

    def __init__(self, providers: ProviderRegistry, clock: Clock, *, drain_s: float, drain_bytes_max: int) -> None:
        self.providers = providers
        self.clock = clock
        self.drain_s = drain_s
        self.drain_bytes_max = drain_bytes_max

    def take(self, admitted: AdmittedRequest, answer: UpstreamResponse) -> Awaitable[Failure | Problem | None]:
        """Read an answer, note what it used, and hand it on. See `dispatch.Taken`."""
        if admitted.stream is not None and answer.status < 400:
            return self._stream(admitted, admitted.stream, answer)
        return self._whole(admitted, answer)

    async def tell(self, admitted: AdmittedRequest, failed: Failure | Problem) -> None:
        """Tell the agent why it gets no answer: as an answer, or in its stream, if that has begun."""
        stream, outcome = admitted.stream, admitted.outcome
        wrong = failed.as_problem() if isinstance(failed, Failure) else failed
        outcome.may_be_repeated = outcome.costs_nothing and (
            wrong.kind.retry if wrong else isinstance(failed, Failure) and failed.may_be_repeated
        )
        if isinstance(failed, Failure) and wrong is None:
            body = self.providers.redact(outcome.attempts, failed.body())
            if stream is None or not stream.begun:
                headers = [*failed.headers(), *ignored(admitted.priced)]
                await admitted.call.answer(failed.error.status, body, headers)
                return
        else:
            assert wrong is not None
            body = wrong.body()
            if stream is None or not stream.begun:
                await refuse(admitted.call, wrong)
                return
        await stream.end(admitted.priced.on.agent.error_event(body))

    async def _whole(self, admitted: AdmittedRequest, answer: UpstreamResponse) -> Failure | Problem | None:
        priced, outcome, status = admitted.priced, admitted.outcome, answer.status
        try:
            body = await (answer.read() if admitted.stream is None else read_bounded(answer))
        except UpstreamError as fault:
            if status >= 400:
                return self._failure(admitted, answer, ProviderError(status, ""), b"")
            outcome.unknown(fault.type, status)
            return problem(fault.type)
        outcome.response_commitment = priced.commitments.of_response(body)
        outgoing = priced.outgoing
        metered = outgoing.served.read_usage(body, outgoing.workload) if status < 400 else None
        if metered is None or metered.suspicious or not metered.written:
            if (error := error_of(body, status)) is not None:
                usage, written = (metered.usage, metered.billed) if metered else (None, False)
                return self._failure(admitted, answer, error, body, written=written, usage=usage)
            if metered is None:  # a stream, perhaps, though none was asked for
                return await self._converted(admitted, answer, body)
            if not metered.written:
                outcome.answered("upstream_malformed", status, metered.usage, metered.reported_cost_nusd)
                return problem("upstream_malformed")
        outcome.answered("ok", status, metered.usage, metered.reported_cost_nusd)
        await admitted.call.answer(status, self.providers.redact(outcome.attempts, body), sent_as(priced))
        return None

    async def _converted(
        self, admitted: AdmittedRequest, answer: UpstreamResponse, body: bytes, otherwise: ProviderError | None = None
    ) -> Failure | Problem | None:
        """Hand on an answer in the form that was asked for, where the provider sent the other one. `otherwise`: what it
        is if it is in neither."""
        outgoing, outcome, stream = admitted.priced.outgoing, admitted.outcome, admitted.stream
        if stream is None:
            found = outgoing.speaks.as_whole(body, outgoing.workload)
        else:
            found = outgoing.speaks.as_stream(body, outgoing.request, outgoing.workload)
        found = found or otherwise
        if isinstance(found, ProviderError):
            metered = outgoing.served.read_usage(body, outgoing.workload)
            usage, written = (metered.usage, metered.billed) if metered else (None, True)
            shown = body if stream else b""  # else it is a stream, which agents do not read as an error
            return self._failure(admitted, answer, found, shown, written=written, usage=usage)
        if found is None or not found.finished:
            wrong = "upstream_malformed" if found is None else "upstream_cut"
            outcome.unknown(wrong, answer.status)
            return problem(wrong)
        outcome.answered("ok", answer.status, found.metered.usage, found.metered.reported_cost_nusd)
        shown = self.providers.redact(outcome.attempts, found.body)
        if stream is None:
            await admitted.call.answer(answer.status, shown, sent_as(admitted.priced))
        else:
            await stream.show(shown, self.clock.monotonic())
            await stream.end()
        return None

    async def _stream(
        self, admitted: AdmittedRequest, stream: AgentStream, answer: UpstreamResponse
    ) -> Failure | Problem | None:
        """Pass a stream on as it comes, within its reservation and deadline; settle it whatever the agent does."""
        outcome, running = admitted.outcome, admitted.running
        relayed = _RelayedStream(self, admitted, stream, answer)
        try:
            why = await relayed.run()
        finally:
            answer.abandon()
            outcome.response_commitment = relayed.hash.hexdigest()
            meter = relayed.meter
            outcome.answered("unfinished", answer.status, meter.usage, meter.reported_cost_nusd)
        outcome.name = why or ("agent_gone" if running.gone else "ok")
        if relayed.holds and meter.error is not None and why == "upstream_error":
            error = meter.failure or ProviderError(502, "")
            return self._failure(admitted, answer, error, meter.error, written=meter.begun, usage=meter.usage)
        if relayed.holds and why == "upstream_malformed" and (meter.stray or meter.failure):
            return await self._converted(admitted, answer, bytes(meter.stray), meter.failure)
        if relayed.holds and why and not stream.begun:
            return problem(why)
        if not running.gone and not running.writing_since:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await relayed.close(why)
        return None

    def _failure(
        self,
        admitted: AdmittedRequest,
        answer: UpstreamResponse,
        error: ProviderError,
        body: bytes,
        *,
        written: bool = False,
        usage: Usage | None = None,
    ) -> Failure:
        outgoing = admitted.priced.outgoing
        return failure_of(
            error,
            body,
            answer.headers,
            kind=outgoing.route.kind,
            quirks=outgoing.sending.quirks,
            now=self.clock.now(),
            written=written,
            usage=usage,
            sent=outgoing.body,
        )


class _RelayedStream:
    """One stream under way. `holds`: nothing of it was shown yet, as it has had no content."""

    def __init__(self, relay: Relay, admitted: AdmittedRequest, stream: AgentStream, answer: UpstreamResponse) -> None:
        self._relay = relay
        self._exchange = admitted
        self._stream = stream
        self._answer = answer
        self._drained_bytes = 0
        self._held: list[bytes] = []
        self._held_bytes = 0
        self.holds = True
        outgoing = admitted.priced.outgoing
        self.meter = outgoing.speaks.stream(
            outgoing.request, outgoing.workload, outgoing.worst.output_tokens, outgoing.sending.quirks
        )
        self._text_bytes_max = text_bytes_max(outgoing.worst.output_tokens)
        self.hash = admitted.priced.commitments.of_stream()
        stream.under_way = self.meter.close_event

    async def run(self) -> str:
        """Read the provider's stream to its end; return why it ended early, or nothing."""
        running, deadline, monotonic = self._exchange.running, self._exchange.deadline, self._relay.clock.monotonic
        try:
            async with asyncio.timeout(deadline - monotonic()) as scope:
                running.bind(scope)
                return await self._pass_on()
        except TimeoutError:
            if running.cut_by or not running.gone:
                return running.cut_by or ("" if self.meter.done else "stream_over_deadline")
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
        meter, running = self.meter, self._exchange.running
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
                    return await self._read_on() if meter.error and meter.usage is None else why
                if meter.done:
                    running.end_within(AFTER_END_S)
        except UpstreamError as fault:
            if meter.done:  # what came after the end was of no use to anybody
                return ""
            over = isinstance(fault, UpstreamTimeout) and self._relay.clock.monotonic() >= self._exchange.deadline
            return "stream_over_deadline" if over else fault.type
        rest = meter.end()
        if rest and not running.gone:
            await self._show(rest)
        return self._wrong() or ("" if meter.done or meter.finished else "upstream_cut")

    async def _read_on(self) -> str:
        """Read what comes after an error, of which only a usage counts."""
        with suppress(TimeoutError, UpstreamError):
            async with asyncio.timeout(AFTER_END_S):
                async for piece in self._answer:
                    self.hash.update(piece)
                    self.meter.feed(piece)
        return "upstream_error"

    async def _show(self, data: bytes) -> None:
        """Show what may be passed on, or hold it back until there is content: an error before it is an answer."""
        if self.holds:
            self._held.append(data)
            self._held_bytes += len(data)
            if not self.meter.begun and self._held_bytes <= HELD_BYTES_MAX:
                return
            self.holds, data = False, b"".join(self._held)
        running, now = self._exchange.running, self._relay.clock.monotonic()
        running.writing_since = now
        await self._stream.show(data, now)
        running.writing_since = 0.0

    def _wrong(self) -> str:
        """Return what must end the stream now."""
        meter = self.meter
        if meter.error is not None:
            return "upstream_error"
        if meter.malformed:
            return "upstream_malformed"
        if meter.output_bytes > self._text_bytes_max:
            return "stream_over_reservation"
        return ""

    async def close(self, why: str) -> None:
        """End the answer: as it should, or with an error in it (the provider's own, if there is one)."""
        if not why:
            await self._stream.end(self.meter.close_event())
            return
        relay, admitted, error = self._relay, self._exchange, self.meter.error or b""
        event = relay.providers.redact(admitted.outcome.attempts, error) if why == "upstream_error" else b""
        if not event or b"\n" in event:
            event = problem(why).body()
        await self._stream.end(self.meter.close_event() + admitted.priced.on.agent.error_event(event))


async def read_bounded(answer: UpstreamResponse) -> bytes:
    """Read an answer that is held in memory, so bounded even where a stream was asked for. Raises UpstreamError."""
    pieces: list[bytes] = []
    size = 0
    async for piece in answer:
        pieces.append(piece)
        size += len(piece)
        if size > BODY_BYTES_MAX:
            answer.abandon()
            raise UpstreamBodyTooLarge("more than is held in memory", sent=True, status=answer.status)
    return b"".join(pieces)
