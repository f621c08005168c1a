"""Calls the provider: the credential whose turn it is, and where that one may not serve, another, within one deadline.

A call that may have reached the provider and got no answer is never repeated: it could be billed twice. One that it
cannot have read, since it had closed the connection, is made once more on a fresh one.
"""

import math
from collections.abc import Awaitable, Callable

import msgspec

from keyforge.contracts.errors import Problem, problem
from keyforge.contracts.events import Attempt
from keyforge.contracts.ids import CredentialId
from keyforge.edge.application.admitted_request import AdmittedRequest
from keyforge.edge.application.answer_headers import sent_as
from keyforge.edge.application.ports import ProviderRegistry
from keyforge.edge.application.provider_call import (
    BODY_BYTES_MAX,
    HeaderBlock,
    TimeLimits,
    Upstream,
    UpstreamRequest,
    UpstreamResponse,
)
from keyforge.edge.application.provider_errors import UpstreamError
from keyforge.edge.core.dialects.additions import CONCEDED_MAX
from keyforge.edge.core.dialects.blame import ROTATES
from keyforge.edge.core.dialects.failure import MAY_BILL, Failure
from keyforge.edge.core.dialects.stream_bounds import STREAM_BYTES_PER_TOKEN
from keyforge.edge.core.routing.catalogue import Route
from keyforge.edge.core.routing.credential_pool import CredentialPool, pause_after
from keyforge.edge.core.routing.origin import ProviderAddress
from keyforge.edge.core.settlement.outcome import Outcome
from keyforge.edge.metrics import Metrics
from keyforge.runtime.clock import Clock

Taken = Failure | Problem | None
"""What became of an answer: None, the agent has it. A failure: it is an error, and nothing of it was shown. A problem:
it cannot be used, and what it cost is noted."""
Take = Callable[[AdmittedRequest, UpstreamResponse], Awaitable[Taken]]


class _Tried(msgspec.Struct):
    credentials: list[CredentialId] = []
    again: CredentialId | None = None
    """Where the request is sent once more, without what its provider refused of what we had added."""
    conceded: int = 0
    """How often that was so."""
    limited: list[str] = []
    waits: bool = False
    """A quota was used up that refills."""
    last: Failure | Problem | None = None
    fresh: bool = False
    """A call was lost on a connection that its provider had closed: no other one that was used before is tried."""


class Dispatch:
    """Sends admitted requests to their providers."""

    __slots__ = ("_attempts_max", "_clock", "_limits", "_metrics", "_providers", "_upstream")

    def __init__(
        self,
        providers: ProviderRegistry,
        upstream: Upstream,
        clock: Clock,
        metrics: Metrics,
        *,
        attempts_max: int,
        limits: TimeLimits,
    ) -> None:
        self._providers = providers
        self._upstream = upstream
        self._clock = clock
        self._metrics = metrics
        self._attempts_max = attempts_max
        self._limits = limits

    async def send(self, admitted: AdmittedRequest, take: Take) -> Failure | Problem | None:
        """Call until `take` accepts an answer; return why none was, if so. Notes every physical call, and what it cost.

        An answer that is an error rests the credential that is to blame, and another one may be tried. Where it refuses
        what we had added to the request, that is sent once more without it.
        """
        outcome, outgoing = admitted.outcome, admitted.priced.outgoing
        route = outgoing.route
        address, pool = self._providers.address(route.provider), self._providers.pool(route.provider)
        tried = _Tried()
        # What the requests have in common that are likely to share a prompt.
        affinity = f"{admitted.priced.key.key_id}\0{outgoing.request.session}"
        while address is not None and (tried.again or len(tried.credentials) < self._attempts_max):
            now = self._clock.monotonic()
            credential = tried.again or pool.pick(
                now, route.model, affinity=affinity, tried=tried.credentials, limited=tried.limited
            )
            headers = self._providers.headers(credential) if credential else None
            if credential is None or headers is None:
                break
            request = self._request(admitted, address, headers, fresh=tried.fresh)
            answer = await self._call(request, credential, outcome, tried)
            if isinstance(answer, UpstreamError):
                tried.last = problem(answer.type)
                if answer.sent:
                    _note_fault(outcome, answer)
                    return tried.last
                outcome.unsent(answer.type)
                continue
            outcome.unknown("unfinished", answer.status)
            outcome.first_byte_ms = round((self._clock.monotonic() - admitted.call.began) * 1000)
            taken = await take(admitted, answer)
            if not isinstance(taken, Failure):
                if tried.conceded and taken is None:
                    self._remember(admitted)
                return taken
            note(outcome, taken)
            if (again := _conceding(admitted, taken, tried)) is not None:
                admitted, tried.again = again, credential
                continue
            self._rest(taken, pool, credential, route.model, tried)
            if taken.blame not in ROTATES or not outcome.costs_nothing or admitted.running.gone:
                return taken
        return _nothing_left(pool, tried, self._clock.monotonic(), route.model)

    def _request(
        self, admitted: AdmittedRequest, address: ProviderAddress, headers: HeaderBlock, *, fresh: bool
    ) -> UpstreamRequest:
        outgoing, limits, bytes_max = admitted.priced.outgoing, self._limits, BODY_BYTES_MAX
        if silence_s := outgoing.sending.quirks.silence_s:
            limits = limits.at_least(silence_s)
        if admitted.stream is not None:
            bytes_max += outgoing.worst.output_tokens * STREAM_BYTES_PER_TOKEN
        return UpstreamRequest(
            address.origin,
            address.prefix + outgoing.served.target,
            headers,
            outgoing.body,
            admitted.deadline,
            limits=limits,
            body_bytes_max=bytes_max,
            fresh=fresh,
        )

    async def _call(
        self, request: UpstreamRequest, credential: CredentialId, outcome: Outcome, tried: _Tried
    ) -> UpstreamResponse | UpstreamError:
        """Make one call, and once more on a fresh connection if the provider cannot have read it."""
        if tried.again is None:
            tried.credentials.append(credential)
        tried.again = None
        answer: UpstreamResponse | UpstreamError
        while True:
            began = self._clock.monotonic()
            outcome.calling = True
            sent, error = True, None
            try:
                answer = await self._upstream.send(request)
            except UpstreamError as fault:
                answer, sent, error = fault, fault.sent, fault.type
            status, took_s = answer.status or 0, self._clock.monotonic() - began
            outcome.tried(
                Attempt(credential=credential, status=status, sent=sent, duration_ms=round(took_s * 1000), error=error)
            )
            self._metrics.attempts[status] += 1
            if not isinstance(answer, UpstreamError) or not answer.unread or request.fresh:
                return answer
            outcome.unread(answer.type)
            tried.fresh = True
            request = msgspec.structs.replace(request, fresh=True)

    def _remember(self, admitted: AdmittedRequest) -> None:
        """Remember what was conceded, once the provider took the request with it: an agent that has our field quoted in
        an error about its own gets that error, and changes nothing for others."""
        route, sending = admitted.priced.outgoing.route, admitted.priced.outgoing.sending
        self._providers.additions.remember(route.provider, route.model, sending.concessions, self._clock.now())

    def _rest(
        self, failure: Failure, pool: CredentialPool, credential: CredentialId, model: str, tried: _Tried
    ) -> None:
        """Let what is to blame rest: the quota group for the model, or for all of them if the account has no money;
        a credential that is refused. What one request alone is to blame for changes nothing for others."""
        now = self._clock.monotonic()
        tried.last = failure
        if failure.blame in ("quota", "account", "size"):
            tried.limited.append(pool.group_of(credential))
        if failure.blame == "quota":
            tried.waits = True
            pool.limit(credential, now, pause_after(failure.wait_s), model)
        elif failure.blame == "account":
            pool.limit(credential, now, pause_after(failure.wait_s, quota_exhausted=True))
        elif failure.blame == "credential":
            pool.refuse(credential, now)


