"""OpenAI's chat completions and embeddings as agents speak them."""

from collections.abc import Mapping
from typing import Final

from keyforge.contracts.errors import Problem
from keyforge.contracts.events import Endpoint
from keyforge.edge.core.dialects import strict_json
from keyforge.edge.core.dialects.base import AskedEndpoint, ParsedRequest
from keyforge.edge.core.dialects.openai_chat import NAME, workload
from keyforge.edge.core.dialects.openai_chat.errors import error_event
from keyforge.edge.core.dialects.openai_chat.ignored import take_out_no_ops
from keyforge.edge.core.dialects.openai_chat.request import CHAT, EMBEDDINGS


def parse_chat(body: bytes) -> ParsedRequest | Problem:
    """Read a chat completion's body."""
    ignored: list[str] = []
    read = strict_json.read(body, CHAT, ignored)
    if isinstance(read, Problem):
        return read
    take_out_no_ops(read, ignored)
    options = read.stream_options
    return ParsedRequest(
        NAME,
        read.model,
        read,
        bool(read.stream),
        bool(options and options.include_usage),
        read.prompt_cache_key or read.session_id or "",
        tuple(ignored),
    )


def parse_embeddings(body: bytes) -> ParsedRequest | Problem:
    """Read the body of a request for embeddings."""
    ignored: list[str] = []
    read = strict_json.read(body, EMBEDDINGS, ignored)
    return read if isinstance(read, Problem) else ParsedRequest(NAME, read.model, read, ignored=tuple(ignored))


_ENDPOINTS: Final[Mapping[Endpoint, AskedEndpoint]] = {
    "chat.completions": AskedEndpoint(parse_chat, workload.of_chat),
    "embeddings": AskedEndpoint(parse_embeddings, workload.of_embeddings),
}


class OpenAIAgent:
    """See `AgentDialect`."""

    name = NAME

    def asked(self, endpoint: Endpoint) -> AskedEndpoint | None:
        """See `AgentDialect`."""
        return _ENDPOINTS.get(endpoint)

    def error_event(self, body: bytes) -> bytes:
        """See `AgentDialect`."""
        return error_event(body)
