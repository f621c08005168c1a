"""OpenAI's chat completions and embeddings as providers speak them, each with quirks of its own (`quirks.py`)."""

from collections.abc import Mapping
from typing import Final

from keyforge.contracts.events import Endpoint
from keyforge.edge.core.dialects.base import ParsedRequest, Sending, ServedEndpoint, StreamReader
from keyforge.edge.core.dialects.openai_chat import NAME
from keyforge.edge.core.dialects.openai_chat.answer import read_chat, read_embeddings
from keyforge.edge.core.dialects.openai_chat.errors import is_error_body
from keyforge.edge.core.dialects.openai_chat.render import render
from keyforge.edge.core.dialects.openai_chat.stream import StreamMeter
from keyforge.edge.core.pricing.workload import Workload

_ENDPOINTS: Final[Mapping[Endpoint, ServedEndpoint]] = {
    "chat.completions": ServedEndpoint("/chat/completions", read_chat),
    "embeddings": ServedEndpoint("/embeddings", read_embeddings),
}


class OpenAIProvider:
    """See `ProviderDialect`."""

    name = NAME

    def served(self, endpoint: Endpoint) -> ServedEndpoint | None:
        """See `ProviderDialect`."""
        return _ENDPOINTS.get(endpoint)

    def render(self, request: ParsedRequest, sending: Sending) -> bytes:
        """See `ProviderDialect`."""
        return render(request.content, sending)

    def stream(self, request: ParsedRequest, workload: Workload) -> StreamReader:
        """See `ProviderDialect`."""
        return StreamMeter(keep_usage=request.shows_usage, completions=workload.completions, cache_1h=workload.cache_1h)

    def is_error(self, body: bytes) -> bool:
        """See `ProviderDialect`."""
        return is_error_body(body)
