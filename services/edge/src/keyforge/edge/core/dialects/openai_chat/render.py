"""Writes the body that a provider gets: the parse, its model by its own name, output capped, usage asked for.

What was priced is what is sent. A request may be written again with other concessions: what was added is known by its
place, so only that is taken back.
"""

from msgspec import UNSET

from keyforge.edge.core.dialects.base import ParsedRequest, Sending
from keyforge.edge.core.dialects.openai_chat.request import ChatRequest, EmbeddingsRequest, StreamOptions
from keyforge.edge.core.dialects.quirks import CapField
from keyforge.edge.core.dialects.strict_json import ENCODER


def render(parsed: ParsedRequest, sending: Sending) -> bytes:
    """Return the body to send; changes the content of `parsed`."""
    request: ChatRequest | EmbeddingsRequest = parsed.content
    request.model = sending.model
    if isinstance(request, ChatRequest):
        _inject(request, sending)
        if request.stream:
            _ask_for_usage(request, sending, shown=parsed.shows_usage)
    return ENCODER.encode(request)


def cap_field(request: ChatRequest) -> CapField:
    """Return under which name a request that was written tells its cap."""
    return "max_tokens" if request.max_tokens else "max_completion_tokens"


def _inject(request: ChatRequest, sending: Sending) -> None:
    quirks = sending.quirks
    if _cap_field(request, sending) == "max_tokens":
        request.max_tokens, request.max_completion_tokens = sending.cap, UNSET
    else:
        request.max_tokens, request.max_completion_tokens = UNSET, sending.cap
    if not quirks.knows_session:
        request.session_id = UNSET
    if quirks.service_tier is not None:
        request.service_tier = quirks.service_tier


def _cap_field(request: ChatRequest, sending: Sending) -> CapField:
    """Return what to call the cap: the agent's own name for it, where the provider obeys that.

    Beside a prediction always `max_tokens`: the models that take one obey it, and refuse the other name (OpenAI's and
    Azure's guides, "Predicted outputs").
    """
    if request.prediction:
        return "max_tokens"
    if sending.concessions.cap_field is not None:
        return sending.concessions.cap_field
    known = sending.quirks.cap_fields
    if len(known) > 1:
        for name in known:
            if getattr(request, name):
                return name
    return known[0]


def _ask_for_usage(request: ChatRequest, sending: Sending, *, shown: bool) -> None:
    options = request.stream_options
    if not sending.quirks.asks_usage:
        request.stream_options = UNSET
    elif sending.concessions.asks_usage:
        if options:
            options.include_usage = True
        else:
            request.stream_options = StreamOptions(include_usage=True)
    elif options and not shown:
        options.include_usage = UNSET
        if options.include_obfuscation is UNSET:
            request.stream_options = UNSET
