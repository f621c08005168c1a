"""Writes the body that a provider gets: the parse, its model by its own name, output capped, usage asked for.

What was priced is what is sent. A request may be written again with other concessions: what was added is known by its
place, so only that is taken back.
"""

from typing import Final

from msgspec import UNSET

from keyforge.edge.core.dialects.additions import NOTHING
from keyforge.edge.core.dialects.base import ParsedRequest, Sending
from keyforge.edge.core.dialects.openai_chat.request import ChatRequest, EmbeddingsRequest, StreamOptions
from keyforge.edge.core.dialects.quirks import CapField
from keyforge.edge.core.dialects.strict_json import ENCODER

_ASKS_USAGE: Final = StreamOptions(include_usage=True)
"""Shared by all requests that name no options, and never changed."""


def render(parsed: ParsedRequest, sending: Sending) -> bytes:
    """Return the body to send; changes the content of `parsed`."""
    request: ChatRequest | EmbeddingsRequest = parsed.content
    request.model = sending.model
    if not isinstance(request, ChatRequest):
        return ENCODER.encode(request)
    quirks, usual = sending.quirks, sending.concessions is NOTHING
    kept = usual and not quirks.takes_both and not request.prediction
    if (quirks.cap_field if kept else _cap_field(request, sending)) == "max_tokens":
        request.max_tokens = sending.cap
        request.max_completion_tokens = UNSET
    else:
        request.max_completion_tokens = sending.cap
        request.max_tokens = UNSET
    if not quirks.knows_session:
        request.session_id = UNSET
    if quirks.service_tier is not None:
        request.service_tier = quirks.service_tier
    if request.stream:
        if usual and quirks.asks_usage and not request.stream_options:
            request.stream_options = _ASKS_USAGE
        else:
            _ask_for_usage(request, sending, shown=parsed.shows_usage)
    return ENCODER.encode(request)


def cap_field(request: ChatRequest) -> CapField:
    """Return under which name a request that was written has its cap."""
    return "max_tokens" if request.max_tokens else "max_completion_tokens"


def _cap_field(request: ChatRequest, sending: Sending) -> CapField:
    """Return what to call the cap: the agent's own name for it, where the provider obeys that.

    Beside a prediction always `max_tokens`: the models that take one obey it, and refuse the other name (OpenAI's and
    Azure's guides, "Predicted outputs").
    """
    if request.prediction:
        return "max_tokens"
    if sending.concessions.cap_field is not None:
        return sending.concessions.cap_field
    name = sending.quirks.cap_field
    if sending.quirks.takes_both and not getattr(request, name):
        other: CapField = "max_completion_tokens" if name == "max_tokens" else "max_tokens"
        return other if getattr(request, other) else name
    return name


def _ask_for_usage(request: ChatRequest, sending: Sending, *, shown: bool) -> None:
    options = request.stream_options
    if not sending.quirks.asks_usage:
        request.stream_options = UNSET
    elif sending.concessions.asks_usage:
        request.stream_options = _with_usage(options) if options else _ASKS_USAGE
    elif options and not shown:
        rest = options.include_obfuscation
        request.stream_options = UNSET if rest is UNSET else StreamOptions(include_obfuscation=rest)


def _with_usage(options: StreamOptions) -> StreamOptions:
    return StreamOptions(include_usage=True, include_obfuscation=options.include_obfuscation)
