"""A message that clients give back as they got it loses what only answers have, by name, and nothing else."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyforge.contracts.errors import Problem
from keyforge.edge.core.judge import OutgoingRequest
from tests.unit.fitted import CALL, CALLED, KINDS, PLAIN, RESULT, USER, fitted, sent

GIVEN_BACK: list[Any] = [
    pytest.param({**PLAIN, "parsed": {"a": 1}}, ["parsed"], PLAIN, id="openai-python: parse"),
    pytest.param({**PLAIN, "parsed": None}, ["parsed"], PLAIN, id="openai-python: parse, nothing parsed"),
    pytest.param(
        {
            "content": "x",
            "refusal": None,
            "role": "assistant",
            "annotations": [],
            "audio": None,
            "function_call": None,
            "tool_calls": None,
            "parsed": "x",
        },
        ["tool_calls", "audio", "annotations", "parsed"],
        {**PLAIN, "refusal": None, "function_call": None},
        id="openai-python: message.model_dump()",
    ),
    pytest.param(
        {**PLAIN, "refusal": None, "annotations": []},
        ["annotations"],
        {**PLAIN, "refusal": None},
        id="openai-node: the message as it came",
    ),
    pytest.param(
        {**PLAIN, "annotations": [{"type": "url_citation", "url_citation": {"url": "https://a", "title": "a"}}]},
        ["annotations"],
        PLAIN,
        id="OpenAI, OpenRouter: where it was found",
    ),
    pytest.param(
        {**CALLED, "tool_calls": [{**CALL, "function": {**CALL["function"], "parsed_arguments": {"a": 1}}}]},
        ["tool_calls[0].function.parsed_arguments"],
        CALLED,
        id="openai-python: parse, a tool",
    ),
    pytest.param(
        {**PLAIN, "executed_tools": [{"index": 0, "type": "search"}]}, ["executed_tools"], PLAIN, id="Groq: compound"
    ),
    pytest.param(
        {**PLAIN, "reasoning": "hm", "channel": "analysis"},
        ["channel"],
        {**PLAIN, "reasoning": "hm"},
        id="Groq: gpt-oss",
    ),
    pytest.param({**PLAIN, "images": []}, ["images"], PLAIN, id="OpenRouter: no images"),
    pytest.param(
        {**PLAIN, "images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}], "model": "a/b"},
        ["images", "model"],
        PLAIN,
        id="OpenRouter: images",
    ),
    pytest.param(
        {**PLAIN, "provider_specific_fields": {"citations": None}, "thinking_blocks": [{"type": "thinking"}]},
        ["provider_specific_fields", "thinking_blocks"],
        PLAIN,
        id="LiteLLM: message.model_dump()",
    ),
    pytest.param(
        {**CALLED, "tool_calls": [{**CALL, "provider_specific_fields": {"a": 1}}]},
        ["tool_calls[0].provider_specific_fields"],
        CALLED,
        id="LiteLLM: a call of Gemini",
    ),
    pytest.param(
        {
            **PLAIN,
            "refusal": None,
            "annotations": None,
            "audio": None,
            "function_call": None,
            "tool_calls": [],
            "reasoning_content": None,
        },
        ["tool_calls", "audio", "annotations"],
        {**PLAIN, "refusal": None, "function_call": None, "reasoning_content": None},
        id="vLLM",
    ),
    pytest.param(
        {**PLAIN, "context": {"citations": [], "intent": "[]"}, "end_turn": True},
        ["context", "end_turn"],
        PLAIN,
        id="Azure OpenAI On Your Data",
    ),
    pytest.param(
        {**PLAIN, "extra_content": {"google": {"thought_signature": "AA"}}, "thought_signature": "AA"},
        ["thought_signature"],
        {**PLAIN, "extra_content": {"google": {"thought_signature": "AA"}}},
        id="Gemini",
    ),
    pytest.param(
        {**CALLED, "tool_calls": [{**CALL, "index": 0, "function": {**CALL["function"], "description": None}}]},
        ["tool_calls[0].function.description"],
        {**CALLED, "tool_calls": [{**CALL, "index": 0}]},
        id="Text Generation Inference, Hugging Face",
    ),
    pytest.param(
        {**PLAIN, "reasoning_content": "hm", "prefix": False},
        [],
        {**PLAIN, "reasoning_content": "hm", "prefix": False},
        id="DeepSeek, Mistral: what they read again",
    ),
]


@pytest.mark.parametrize(("message", "names", "kept"), GIVEN_BACK)
def test_a_message_given_back_loses_only_what_answers_alone_have(
    message: dict[str, Any], names: list[str], kept: dict[str, Any]
) -> None:
    tail = [RESULT] if "tool_calls[0]" in str(names) else [USER]
    body, found = sent({"messages": [USER, message, *tail]})
    assert set(found) == {f"messages[1].{name}" for name in names}
    assert len(found) == len(names)
    assert body["messages"] == [USER, kept, *tail]


@pytest.mark.parametrize("kind", KINDS)
def test_what_answers_alone_have_reaches_no_provider(kind: str) -> None:
    message: dict[str, Any] = {**PLAIN, "parsed": 1, "annotations": [], "audio": None, "images": [], "tool_calls": []}
    body, found = sent({"messages": [USER, message, USER]}, kind)
    assert body["messages"][1] == PLAIN
    assert set(found) == {f"messages[1].{name}" for name in message if name not in PLAIN}


def test_a_sound_given_back_by_reference_is_refused() -> None:
    found = fitted({"messages": [{**PLAIN, "audio": {"id": "a"}}]})
    assert isinstance(found, Problem)
    assert (found.kind.type, found.param) == ("unbounded_content", "messages[0].audio")


def test_what_is_taken_out_is_not_paid_for() -> None:
    one = fitted({"messages": [USER, PLAIN]})
    other = fitted({"messages": [USER, {**PLAIN, "parsed": "x" * 10_000}]})
    assert isinstance(one, OutgoingRequest)
    assert isinstance(other, OutgoingRequest)
    assert (one.body, one.worst) == (other.body, other.worst)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        pytest.param(
            b'{"model":"m","messages":[{"role":"assistant","parsed":{"a":1,"a":2}}]}', "a", id="in what is taken out"
        ),
        pytest.param(
            b'{"model":"m","messages":[{"role":"assistant","parsed":1,"parsed":2}]}', "parsed", id="what is taken out"
        ),
        pytest.param(b'{"model":"m","messages":[{"role":"user","x":null,"x":null}]}', "x", id="an unknown null"),
        pytest.param(
            b'{"model":"m","messages":[{"role":"user","x":null}],"seed":1,"seed":1}',
            "seed",
            id="beside an unknown null",
        ),
    ],
)
def test_a_duplicate_key_is_found_in_what_is_taken_out(body: bytes, param: str) -> None:
    found = fitted(body)
    assert isinstance(found, Problem)
    assert (found.kind.type, found.param) == ("json_duplicate_key", param)


@given(
    st.dictionaries(st.sampled_from(["name", "refusal", "reasoning", "reasoning_content"]), st.text(max_size=5)),
    st.dictionaries(st.sampled_from(["parsed", "annotations", "images", "context"]), st.none() | st.text(max_size=5)),
)
def test_what_is_kept_does_not_depend_on_what_is_taken_out(kept: dict[str, Any], gone: dict[str, Any]) -> None:
    body, names = sent({"messages": [{**PLAIN, **kept, **gone}]})
    assert body["messages"] == [{**PLAIN, **kept}]
    assert set(names) == {f"messages[0].{name}" for name in gone}
