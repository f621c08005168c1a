"""Every field of a request that OpenAI's own library has is taken, with the library's own values; refused are values
that are billed apart."""

import json
from typing import Any

import pytest

from keyforge.contracts.errors import Problem
from keyforge.edge.core.dialects.base import ParsedRequest
from keyforge.edge.core.dialects.registry import ROUTES
from tests.e2e.recorded_refusals import REFUSED
from tests.unit.edge_twins import CHAT as ROUTE
from tests.unit.edge_twins import priced
from tests.unit.openais_own import APART, CHAT, EMBEDDINGS, MESSAGES, PARTS, TOOLS, is_openais_own

HELLO = {"role": "user", "content": "hello"}
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {}, "strict": True}}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
PNG = {"url": "data:image/png;base64,AAAA", "detail": "low"}
WAV = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQAAAAA="
FIELDS: dict[str, Any] = {
    "model": "m", "messages": [HELLO], "frequency_penalty": -2, "function_call": "none",
    "functions": [{"name": "f", "parameters": {}}], "logit_bias": {"50256": 0}, "logprobs": True,
    "max_completion_tokens": 64, "max_tokens": 64, "metadata": {"foo": "string"},
    "moderation": {"model": "omni-moderation-latest", "policy": {"input": {"mode": "score"}, "output": None}},
    "n": 1, "parallel_tool_calls": True, "prediction": {"content": "string", "type": "content"}, "presence_penalty": -2,
    "prompt_cache_key": "k", "prompt_cache_options": {"mode": "implicit", "ttl": "30m"},
    "prompt_cache_retention": "24h", "reasoning_effort": "none", "response_format": {"type": "text"},
    "safety_identifier": "s", "seed": -9007199254740991, "service_tier": "auto", "stop": "\n", "store": True,
    "stream": False, "stream_options": {"include_obfuscation": True, "include_usage": True}, "temperature": 1,
    "tool_choice": "none", "tools": [TOOL, {"type": "custom", "custom": {"name": "c"}}], "top_logprobs": 0, "top_p": 1,
    "user": "u", "verbosity": "low", "modalities": ["text"], "audio": None, "web_search_options": None,
}  # fmt: skip
"""The values of openai-python's own tests, but for caps of 0; of what is billed apart, those that cost nothing."""
GIVEN: dict[str, Any] = {
    "model": "m", "input": ["one"], "dimensions": 1, "encoding_format": "float", "user": "u",
}  # fmt: skip
OF_MESSAGES: dict[str, Any] = {
    "role": {"role": "developer", "content": "x"}, "content": HELLO, "name": {**HELLO, "name": "n"},
    "refusal": {"role": "assistant", "refusal": "no"}, "audio": {"role": "assistant", "content": "x", "audio": None},
    "tool_calls": {"role": "assistant", "tool_calls": [CALL]},
    "function_call": {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
    "tool_call_id": {"role": "tool", "content": "x", "tool_call_id": "c"},
}  # fmt: skip
OF_PARTS: dict[str, Any] = {
    "type": {"type": "text", "text": "x"}, "text": {"type": "text", "text": "x"},
    "image_url": {"type": "image_url", "image_url": PNG}, "refusal": {"type": "refusal", "refusal": "no"},
    "input_audio": {"type": "input_audio", "input_audio": {"data": WAV, "format": "wav"}},
    "prompt_cache_breakpoint": {"type": "text", "text": "x", "prompt_cache_breakpoint": {"mode": "explicit"}},
}  # fmt: skip
COSTLY: list[dict[str, Any]] = [
    {"audio": {"format": "wav", "voice": "alloy"}}, {"modalities": ["text", "audio"]}, {"service_tier": "priority"},
    {"web_search_options": {"search_context_size": "low"}}, {"prompt_cache_options": {"ttl": "12h"}},
]  # fmt: skip


def parsed(body: dict[str, Any], path: str = ROUTE.path) -> ParsedRequest | Problem:
    return ROUTES[path].parse(json.dumps(body).encode())


def test_the_values_here_are_of_all_fields_that_the_library_has() -> None:
    assert FIELDS.keys() == CHAT
    assert GIVEN.keys() == EMBEDDINGS
    assert OF_MESSAGES.keys() == MESSAGES
    assert OF_PARTS.keys() == PARTS
    assert {"type", "function", "custom"} == TOOLS
    assert APART < CHAT


@pytest.mark.parametrize("name", sorted(CHAT))
def test_a_field_of_a_chat_is_taken(name: str) -> None:
    found = parsed({"model": "m", "messages": [HELLO], name: FIELDS[name]})
    assert isinstance(found, ParsedRequest), found


def test_all_fields_of_a_chat_at_once_are_taken() -> None:
    assert priced(**FIELDS).outgoing.body


@pytest.mark.parametrize("name", sorted(EMBEDDINGS))
def test_a_field_of_embeddings_is_taken(name: str) -> None:
    assert isinstance(parsed({"model": "m", "input": "x", name: GIVEN[name]}, "/v1/embeddings"), ParsedRequest)


@pytest.mark.parametrize("message", OF_MESSAGES.values(), ids=OF_MESSAGES.keys())
def test_a_field_of_a_message_is_taken(message: dict[str, Any]) -> None:
    assert isinstance(parsed({"model": "m", "messages": [message]}), ParsedRequest)


@pytest.mark.parametrize("part", OF_PARTS.values(), ids=OF_PARTS.keys())
def test_a_field_of_a_part_is_taken(part: dict[str, Any]) -> None:
    assert isinstance(parsed({"model": "m", "messages": [{"role": "user", "content": [part]}]}), ParsedRequest)


@pytest.mark.parametrize("more", COSTLY, ids=lambda more: next(iter(more)))
def test_what_is_billed_apart_is_refused_by_name(more: dict[str, Any]) -> None:
    found = parsed({"model": "m", "messages": [HELLO], **more})
    assert isinstance(found, Problem)
    assert found.kind.type == "field_unsupported"
    assert (found.param or "").startswith(next(iter(more)))


def test_the_replay_of_recordings_may_refuse_no_field_of_openais_own() -> None:
    assert not {row for row in REFUSED if row.type == "field_unsupported" and is_openais_own(row.field)}
    assert is_openais_own("messages[].content[].prompt_cache_breakpoint")
    assert not is_openais_own("tools[].parameters")
