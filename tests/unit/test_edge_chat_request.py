"""Reading a request: what is taken, what is refused and as what; held against the standard library."""

import json
import string
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyforge.contracts.errors import Problem
from keyforge.edge.core.dialects import strict_json
from keyforge.edge.core.dialects.field_faults import REASON_CHARS_MAX
from keyforge.edge.core.dialects.json_faults import PARAM_CHARS_MAX
from keyforge.edge.core.dialects.openai_chat.request import CHAT, EMBEDDINGS, ChatRequest, EmbeddingsRequest
from keyforge.edge.core.dialects.strict_json import DEPTH_MAX, read

USER = {"role": "user", "content": "hello"}
EVERY_FIELD: dict[str, Any] = {
    "model": "gpt-sim",
    "messages": [
        {"role": "developer", "content": "be brief", "name": "ops"},
        {"role": "system", "content": [{"type": "text", "text": "be kind"}]},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "what is this?"},
                {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}},
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
        },
        {"role": "tool", "content": "a cat", "tool_call_id": "c1"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}], "reasoning_content": "hm"},
    ],
    "frequency_penalty": 0.5,
    "function_call": "none",
    "functions": [{"name": "look", "parameters": {"type": "object"}}],
    "logit_bias": {"50256": -100},
    "logprobs": True,
    "max_completion_tokens": 100,
    "max_tokens": 90,
    "metadata": {"a": "b"},
    "modalities": ["text"],
    "n": 2,
    "parallel_tool_calls": False,
    "prediction": {"type": "content", "content": "maybe"},
    "presence_penalty": -0.5,
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
    "reasoning_effort": "low",
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"default": None}}},
    "safety_identifier": "s",
    "seed": 7,
    "service_tier": "default",
    "stop": ["\n"],
    "store": False,
    "stream": True,
    "stream_options": {"include_usage": True},
    "temperature": 1,
    "tool_choice": {"type": "function", "function": {"name": "look"}},
    "tools": [{"type": "function", "function": {"name": "look", "parameters": {}, "strict": None}}],
    "top_logprobs": 3,
    "top_p": 0.9,
    "user": "u",
    "verbosity": "low",
}


def test_every_documented_field_is_taken_and_written_back() -> None:
    request = read(json.dumps(EVERY_FIELD).encode(), CHAT, [])
    assert isinstance(request, ChatRequest)
    assert json.loads(strict_json.ENCODER.encode(request)) == EVERY_FIELD


def test_null_stays_null_and_absent_stays_absent() -> None:
    body = {"model": "m", "messages": [USER], "stop": None, "tools": None}
    assert json.loads(strict_json.ENCODER.encode(read(json.dumps(body).encode(), CHAT, []))) == body


def test_fields_of_compatible_providers() -> None:
    cached = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "5m"}}
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": [cached], "cache_control": {"type": "ephemeral"}}],
        "reasoning": {"effort": "high", "max_tokens": 0, "exclude": True, "enabled": None, "mode": "standard"},
        "thinking": {"type": "enabled", "budget_tokens": 1024},
    }
    assert json.loads(strict_json.ENCODER.encode(read(json.dumps(body).encode(), CHAT, []))) == body


@pytest.mark.parametrize("input_", ["text", ["a", "b"], [1, 2, 3], [[1], [2, 3]]])
def test_embeddings(input_: Any) -> None:
    body = {"model": "m", "input": input_, "encoding_format": "base64", "dimensions": 8, "user": "u"}
    assert isinstance(read(json.dumps(body).encode(), EMBEDDINGS, []), EmbeddingsRequest)


def chat(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [USER], **fields}).encode()


