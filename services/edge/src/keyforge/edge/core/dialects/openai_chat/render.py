"""Writes the body that a provider gets: the parse, its model by its own name, output capped, usage asked for.

What was priced is what is sent."""

import msgspec
from msgspec import UNSET

from keyforge.contracts.directory import KeyEntry
from keyforge.contracts.errors import Problem
from keyforge.edge.core.dialects.openai_chat.request import ChatRequest, RequestBody, StreamOptions
from keyforge.edge.core.dialects.strict_json import ENCODER
from keyforge.edge.core.pricing import worst_case
from keyforge.edge.core.pricing.worst_case import WorstCase
from keyforge.edge.core.routing.catalogue import Route

CAPPED_BY_COMPLETION_TOKENS = frozenset(("openai", "groq", "cerebras"))
"""Kinds of provider whose cap is `max_completion_tokens`; the others obey `max_tokens`."""
STANDARD_TIER = frozenset(("openai",))
"""Kinds where `auto`, or no tier, means what the account is set to: perhaps a more expensive tier than was priced."""
UNASKED_USAGE = frozenset(("mistral",))
"""Kinds that send a stream's usage without being asked, and refuse a request that asks for it."""


class OutgoingRequest(msgspec.Struct, frozen=True):
    """What is sent to a provider, what it can cost, and what of the answer is the agent's."""

    route: Route
    body: bytes
    worst: WorstCase
    stream: bool = False
    shows_usage: bool = False
    """Whether the agent asked for the usage chunk of a stream."""
    completions: int = 1
    lowered_to: int | None = None
    """The cap on output tokens, where the agent asked for more."""


def render(request: RequestBody, route: Route, key: KeyEntry) -> OutgoingRequest | Problem:
    """Prepare `request` for `route`; changes it. A problem if its cost cannot be bounded."""
    request.model = route.model
    if not isinstance(request, ChatRequest):
        body = ENCODER.encode(request)
        worst = worst_case.worst_case(request, len(body), 0, route.kind, route.price.prices)
        return worst if isinstance(worst, Problem) else OutgoingRequest(route, body, worst)
    cap = worst_case.output_cap(request, key.max_output_tokens, route.price)
    asked = request.max_completion_tokens or request.max_tokens or cap
    shows_usage = bool(request.stream_options and request.stream_options.include_usage)
    _inject(request, cap, route.kind)
    body = ENCODER.encode(request)
    worst = worst_case.worst_case(request, len(body), cap, route.kind, route.price.prices)
    if isinstance(worst, Problem):
        return worst
    lowered_to = cap if cap < asked else None
    return OutgoingRequest(route, body, worst, bool(request.stream), shows_usage, request.n or 1, lowered_to)


def _inject(request: ChatRequest, cap: int, kind: str) -> None:
    if kind in CAPPED_BY_COMPLETION_TOKENS:
        request.max_completion_tokens, request.max_tokens = cap, UNSET
    else:
        request.max_tokens, request.max_completion_tokens = cap, UNSET
    if kind in STANDARD_TIER:
        request.service_tier = "default"
    if request.stream:
        if kind in UNASKED_USAGE:
            request.stream_options = UNSET
        elif request.stream_options:
            request.stream_options.include_usage = True
        else:
            request.stream_options = StreamOptions(include_usage=True)
