"""A chat completion as a provider gets it, and what was left out of it."""

import json
from typing import Any

from keyforge.contracts.errors import Problem
from keyforge.edge.core.dialects.registry import ROUTES
from keyforge.edge.core.judge import OutgoingRequest, outgoing_for
from tests.unit.edge_twins import KEY
from tests.unit.test_edge_worst_case import route

USER = {"role": "user", "content": "hello"}
PLAIN = {"role": "assistant", "content": "x"}
CALL: dict[str, Any] = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CALLED: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "1"}
TOOL = {"type": "function", "function": {"name": "f"}}
KINDS = ("openai", "anthropic", "groq", "mistral", "deepseek", "openrouter", "google", "gemini", "cerebras", "another")


def fitted(body: dict[str, Any] | bytes, kind: str = "another") -> OutgoingRequest | Problem:
    on = ROUTES["/v1/chat/completions"]
    text = body if isinstance(body, bytes) else json.dumps({"model": "m", "messages": [USER], **body}).encode()
    parsed = on.parse(text)
    return parsed if isinstance(parsed, Problem) else outgoing_for(on, parsed, route(kind), KEY)


def sent(body: dict[str, Any] | bytes, kind: str = "another") -> tuple[dict[str, Any], list[str]]:
    """Return the body that a provider gets, and what was taken out."""
    found = fitted(body, kind)
    assert isinstance(found, OutgoingRequest), found
    return json.loads(found.body), list(found.ignored)
