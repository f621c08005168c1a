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
from keyforge.edge.application.context import Edge
from keyforge.edge.core.judge import Asked
from keyforge.edge.core.routing.catalogue import Route
from keyforge.edge.core.routing.credential_pool import Pool, cooldown_s
from keyforge.edge.core.settlement.outcome import Outcome
from keyforge.edge.outbound.provider_http.errors import UpstreamBodyTooLarge, UpstreamError
from keyforge.edge.outbound.provider_http.seam import BODY_BYTES_MAX, UpstreamRequest, UpstreamResponse
from keyforge.runtime.clock import Clock

ROUTES: Final[dict[str, str]] = {"chat.completions": "/chat/completions", "embeddings": "/embeddings"}
QUOTA_WORDS: Final = (b"insufficient_quota", b"billing_hard_limit", b"Insufficient Balance")
TOO_LARGE: Final = re.compile(rb"Request too large|can only afford [1-9]")
"""What OpenAI and OpenRouter say of a request that is more than a whole minute's tokens, or than the money left.
Smaller ones are served."""
STREAM_BYTES_PER_TOKEN: Final = 8 * 1024
"""A stream is not held, so it may be as long as its reservation: an event for each token, with the most logprobs."""
LIMITED: Final = frozenset((402, 429))
"""Nothing billed, and another account may serve it: no money left, or too many requests."""
REFUSED: Final = frozenset((401, 403, 407))
"""Nothing billed, and another credential may be accepted."""


class _Tried(msgspec.Struct):
    credentials: list[CredentialId] = []
    limited: list[str] = []
    last: Problem | None = None


def unready(edge: Edge, route: Route) -> Problem | None:
    """Return why the provider cannot be called at all right now, before anything is reserved for it."""
    now = edge.clock.monotonic()
    pool = edge.providers.pool(route.provider)
    if edge.providers.address(route.provider) is None:
        return problem("no_credential")
    return None if pool.ready(now, route.model) else _nothing_left(pool, _Tried(), now, route.model)


async def dispatch(edge: Edge, asked: Asked, outcome: Outcome, deadline: float) -> UpstreamResponse | Problem:
    """Return the answer of the first credential that gets one, or why there is none. Notes every physical call."""
    route = asked.plan.route
    address = edge.providers.address(route.provider)
    pool = edge.providers.pool(route.provider)
    tried = _Tried()
    while address is not None and len(tried.credentials) < edge.bounds.attempts_max:
        credential = pool.pick(edge.clock.monotonic(), route.model, tried=tried.credentials, limited=tried.limited)
        headers = edge.providers.headers(credential) if credential else None
        if credential is None or headers is None:
            break
        target = address.prefix + ROUTES[asked.reserve.endpoint]
        request = UpstreamRequest(
            address.origin,
            target,
            headers,
            asked.plan.body,
            deadline,
            limits=edge.bounds.upstream,
            body_bytes_max=_answer_bytes_max(asked),
        )
        answer = await _attempt(edge, request, credential, outcome)
        if isinstance(answer, UpstreamError):
            tried.last = problem(answer.type)
            if answer.sent:
                outcome.unknown(answer.type)
                return tried.last
            outcome.unsent(answer.type)
        elif answer.status in LIMITED or answer.status in REFUSED:
            tried.last = await _turned_down(answer, pool, credential, route.model, tried, edge.clock)
            outcome.refused_by_provider(tried.last.kind.type, answer.status)
        else:
            outcome.unknown("unfinished", answer.status)
            return answer
        tried.credentials.append(credential)
    return _nothing_left(pool, tried, edge.clock.monotonic(), route.model)


def _answer_bytes_max(asked: Asked) -> int:
    plan = asked.plan
    return BODY_BYTES_MAX + (plan.worst.output_tokens * STREAM_BYTES_PER_TOKEN if plan.stream else 0)


async def whole(answer: UpstreamResponse) -> bytes:
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


async def _attempt(
    edge: Edge, request: UpstreamRequest, credential: CredentialId, outcome: Outcome
) -> UpstreamResponse | UpstreamError:
    began = edge.clock.monotonic()
    outcome.calling = True
    answer: UpstreamResponse | UpstreamError
    try:
        answer = await edge.upstream.send(request)
    except UpstreamError as fault:
        answer = fault
    attempt = Attempt(
        credential=credential,
        status=0 if isinstance(answer, UpstreamError) else answer.status,
        sent=answer.sent if isinstance(answer, UpstreamError) else True,
        duration_ms=round((edge.clock.monotonic() - began) * 1000),
        error=answer.type if isinstance(answer, UpstreamError) else None,
    )
    outcome.tried(attempt)
    edge.metrics.attempts[attempt.status] += 1
    return answer


async def _turned_down(
    answer: UpstreamResponse, pool: Pool, credential: CredentialId, model: str, tried: _Tried, clock: Clock
) -> Problem:
    """Let the credential, or its quota group, rest: for the model, or for all of them if the account has no money. What
    one request alone is to blame for changes nothing for others."""
    try:
        text = await whole(answer)
    except UpstreamError:
        text = b""
    now = clock.monotonic()
    if answer.status in LIMITED:
        tried.limited.append(pool.group_of(credential))
        if TOO_LARGE.search(text):
            return problem("upstream_rate_limited")
        exhausted = answer.status == 402 or any(word in text for word in QUOTA_WORDS)
        told = [(answer.header(name) or b"").decode("latin-1") for name in (b"retry-after-ms", b"retry-after")]
        rest_s = cooldown_s(told[0], told[1], quota_exhausted=exhausted, now=clock.now())
        pool.limit(credential, now, rest_s, "" if exhausted else model)
        return problem("upstream_rate_limited")
    if answer.status == 401:
        pool.refuse(credential, now)  # a 403 may be about this model only, and says nothing to other requests
    return problem("upstream_auth")


def _nothing_left(pool: Pool, tried: _Tried, now: float, model: str) -> Problem:
    """Return what the agent is told when every credential was tried or rests."""
    if tried.last is not None and not tried.limited:
        return tried.last
    rest_s = pool.rest_s(now, model)
    if rest_s is None:
        return problem("no_credential")
    return problem("upstream_rate_limited", retry_after_s=max(1, math.ceil(rest_s)))