def unavailable_provider(providers: ProviderRegistry, route: Route, now: float) -> Problem | None:
    """Return why a provider cannot be called at all right now, before anything is reserved for it."""
    if providers.address(route.provider) is None:
        return problem("no_credential")
    pool = providers.pool(route.provider)
    return None if pool.ready(now, route.model) else _rate_limited(pool, now, route.model)


def note(outcome: Outcome, failure: Failure) -> None:
    """Note what an error cost: what it reports, all of the reservation if that is not known, else nothing."""
    if failure.usage is not None:
        outcome.answered(failure.outcome, failure.error.status, failure.usage)
    elif failure.billed:
        outcome.unknown(failure.outcome, failure.error.status)
    else:
        outcome.refused_by_provider(failure.outcome, failure.error.status)


def _conceding(admitted: AdmittedRequest, failure: Failure, tried: _Tried) -> AdmittedRequest | None:
    """Return the request as it is sent once more, where its provider refused something that we had added; None: the
    failure is another one, or the head of the stream has gone out, which names the cap."""
    stream = admitted.stream
    if failure.blame != "request" or not admitted.outcome.costs_nothing or tried.conceded >= CONCEDED_MAX:
        return None
    if admitted.running.gone or (stream is not None and stream.begun):
        return None
    outgoing = admitted.priced.outgoing.conceding(failure.error)
    if outgoing is None:
        return None
    tried.conceded += 1
    priced = msgspec.structs.replace(admitted.priced, outgoing=outgoing)
    if stream is not None:
        stream.headers = sent_as(priced)
    return msgspec.structs.replace(admitted, priced=priced)


def _note_fault(outcome: Outcome, fault: UpstreamError) -> None:
    """Note what a call cost that was sent and got no whole answer: nothing, where its head shows that nothing was
    made."""
    if fault.status is not None and fault.status >= 300 and fault.status not in MAY_BILL:
        outcome.refused_by_provider(fault.type, fault.status)
    else:
        outcome.unknown(fault.type, fault.status or 0)


def _nothing_left(pool: CredentialPool, tried: _Tried, now: float, model: str) -> Failure | Problem:
    """Return what the agent gets when every credential was tried or rests. A quota that refills comes first."""
    if tried.last is not None and not tried.waits:
        return tried.last
    words = tried.last.error.message if isinstance(tried.last, Failure) and tried.last.blame == "quota" else ""
    return _rate_limited(pool, now, model, words)


def _rate_limited(pool: CredentialPool, now: float, model: str, words: str = "") -> Problem:
    ready_in_s = pool.ready_in_s(now, model)
    if ready_in_s is None:
        return problem("no_credential")
    if pool.refused(now):
        return problem("upstream_auth")
    metadata = {"provider_message": words} if words else None
    return problem("upstream_rate_limited", retry_after_s=max(1, math.ceil(ready_in_s)), metadata=metadata)
