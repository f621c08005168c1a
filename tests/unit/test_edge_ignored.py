"""What says nothing to a provider is taken out and named; what would change the answer is refused; the rest stays."""

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
from tests.unit.test_edge_worst_case import route

USER = {"role": "user", "content": "hello"}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
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


# --- what clients give back -------------------------------------------------------------------------------------------

PLAIN = {"role": "assistant", "content": "x"}
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
        {**CALLED, "tool_calls": [{**CALL, "function": {**CALL["function"], "parsed_arguments": {"a": 1}}}]},  # type: ignore[dict-item]
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
        {**CALLED, "tool_calls": [{**CALL, "index": 0, "function": {**CALL["function"], "description": None}}]},  # type: ignore[dict-item]
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


# --- unknown fields ---------------------------------------------------------------------------------------------------


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


# --- no-ops -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "body",
    [
        {"n": 1},
        {"n": None},
        {"logprobs": False},
        {"logprobs": None},
        {"top_logprobs": 0},
        {"logit_bias": {}},
        {"modalities": ["text"]},
        {"modalities": []},
        {"modalities": None},
        {"audio": None},
        {"web_search_options": None},
        {"metadata": {}},
        {"tools": []},
        {"tools": None},
        {"functions": []},
        {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True},
        {"tools": None, "tool_choice": "none", "parallel_tool_calls": False},
        {"functions": [], "function_call": "auto"},
        {"n": 1, "logprobs": False, "modalities": ["text"], "audio": None, "functions": [], "tools": []},
    ],
)
def test_what_changes_nothing_is_taken_out(kind: str, body: dict[str, Any]) -> None:
    found, names = sent(body, kind)
    assert sorted(names) == sorted(body)
    assert set(found) & set(body) == set()


@pytest.mark.parametrize(
    "body",
    [
        {"n": 2},
        {"logprobs": True, "top_logprobs": 2},
        {"logprobs": True},
        {"logit_bias": {"1": 1}},
        {"metadata": {"a": "b"}},
        {"tools": [TOOL], "tool_choice": "auto", "parallel_tool_calls": True},
        {"functions": [{"name": "f"}], "function_call": "auto"},
        {"tools": [TOOL], "tool_choice": "required"},
        {"stop": None, "user": None, "response_format": None},
        {"store": True},
        {"store": False},
    ],
)
def test_what_changes_something_or_may_stays(body: dict[str, Any]) -> None:
    """`store: false` among them: OpenAI may keep answers unless it says so."""
    for kind in ("openai", "another"):
        found, names = sent(body, kind)
        assert names == []
        assert {name: found[name] for name in body} == body


# --- what a provider lacks --------------------------------------------------------------------------------------------

SAMPLING: dict[str, Any] = {
    "temperature": 0.5,
    "top_p": 0.9,
    "frequency_penalty": 0.1,
    "presence_penalty": 0.2,
    "logit_bias": {"1": 1},
    "top_k": 4,
    "top_a": 0.1,
    "min_p": 0.1,
    "repetition_penalty": 1.1,
}
_OPEN = {"top_k", "top_a", "min_p", "repetition_penalty"}
LACKING = [
    ("openai", _OPEN),
    ("groq", _OPEN | {"logit_bias"}),
    ("cerebras", _OPEN | {"logit_bias", "frequency_penalty", "presence_penalty"}),
    ("mistral", _OPEN | {"logit_bias"}),
    ("anthropic", {"frequency_penalty", "presence_penalty", "logit_bias"}),
    ("deepseek", _OPEN | {"logit_bias"}),
    ("google", _OPEN | {"logit_bias"}),
    ("gemini", _OPEN | {"logit_bias"}),
    ("openrouter", set()),
    ("another", set()),
]


@pytest.mark.parametrize(("kind", "lacking"), LACKING)
def test_sampling_that_a_provider_lacks_is_taken_out(kind: str, lacking: set[str]) -> None:
    found, names = sent(SAMPLING, kind)
    assert set(names) == lacking
    assert {name: found[name] for name in SAMPLING if name in found} == {
        name: value for name, value in SAMPLING.items() if name not in lacking
    }


def test_every_kind_has_its_line() -> None:
    assert {kind for kind, _ in LACKING} == set(KINDS)


