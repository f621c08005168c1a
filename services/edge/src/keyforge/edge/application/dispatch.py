"""Calls the provider: the credential whose turn it is, and after a 429 another quota group, within one deadline.

A call that may have reached the provider and got no answer is never repeated: it could be billed twice.
"""

import math
import re
from typing import Final

import msgspec

from keyforge.contracts.errors import Problem, problem
from keyforge.contracts.events import Attempt
from keyforge.contracts.ids import CredentialId
from keyforge.edge.application.ports import ProviderRegistry
from keyforge.edge.application.provider_call import (
    BODY_BYTES_MAX,
    TimeLimits,
    Upstream,
    UpstreamRequest,
    UpstreamResponse,
)
from keyforge.edge.application.provider_errors import UpstreamBodyTooLarge, UpstreamError
from keyforge.edge.core.dialects.stream_bounds import STREAM_BYTES_PER_TOKEN
from keyforge.edge.core.judge import PricedRequest
from keyforge.edge.core.routing.catalogue import Route
from keyforge.edge.core.routing.credential_pool import CredentialPool, cooldown_s
from keyforge.edge.core.settlement.outcome import Outcome
from keyforge.edge.metrics import Metrics
from keyforge.runtime.clock import Clock

QUOTA_WORDS: Final = (b"insufficient_quota", b"billing_hard_limit", b"Insufficient Balance")
"""What OpenAI and DeepSeek write in a 429 or 402 that waiting does not lift: the account has no money left."""
TOO_LARGE: Final = re.compile(rb"Request too large|can only afford [1-9]")
"""What OpenAI and OpenRouter write of a request that is more than a whole minute's tokens, or than the money left.
Smaller ones are served."""
LIMITED: Final = frozenset((402, 429))
"""Nothing billed, and another account may serve it: no money left, or too many requests."""
REFUSED: Final = frozenset((401, 403, 407))
"""Nothing billed, and another credential may be accepted."""


class _Tried(msgspec.Struct):
    credentials: list[CredentialId] = []
    limited: list[str] = []
    last: Problem | None = None


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

    async def send(self, priced: PricedRequest, outcome: Outcome, deadline: float) -> UpstreamResponse | Problem:
        """Return the answer of the first credential that gets one, or why there is none. Notes every physical call."""
        route, target = priced.outgoing.route, priced.outgoing.served.target
        address = self._providers.address(route.provider)
        pool = self._providers.pool(route.provider)
        tried = _Tried()
        while address is not None and len(tried.credentials) < self._attempts_max:
            now = self._clock.monotonic()
            credential = pool.pick(now, route.model, tried=tried.credentials, limited=tried.limited)
            headers = self._providers.headers(credential) if credential else None
            if credential is None or headers is None:
                break
            request = UpstreamRequest(
                address.origin,
                address.prefix + target,
                headers,
                priced.outgoing.body,
                deadline,
                limits=self._limits,
                body_bytes_max=_answer_bytes_max(priced),
            )
            answer = await self._attempt(request, credential, outcome)
            if isinstance(answer, UpstreamError):
                tried.last = problem(answer.type)
                if answer.sent:
                    outcome.unknown(answer.type)
                    return tried.last
                outcome.unsent(answer.type)
            elif answer.status in LIMITED or answer.status in REFUSED:
                tried.last = await self._turned_down(answer, pool, credential, route.model, tried)
                outcome.refused_by_provider(tried.last.kind.type, answer.status)
            else:
                outcome.unknown("unfinished", answer.status)
                return answer
            tried.credentials.append(credential)
        return _nothing_left(pool, tried, self._clock.monotonic(), route.model)

    async def _attempt(
        self, request: UpstreamRequest, credential: CredentialId, outcome: Outcome
    ) -> UpstreamResponse | UpstreamError:
        began = self._clock.monotonic()
        outcome.calling = True
        answer: UpstreamResponse | UpstreamError
        try:
            answer = await self._upstream.send(request)
        except UpstreamError as fault:
            answer = fault
        attempt = Attempt(
            credential=credential,
            status=0 if isinstance(answer, UpstreamError) else answer.status,
            sent=answer.sent if isinstance(answer, UpstreamError) else True,
            duration_ms=round((self._clock.monotonic() - began) * 1000),
            error=answer.type if isinstance(answer, UpstreamError) else None,
        )
        outcome.tried(attempt)
        self._metrics.attempts[attempt.status] += 1
        return answer

    async def _turned_down(
        self, answer: UpstreamResponse, pool: CredentialPool, credential: CredentialId, model: str, tried: _Tried
    ) -> Problem:
        """Let the credential, or its quota group, cool down: for the model, or for all of them if the account has no
        money. What one request alone is to blame for changes nothing for others."""
        try:
            text = await read_bounded(answer)
        except UpstreamError:
            text = b""
        now = self._clock.monotonic()
        if answer.status in LIMITED:
            tried.limited.append(pool.group_of(credential))
            if TOO_LARGE.search(text):
                return problem("upstream_rate_limited")
            exhausted = answer.status == 402 or any(word in text for word in QUOTA_WORDS)
            retry_after_ms, retry_after = [
                (answer.header(name) or b"").decode("latin-1") for name in (b"retry-after-ms", b"retry-after")
            ]
            pause_s = cooldown_s(retry_after_ms, retry_after, quota_exhausted=exhausted, now=self._clock.now())
            pool.limit(credential, now, pause_s, "" if exhausted else model)
            return problem("upstream_rate_limited")
        if answer.status == 401:
            pool.refuse(credential, now)  # a 403 may be about this model only, and other requests may get through
        return problem("upstream_auth")


def unavailable_provider(providers: ProviderRegistry, route: Route, now: float) -> Problem | None:
    """Return why a provider cannot be called at all right now, before anything is reserved for it."""
    pool = providers.pool(route.provider)
    if providers.address(route.provider) is None:
        return problem("no_credential")
    return None if pool.ready(now, route.model) else _nothing_left(pool, _Tried(), now, route.model)


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


def _answer_bytes_max(priced: PricedRequest) -> int:
    outgoing = priced.outgoing
    return BODY_BYTES_MAX + (outgoing.worst.output_tokens * STREAM_BYTES_PER_TOKEN if outgoing.stream else 0)


def _nothing_left(pool: CredentialPool, tried: _Tried, now: float, model: str) -> Problem:
    """Return what the agent gets when every credential was tried or cools down."""
    if tried.last is not None and not tried.limited:
        return tried.last
    ready_in_s = pool.ready_in_s(now, model)
    if ready_in_s is None:
        return problem("no_credential")
    return problem("upstream_rate_limited", retry_after_s=max(1, math.ceil(ready_in_s)))