def user(content: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": content}]}).encode()


PART = "messages[0].content[0].type"
WRONG: list[Any] = [
    pytest.param(b"", "json_invalid", None, id="empty"),
    pytest.param(b"hello", "json_invalid", None, id="no JSON"),
    pytest.param(chat() + b"x", "json_invalid", None, id="more after it"),
    pytest.param(b"\xef\xbb\xbf" * 2 + chat(), "json_invalid", None, id="two byte order marks"),
    pytest.param(b'{"model":"\xff","messages":[]}', "json_invalid", "model", id="not UTF-8"),
    pytest.param(chat().decode().encode("utf-16"), "json_invalid", None, id="UTF-16"),
    pytest.param(b'{"model":"\\ud800","messages":[{"role":"user"}]}', "json_invalid", "model", id="lone surrogate"),
    pytest.param(b'{"model":"m","seed":NaN}', "json_invalid", None, id="NaN"),
    pytest.param(b'{"model":"m","temperature":-Infinity}', "json_invalid", None, id="Infinity"),
    pytest.param(b'{"model":"m","seed":' + b"9" * 5000 + b"}", "request_invalid", "seed", id="huge number"),
    pytest.param(chat()[:-1] + b',"temperature":1e999}', "request_invalid", "temperature", id="number out of range"),
    pytest.param(chat()[:-1] + b',"model":"n"}', "json_duplicate_key", "model", id="twice"),
    pytest.param(chat()[:-1] + b',"mod\\u0065l":"n"}', "json_duplicate_key", "model", id="twice, once escaped"),
    pytest.param(chat()[:-1] + b',"metadata":{"a":1,"a":1}}', "json_duplicate_key", "a", id="twice, deep"),
    pytest.param(chat()[:-1] + b',"logit_bias":{"1":1,"1":1}}', "json_duplicate_key", "1", id="twice in a map"),
    pytest.param(
        b'{"model":"m","messages":[{"role":"user","role":"user"}]}', "json_duplicate_key", "role", id="in a message"
    ),
    pytest.param(
        user([{"type": "text", "text": "x"}])[:-5] + b',"type":"text"}]}]}', "json_duplicate_key", "type", id="tag"
    ),
    pytest.param(b'{"a":' + b"[" * 100_000, "json_too_deep", None, id="very deep"),
    pytest.param(chat(metadata=json.loads("[" * 70 + "]" * 70)), "request_invalid", "metadata", id="type before depth"),
    pytest.param(chat(metadata={"a": json.loads("[" * 70 + "]" * 70)}), "json_too_deep", None, id="deep"),
    pytest.param(b"[]", "request_invalid", None, id="no object"),
    pytest.param(b"{}", "request_invalid", None, id="no model"),
    pytest.param(chat(model=7), "request_invalid", "model", id="model of a wrong type"),
    pytest.param(chat(messages="x"), "request_invalid", "messages", id="messages of a wrong type"),
    pytest.param(chat(messages=[]), "request_invalid", "messages", id="no message"),
    pytest.param(chat(messages=[{"role": "king", "content": "x"}]), "request_invalid", "messages[0].role", id="role"),
    pytest.param(chat(n=0), "request_invalid", "n", id="no completion"),
    pytest.param(chat(n=1.0), "request_invalid", "n", id="a fraction"),
    pytest.param(chat(n=True), "request_invalid", "n", id="a boolean"),
    pytest.param(chat(n="1"), "request_invalid", "n", id="a string"),
    pytest.param(chat(max_tokens=0), "request_invalid", "max_tokens", id="no token"),
    pytest.param(chat(max_tokens=-1), "request_invalid", "max_tokens", id="less than none"),
    pytest.param(chat(stream="yes"), "request_invalid", "stream", id="stream of a wrong type"),
    pytest.param(chat(plugins=[]), "field_unsupported", "plugins", id="plugins"),
    pytest.param(chat(models=["a", "b"]), "field_unsupported", "models", id="fallback models"),
    pytest.param(chat(transforms=[]), "field_unsupported", "transforms", id="transforms"),
    pytest.param(chat(background=True), "field_unsupported", "background", id="background"),
    pytest.param(chat(best_of=8), "field_unsupported", "best_of", id="best of"),
    pytest.param(chat(web_search_options={}), "field_unsupported", "web_search_options", id="web search"),
    pytest.param(chat(service_tier="priority"), "field_unsupported", "service_tier", id="priority"),
    pytest.param(chat(audio={"voice": "a", "format": "wav"}), "field_unsupported", "audio", id="spoken answers"),
    pytest.param(
        user([{"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1d"}}]), "field_unsupported",
        "messages[0].content[0].cache_control.ttl", id="a day in a cache has no price",
    ),
    pytest.param(
        chat(tools=[{"type": "function", "function": {}, "cache_control": {"type": "ephemeral", "ttl": "1d"}}]),
        "field_unsupported", "tools[0].cache_control.ttl", id="tools in a cache for a day",
    ),
    pytest.param(chat(reasoning={"mode": "pro"}), "field_unsupported", "reasoning.mode", id="another model than asked"),
    pytest.param(chat(reasoning={"models": ["x"]}), "field_unsupported", "reasoning.models", id="in reasoning"),
    pytest.param(chat(modalities=["text", "audio"]), "field_unsupported", "modalities[1]", id="spoken answers too"),
    pytest.param(chat(messages=[{**USER, "weight": 1}]), "field_unsupported", "messages[0].weight", id="in a message"),
    pytest.param(user([{"type": "file"}]), "unbounded_content", PART, id="file"),
    pytest.param(user([{"type": "video_url"}]), "unbounded_content", PART, id="video"),
    pytest.param(
        user([{"type": "input_audio", "input_audio": {"data": "", "format": "flac"}}]), "unbounded_content",
        "messages[0].content[0].input_audio.format", id="sound of unknown density",
    ),
    pytest.param(chat(tools=[{"type": "web_search"}]), "unbounded_content", "tools[0].type", id="a provider's tool"),
    pytest.param(
        chat(messages=[{"role": "assistant", "audio": {"id": "a"}}]), "unbounded_content", "messages[0].audio",
        id="sound by reference",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("body", "type_", "param"), WRONG)
def test_wrong_bodies(body: bytes, type_: str, param: str | None) -> None:
    found = read(body, CHAT, [])
    assert isinstance(found, Problem)
    assert (found.kind.type, found.param) == (type_, param)
    assert len(found.message) <= PARAM_CHARS_MAX + REASON_CHARS_MAX


JSON_TEXT = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from('":{}[],\\'), max_size=12)
LEAF = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | JSON_TEXT
TREE = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=4) | st.lists(st.tuples(JSON_TEXT, inner), max_size=4), max_leaves=20
)


