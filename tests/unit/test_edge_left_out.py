"""Unknown fields: null ones are left out, others refused by name; and the header that names what was left out."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyforge.contracts.errors import Problem
from keyforge.edge.application.answer_headers import ignored
from keyforge.edge.core.dialects import left_out
from keyforge.edge.core.dialects.registry import ROUTES
from keyforge.edge.core.judge import OutgoingRequest, outgoing_for
from tests.unit.edge_twins import KEY, priced
from tests.unit.fitted import CALL, CALLED, PLAIN, RESULT, TOOL, USER, fitted, sent
from tests.unit.test_edge_worst_case import route


@pytest.mark.parametrize(
    ("body", "name"),
    [
        pytest.param({"thinking_budget": None}, "thinking_budget", id="of the request"),
        pytest.param({"messages": [{**USER, "weight": None}]}, "messages[0].weight", id="of a message"),
        pytest.param(
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a", "image_url": None}]}]},
            "messages[0].content[0].image_url",
            id="of a part: Hugging Face's client",
        ),
        pytest.param(
            {"messages": [{**CALLED, "tool_calls": [{**CALL, "name": None}]}, RESULT]},
            "messages[0].tool_calls[0].name",
            id="of a call",
        ),
        pytest.param({"tools": [{**TOOL, "strict": None}]}, "tools[0].strict", id="of a tool"),
        pytest.param({"stream": True, "stream_options": {"x": None}}, "stream_options.x", id="of options"),
        pytest.param(
            {"reasoning": {"effort": "low", "generate_summary": None}}, "reasoning.generate_summary", id="of reasoning"
        ),
    ],
)
def test_an_unknown_field_that_is_null_is_taken_out(body: dict[str, Any], name: str) -> None:
    found, names = sent(body)
    assert names == [name]
    assert "null" not in json.dumps(found).replace('"content": null', "")


@pytest.mark.parametrize(
    ("body", "name", "path"),
    [
        ({"messages": [{**CALLED, "tool_calls": [{**CALL, "index": None}]}, RESULT]}, "index", "[0].tool_calls[0]"),
        ({"messages": [{**CALLED, "tool_calls": [{**CALL, "custom": None}]}, RESULT]}, "custom", "[0].tool_calls[0]"),
        ({"messages": [{**CALLED, "tool_calls": [{**CALL, "type": None}]}, RESULT]}, "type", "[0].tool_calls[0]"),
        ({"messages": [USER, {**PLAIN, "prefix": None}]}, "prefix", "[1]"),
        ({"tools": [{**TOOL, "custom": None}]}, "custom", "tools[0]"),
        ({"tools": [{**TOOL, "type": None}]}, "type", "tools[0]"),
    ],
)
def test_a_known_field_that_may_be_absent_but_not_null_is_taken_out_where_it_is_null(
    body: dict[str, Any], name: str, path: str
) -> None:
    found, names = sent(body)
    assert names == [f"messages{path}.{name}" if path.startswith("[") else f"{path}.{name}"]
    assert f'"{name}": null' not in json.dumps(found)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": None}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": [{"role": None, "content": "x"}]}, "messages[0].role"),
        ({"messages": [{**CALLED, "tool_calls": [{**CALL, "function": {"name": None, "arguments": "{}"}}]}]}, None),
    ],
)
def test_a_field_that_is_required_is_refused_where_it_is_null(body: dict[str, Any], param: str | None) -> None:
    found = fitted(body)
    assert isinstance(found, Problem)
    assert (found.kind.type, found.param) == (
        "request_invalid",
        param or "messages[0].tool_calls[0].function.name",
    )


def test_a_null_that_a_field_may_have_stays() -> None:
    body, names = sent({"tools": [{**TOOL, "custom": None}], "stop": None, "temperature": None})
    assert names == ["tools[0].custom"]
    assert (body["stop"], body["temperature"]) == (None, None)


def test_what_openrouter_documents_as_without_effect_is_taken_out() -> None:
    """LiteLLM sends it with each request to OpenRouter."""
    for kind in ("openrouter", "openai", "another"):
        body, names = sent({"usage": {"include": True}}, kind)
        assert names == ["usage"]
        assert "usage" not in body


@pytest.mark.parametrize("type_", [7, None, [], {}, ["text"], "", "file"])
def test_a_part_of_no_known_type_is_refused_as_before(type_: Any) -> None:
    found = fitted({"messages": [{"role": "user", "content": [{"type": type_, "unknown": None}]}]})
    assert isinstance(found, Problem)
    assert found.kind.type in ("unbounded_content", "request_invalid")
    assert found.param == "messages[0].content[0].type"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"surprise": 1}, "surprise"),
        ({"surprise": []}, "surprise"),
        ({"surprise": False}, "surprise"),
        ({"surprise": {"a": None}}, "surprise"),
        ({"gone": None, "surprise": 1}, "surprise"),
        ({"messages": [{**USER, "weight": 1}]}, "messages[0].weight"),
        ({"messages": [{**PLAIN, "parsed_": 1}]}, "messages[0].parsed_"),
        ({"tools": [{**TOOL, "parsed": 1}]}, "tools[0].parsed"),
        ({"parsed": None, "annotations": []}, "annotations"),
        ({"a\r\nx-forged": None}, "a\r\nx-forged"),
        ({"a, b": None}, "a, b"),
        ({"é": None}, "é"),
        ({"x" * 65: None}, "x" * 65),
    ],
)
def test_any_other_unknown_field_is_refused_by_its_name(body: dict[str, Any], param: str) -> None:
    found = fitted(body)
    assert isinstance(found, Problem)
    assert (found.kind.type, found.param) == ("field_unsupported", param)


def test_nulls_of_the_caller_stay() -> None:
    asked = {
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"default": None}}}],
        "response_format": {"type": "json_schema", "json_schema": {"schema": {"default": None}}},
        "thinking": {"a": None},
    }
    body, names = sent({**asked, "unknown": None})
    assert names == ["unknown"]
    assert {name: body[name] for name in asked} == asked


def test_embeddings_lose_unknown_nulls_as_well() -> None:
    on = ROUTES["/v1/embeddings"]
    parsed = on.parse(b'{"model":"m","input":"x","task":null}')
    assert not isinstance(parsed, Problem)
    found = outgoing_for(on, parsed, route("mistral"), KEY)
    assert isinstance(found, OutgoingRequest)
    assert found.ignored == ("task",)


def test_the_header_names_what_was_taken_out() -> None:
    request = priced(messages=[USER, {**PLAIN, "parsed": 1}], n=1, gone=None)
    assert ignored(request) == [(b"x-keyforge-ignored", b"gone, messages[1].parsed, n")]
    assert ignored(priced()) == []


@pytest.mark.parametrize("messages", [1, 10, 60, 1000])
def test_the_header_is_bounded(messages: int) -> None:
    request = priced(messages=[{**PLAIN, "annotations": []}] * messages)
    ((_, value),) = ignored(request)
    assert len(value) <= left_out.NAMES_CHARS_MAX
    names = value.decode().split(", ")
    kept = [name for name in names if name != left_out.MORE]
    assert kept == [f"messages[{place}].annotations" for place in range(len(kept))]
    assert (names[-1] == left_out.MORE) == (len(kept) < messages)
    assert len(kept) >= min(messages, 35)


@given(st.lists(st.text("abc", min_size=1, max_size=1200), max_size=40))
def test_as_many_names_as_fit_are_whole(names: list[str]) -> None:
    text = left_out.listed(names)
    assert len(text) <= left_out.NAMES_CHARS_MAX
    shown = [name for name in text.split(", ") if name]
    kept = shown[:-1] if shown and shown[-1] == left_out.MORE else shown
    assert kept == names[: len(kept)]
    if shown == kept:
        assert kept == names
