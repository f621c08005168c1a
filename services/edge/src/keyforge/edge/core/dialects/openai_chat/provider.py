"""OpenAI's chat completions and embeddings as providers speak them, each with quirks of its own (`quirks.py`)."""

from collections.abc import Mapping
from typing import Final

from keyforge.contracts.errors import Problem
from keyforge.contracts.events import Endpoint
from keyforge.edge.core.dialects.additions import Concessions
from keyforge.edge.core.dialects.base import Converted, ParsedRequest, Sending, ServedEndpoint, StreamReader
from keyforge.edge.core.dialects.openai_chat import NAME, convert, ignored
from keyforge.edge.core.dialects.openai_chat.answer import read_chat, read_embeddings
from keyforge.edge.core.dialects.openai_chat.concede import conceded
from keyforge.edge.core.dialects.openai_chat.errors import is_error_body
from keyforge.edge.core.dialects.openai_chat.refused import refused
from keyforge.edge.core.dialects.openai_chat.render import render
from keyforge.edge.core.dialects.openai_chat.request import ChatRequest
from keyforge.edge.core.dialects.openai_chat.stream import StreamMeter
from keyforge.edge.core.dialects.provider_error import ProviderError
from keyforge.edge.core.dialects.quirks import Quirks
from keyforge.edge.core.dialects.stream_bounds import event_bytes_max
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

    def fit(self, request: ParsedRequest, quirks: Quirks) -> tuple[str, ...] | Problem:
        """See `ProviderDialect`."""
        if not isinstance(request.content, ChatRequest):
            return request.ignored
        if quirks.refused and (why := refused(request.content, quirks.refused)) is not None:
            return why
        names: list[str] = []
        ignored.fit(request.content, quirks, names)
        return (*request.ignored, *names) if names else request.ignored

    def render(self, request: ParsedRequest, sending: Sending) -> bytes:
        """See `ProviderDialect`."""
        return render(request, sending)

    def conceded(
        self, request: ParsedRequest, workload: Workload, sending: Sending, error: ProviderError
    ) -> Concessions | None:
        """See `ProviderDialect`."""
        return conceded(request, workload, sending, error) if workload.writes else None

    def stream(self, request: ParsedRequest, workload: Workload, output_tokens: int, quirks: Quirks) -> StreamReader:
        """See `ProviderDialect`. Usage is hidden where it comes since we asked for it, as the agent did not."""
        options, unasked = request.content.stream_options, quirks.usage_unasked
        return StreamMeter(
            keep_usage=request.shows_usage or unasked == "always" or not (options and options.include_usage),
            keep_beside_choices=unasked == "beside_choices",
            completions=workload.completions,
            cache_1h=workload.cache_1h,
            event_bytes_max=event_bytes_max(output_tokens),
        )

    def as_stream(self, body: bytes, request: ParsedRequest, workload: Workload) -> Converted | ProviderError | None:
        """See `ProviderDialect`."""
        return convert.as_stream(body, workload, shows_usage=request.shows_usage)

    def as_whole(self, body: bytes, workload: Workload) -> Converted | ProviderError | None:
        """See `ProviderDialect`."""
        return convert.as_completion(body, workload)

    def is_error(self, body: bytes) -> bool:
        """See `ProviderDialect`."""
        return is_error_body(body)