@pytest.mark.parametrize(
    ("kind", "seed", "names"),
    [
        ("openai", {"seed": 7}, []),
        ("groq", {"seed": 7}, []),
        ("openrouter", {"seed": 7}, []),
        ("another", {"seed": 7}, []),
        ("mistral", {"random_seed": 7}, []),
        ("anthropic", {}, ["seed"]),
        ("deepseek", {}, ["seed"]),
    ],
)
@pytest.mark.parametrize("asked", [{"seed": 7}, {"random_seed": 7}])
def test_a_seed_has_the_name_that_the_provider_knows(
    kind: str, seed: dict[str, int], names: list[str], asked: dict[str, int]
) -> None:
    found, ignored_ = sent(asked, kind)
    assert {name: found[name] for name in ("seed", "random_seed") if name in found} == seed
    assert ignored_ == (list(asked) if names else [])


@pytest.mark.parametrize("kind", ["groq", "mistral", "anthropic"])
@pytest.mark.parametrize("asked", [{"logprobs": True}, {"logprobs": True, "top_logprobs": 3}, {"top_logprobs": 3}])
def test_log_probabilities_that_a_provider_lacks_are_refused(kind: str, asked: dict[str, Any]) -> None:
    found = fitted(asked, kind)
    assert isinstance(found, Problem)
    assert (found.kind.type, found.param) == ("field_unsupported", next(iter(asked)))


@pytest.mark.parametrize("kind", ["openai", "openrouter", "deepseek", "cerebras", "another"])
def test_log_probabilities_are_asked_for_where_there_are_any(kind: str) -> None:
    assert sent({"logprobs": True, "top_logprobs": 3}, kind)[0]["top_logprobs"] == 3


@pytest.mark.parametrize("kind", ["groq", "mistral", "anthropic", "deepseek", "cerebras", "google"])
def test_nothing_is_asked_not_to_be_kept_of_those_who_keep_nothing(kind: str) -> None:
    assert sent({"store": False}, kind)[1] == ["store"]
    assert sent({"store": True}, kind) == (sent({}, kind)[0] | {"store": True}, [])


TURNS: list[dict[str, Any]] = [
    {"role": "user", "content": "a", "name": "ann"},
    {
        **PLAIN,
        "name": "bot",
        "refusal": None,
        "reasoning": "r",
        "reasoning_content": "c",
        "reasoning_details": [],
        "function_call": None,
        "extra_content": {"google": {}},
    },
    {**CALLED, "refusal": "no"},
    {**RESULT, "name": "f"},
]


@pytest.mark.parametrize(
    ("kind", "lacking"),
    [
        (
            "groq",
            {
                "[0].name",
                "[1].name",
                "[1].refusal",
                "[1].reasoning_content",
                "[1].reasoning_details",
                "[1].extra_content",
            },
        ),
        ("cerebras", {"[1].refusal", "[1].reasoning_content", "[1].reasoning_details", "[1].extra_content"}),
        (
            "mistral",
            {
                "[0].name",
                "[1].name",
                "[1].refusal",
                "[1].reasoning_content",
                "[1].reasoning_details",
                "[1].extra_content",
                "[1].reasoning",
                "[1].function_call",
            },
        ),
        ("openai", set()),
        ("deepseek", set()),
        ("gemini", set()),
        ("openrouter", set()),
        ("another", set()),
    ],
)
def test_fields_of_messages_that_a_provider_refuses_are_taken_out(kind: str, lacking: set[str]) -> None:
    found, names = sent({"messages": TURNS}, kind)
    assert {name.removeprefix("messages") for name in names} == lacking
    for place, turn in enumerate(TURNS):
        assert found["messages"][place] == {
            name: one for name, one in turn.items() if f"[{place}].{name}" not in lacking
        }


# --- the header -------------------------------------------------------------------------------------------------------


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


@given(
    st.dictionaries(st.sampled_from(["name", "refusal", "reasoning", "reasoning_content"]), st.text(max_size=5)),
    st.dictionaries(st.sampled_from(["parsed", "annotations", "images", "context"]), st.none() | st.text(max_size=5)),
)
def test_what_is_kept_does_not_depend_on_what_is_taken_out(kept: dict[str, Any], gone: dict[str, Any]) -> None:
    body, names = sent({"messages": [{**PLAIN, **kept, **gone}]})
    assert body["messages"] == [{**PLAIN, **kept}]
    assert set(names) == {f"messages[0].{name}" for name in gone}