def written(tree: Any, spaced: str, ascii_: bool, colon: str) -> str:
    """Write a tree as JSON, colons in strings as `colon`; a list of pairs is an object, which may hold a key twice."""
    if isinstance(tree, list) and tree and all(isinstance(one, tuple) for one in tree):
        members = [
            f"{written(name, spaced, ascii_, colon)}{spaced}:{spaced}{written(value, spaced, ascii_, colon)}"
            for name, value in tree
        ]
        return "{" + f",{spaced}".join(members) + "}"
    if isinstance(tree, list):
        return "[" + f"{spaced},".join(written(one, spaced, ascii_, colon) for one in tree) + "]"
    return json.dumps(tree, ensure_ascii=ascii_).replace(":", colon)


def duplicates(text: str) -> bool:
    """What the standard library finds."""
    found = False

    def pairs(members: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal found
        found = found or len(dict(members)) != len(members)
        return dict(members)

    json.loads(text, object_pairs_hook=pairs)
    return found


@given(TREE, st.sampled_from(["", " ", "\n\t"]), st.booleans(), st.sampled_from([":", "\\u003a", "\\u003A"]))
def test_duplicate_keys_are_found_as_the_standard_library_finds_them(
    tree: Any, spaced: str, ascii_: bool, colon: str
) -> None:
    tree_text = written(tree, spaced, ascii_, colon)
    text = f'{{"model":"m","messages":[{{"role":"user","content":"x"}}],"metadata":{{"tree":{tree_text}}}}}'
    found = read(text.encode(), CHAT, [])
    if duplicates(text):
        assert isinstance(found, Problem)
        assert found.kind.type == "json_duplicate_key"
    else:
        assert isinstance(found, ChatRequest)
        assert json.loads(strict_json.ENCODER.encode(found)) == json.loads(text)


@given(st.text(string.printable + '"\\é', max_size=40), st.text('ab":\\', max_size=8))
def test_members_are_counted_whatever_strings_hold(value: str, key: str) -> None:
    outside = strict_json._outside_strings(json.dumps({key: value, key + "x": [value, {"y": value}]}).encode())
    assert outside.count(b":") == 3


@given(st.integers(1, DEPTH_MAX + 6), st.booleans())
def test_depth_is_the_deepest_nesting(depth: int, objects: bool) -> None:
    opened, closed = ('{"a":', "}") if objects else ("[", "]")
    inner = opened * depth + "1" + closed * depth
    siblings = ",".join(["[]"] * DEPTH_MAX)
    body = f'{{"model":"m","messages":[{{"role":"user","content":"x"}}],"metadata":{{"a":{inner},"b":[{siblings}]}}}}'
    found = read(body.encode(), CHAT, [])
    assert (isinstance(found, Problem) and found.kind.type == "json_too_deep") == (depth + 2 > DEPTH_MAX)


@given(st.binary(max_size=80) | st.text(max_size=80).map(str.encode))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    assert isinstance(read(body, CHAT, []), Problem | ChatRequest | EmbeddingsRequest)
    assert isinstance(read(body, EMBEDDINGS, []), Problem | ChatRequest | EmbeddingsRequest)


def large(inner: bytes, end: bytes = b"]}}") -> bytes:
    start = b'{"model":"m","messages":[{"role":"user","content":"x"}],"metadata":{"a":['
    return start + inner * (4 * 1024 * 1024 // len(inner)) + inner.rstrip(b",") + end


@pytest.mark.parametrize(
    ("body", "type_", "param"),
    [
        pytest.param(large(b"[],"), "json_too_deep", None, id="a million lists"),
        pytest.param(large(b"[],", b""), "json_too_deep", None, id="a million lists, cut off"),
        pytest.param(large(b'{"a":1,"a":1},'), "json_too_deep", None, id="objects, keys twice"),
        pytest.param(large(b"1,", b""), "json_invalid", None, id="cut off"),
        pytest.param(large(b"1,", b']},"model":"n"}'), "json_duplicate_key", None, id="a key twice"),
        pytest.param(large(b"1,", b']},"surprise":1}'), "field_unsupported", "surprise", id="unknown field"),
        pytest.param(large(b'"[{",'), None, None, id="brackets in strings"),
    ],
)
def test_no_large_body_is_read_with_care(
    body: bytes, type_: str | None, param: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The standard library takes half a second for some of these, and nobody else would be served meanwhile."""
    monkeypatch.setattr(json, "loads", None)
    found = read(body, CHAT, [])
    outcome = (found.kind.type, found.param) if isinstance(found, Problem) else (None, None)
    assert outcome == (type_, param)


def test_reading_is_bounded_for_many_containers() -> None:
    wide = msgspec.json.encode(
        {"model": "m", "messages": [USER], "metadata": {"a": [[]] * (strict_json.CONTAINERS_MAX + 1)}}
    )
    found = read(wide, CHAT, [])
    assert isinstance(found, Problem)
    assert found.kind.type == "json_too_deep"
