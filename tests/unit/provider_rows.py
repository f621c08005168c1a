"""A row of what a provider documents or sends as an error, and what is to be made of it; the shapes that many share."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from keyforge.edge.core.dialects.blame import Blame
from keyforge.edge.core.dialects.failure import Failure, failure_of
from keyforge.edge.core.dialects.provider_error import as_json, error_of
from keyforge.edge.core.dialects.quirks import quirks_of

NOW = datetime(2030, 1, 1, tzinfo=UTC)
CTX = "This model's maximum context length is 8192 tokens."


class Row(NamedTuple):
    """`words`: a part of what the agent reads. `wait_s` None: it is not told how long to wait."""

    kind: str
    head: int
    body: Any
    status: int
    blame: Blame
    words: str
    wait_s: float | None = None
    headers: Mapping[str, str] = MappingProxyType({})

    @property
    def readable(self) -> bool:
        """Whether the agent reads the provider's own JSON: it has what clients of OpenAI look for."""
        document = as_json(self.sent)
        return isinstance(document, dict) and isinstance(document.get("error"), dict)

    @property
    def sent(self) -> bytes:
        """The body as it comes."""
        return self.body.encode() if isinstance(self.body, str) else json.dumps(self.body).encode()


def failure(row: Row, kind: str = "", **more: Any) -> Failure:
    """What the row's answer comes to, at a provider of this kind; empty: of the row's."""
    error = error_of(row.sent, row.head)
    assert error is not None, row
    headers = [(name.encode(), value.encode()) for name, value in row.headers.items()]
    kind = kind or row.kind
    return failure_of(error, row.sent, headers, kind=kind, quirks=quirks_of(kind), now=NOW, **more)


def name_of(row: Row) -> str:
    return f"{row.kind}-{row.head}-{row.blame}-{row.words[:20]}"


def openai(message: str, code: str | None = None, type_: str = "invalid_request_error") -> dict[str, Any]:
    return {"error": {"message": message, "type": type_, "param": None, "code": code}}


def google(code: int, message: str, status: str, *details: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"error": {"code": code, "message": message, "status": status, "details": list(details)}}]


def anthropic(type_: str, message: str, **more: Any) -> dict[str, Any]:
    return {"type": "error", "error": {"type": type_, "message": message, **more}, "request_id": "req_1"}


def mistral(message: str, type_: str, code: str | None = None) -> dict[str, Any]:
    return {"object": "error", "message": message, "type": type_, "param": None, "code": code}


def openrouter(code: int, message: str, **metadata: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, **({"metadata": metadata} if metadata else {})}}
