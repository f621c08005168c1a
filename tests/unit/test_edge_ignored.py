"""No-ops, and what a provider's API lacks, are left out and named; what would change the answer is refused."""

from typing import Any

import pytest

from keyforge.contracts.errors import Problem
from tests.unit.fitted import CALLED, KINDS, PLAIN, RESULT, TOOL, fitted, sent


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
