"""Writes the body that a provider gets: the parse, its model by its own name, output capped, usage asked for.

What was priced is what is sent."""

from msgspec import UNSET

from keyforge.edge.core.dialects.base import Sending
from keyforge.edge.core.dialects.openai_chat.request import ChatRequest, EmbeddingsRequest, StreamOptions
from keyforge.edge.core.dialects.strict_json import ENCODER


def render(request: ChatRequest | EmbeddingsRequest, sending: Sending) -> bytes:
    """Return the body to send; changes `request`."""
    request.model = sending.model
    if isinstance(request, ChatRequest):
        _inject(request, sending)
    return ENCODER.encode(request)


def _inject(request: ChatRequest, sending: Sending) -> None:
    quirks = sending.quirks
    request.max_tokens = request.max_completion_tokens = UNSET
    if quirks.cap_field == "max_tokens":
        request.max_tokens = sending.cap
    else:
        request.max_completion_tokens = sending.cap
    if not quirks.knows_session:
        request.session_id = UNSET
    if quirks.service_tier is not None:
        request.service_tier = quirks.service_tier
    if request.stream:
        if quirks.usage_unasked:
            request.stream_options = UNSET
        elif request.stream_options:
            request.stream_options.include_usage = True
        else:
            request.stream_options = StreamOptions(include_usage=True)
