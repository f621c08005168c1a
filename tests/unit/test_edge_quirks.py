"""For each provider that we ship: what is added to a request, which usage of a stream is shown, what is refused."""

import json
from typing import Any, Final, NamedTuple

import pytest

from keyforge.contracts.errors import Problem
from keyforge.edge.core.dialects.failure import MAY_BILL, failure_of
from keyforge.edge.core.dialects.provider_error import ProviderError
from keyforge.edge.core.dialects.quirks import quirks_of
from keyforge.edge.core.judge import OutgoingRequest
from keyforge.keys.core.presets import PRESETS
from tests.unit.edge_outgoing import prepared
from tests.unit.edge_twins import NOW

MAX: Final = "max_tokens"
COMPLETION: Final = "max_completion_tokens"


class Row(NamedTuple):
    """`caps`: the name of the cap where the agent names none, `max_tokens`, the other, both. `seen`: which usage an
    agent that did not ask for it sees, of one beside choices and one alone."""

    kind: str
    caps: tuple[str, str, str, str] = (MAX, MAX, MAX, MAX)
    asks: bool = True
    seen: tuple[bool, bool] = (False, False)
    tier: str | None = None


ROWS: Final = (
    Row("openai", (COMPLETION,) * 4, tier="default"),
    Row("anthropic", (MAX, MAX, COMPLETION, MAX)),
    Row("groq", (COMPLETION, MAX, COMPLETION, COMPLETION)),
    Row("mistral", asks=False, seen=(True, True)),
    Row("deepseek", seen=(True, False)),
    Row("openrouter", (MAX, MAX, COMPLETION, MAX), seen=(True, True)),
    Row("google"),
    Row("gemini"),
    Row("cerebras", (COMPLETION,) * 4),
    Row("openai-compatible"),
)
ASKED: Final[tuple[dict[str, int], ...]] = ({}, {MAX: 9}, {COMPLETION: 9}, {MAX: 9, COMPLETION: 9})
USAGE: Final = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
PREDICTION: Final = {"type": "content", "content": "the old text"}

table = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.kind)


def sent(kind: str, **fields: Any) -> dict[str, Any]:
    found = prepared(kind, **fields)
    assert isinstance(found, OutgoingRequest), found
    body: dict[str, Any] = json.loads(found.body)
    return body


def test_every_preset_has_a_row_here() -> None:
    assert set(PRESETS) <= {row.kind for row in ROWS}


@table
def test_the_cap_has_one_name_and_the_agents_own_where_the_provider_takes_both(row: Row) -> None:
    for asked, name in zip(ASKED, row.caps, strict=True):
        body = sent(row.kind, **asked)
        assert [one for one in (MAX, COMPLETION) if one in body] == [name]
        assert sent(row.kind, **asked, prediction=PREDICTION).keys() & {MAX, COMPLETION} == {MAX}


@table
def test_streams_are_asked_for_usage_and_tiers_are_named_where_that_is_needed(row: Row) -> None:
    body = sent(row.kind, stream=True)
    assert ("stream_options" in body, body.get("service_tier")) == (row.asks, row.tier)
    assert ("stream_options" in sent(row.kind, stream=True, stream_options={"include_usage": True})) == row.asks
    assert "stream_options" not in sent(row.kind)


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


@table
def test_a_usage_is_hidden_only_where_it_exists_because_we_asked(row: Row) -> None:
    text = event(choices=[{"index": 0, "delta": {"content": "a"}}])
    last = {"index": 0, "delta": {}, "finish_reason": "stop"}
    beside, alone = event(choices=[last], usage=USAGE), event(choices=[], usage=USAGE)
    for asked in (False, True):
        options: dict[str, Any] = {"stream_options": {"include_usage": True}} if asked else {}
        request = prepared(row.kind, stream=True, **options)
        assert isinstance(request, OutgoingRequest)
        for usage, seen in ((beside, row.seen[0]), (alone, row.seen[1])):
            reader = request.speaks.stream(request.request, request.workload, 99, request.sending.quirks)
            out = reader.feed(text + usage) + reader.feed(b"data: [DONE]\n\n")
            assert out.startswith(text)
            assert (usage in out, b'"usage"' in out) == ((True, True) if asked or seen else (False, False))
            assert reader.usage is not None


@table
def test_failures_of_a_gateway_cost_nothing_where_the_provider_says_so(row: Row) -> None:
    unbilled = quirks_of(row.kind).unbilled
    assert unbilled <= MAY_BILL
    for status in MAY_BILL:
        told = ProviderError(status, "x", details={"message": "x"})
        found = failure_of(told, b"", (), kind=row.kind, quirks=quirks_of(row.kind), now=NOW)
        assert found.billed == (status not in unbilled)
    assert bool(unbilled) == (row.kind in {"openrouter", "google", "gemini"})


# --- what is ignored in silence ---------------------------------------------------------------------------------------

SCHEMA: Final = {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}
MARK: Final = {"cache_control": {"type": "ephemeral"}}


def tool(**more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", **more}}


REFUSED: Final[list[Any]] = [
    pytest.param({"response_format": SCHEMA}, "response_format", id="a schema"),
    pytest.param({"response_format": {"type": "json_object"}}, "response_format", id="JSON"),
    pytest.param({"tools": [tool(), tool(strict=True)]}, "tools[1].function.strict", id="strict"),
    pytest.param({"functions": [{"name": "f", "strict": True}]}, "functions[0].strict", id="strict, the old way"),
    pytest.param({"n": 2}, "n", id="two completions"),
    pytest.param({"logprobs": True, "top_logprobs": 2}, "logprobs", id="logprobs"),
    pytest.param({"messages": [{"role": "user", "content": "a", **MARK}]}, "messages[0].cache_control", id="message"),
    pytest.param(
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "", **MARK}]}
            ]
        },
        "messages[0].content[1].cache_control",
        id="part",
    ),
    pytest.param(
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": "https://x.example/a", **MARK}]}
            ]
        },
        "messages[0].content[0].cache_control",
        id="image",
    ),
    pytest.param({"tools": [tool() | MARK]}, "tools[0].cache_control", id="tool"),
]
NOTHING_ASKED: Final[list[dict[str, Any]]] = [
    {},
    {"response_format": {"type": "text"}},
    {"response_format": None, "n": None, "logprobs": None, "tools": None, "functions": None},
    {"n": 1, "logprobs": False},
    {"tools": [tool(strict=False), {"type": "custom", "custom": {"name": "c"}}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "a", "cache_control": None}]}]},
    {"messages": [{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}], "cache_control": None}]},
]


@pytest.mark.parametrize(("fields", "param"), REFUSED)
def test_what_anthropics_compatibility_layer_ignores_is_refused_by_its_name(fields: dict[str, Any], param: str) -> None:
    found = prepared("anthropic", **fields)
    assert isinstance(found, Problem)
    assert (found.kind.type, found.kind.status, found.param) == ("field_unsupported", 400, param)
    assert f"`{param}`" in found.message
    for kind in {row.kind for row in ROWS} - {"anthropic"}:
        assert isinstance(prepared(kind, **fields), Problem) == (param in quirks_of(kind).refused)


@pytest.mark.parametrize("fields", NOTHING_ASKED)
def test_what_asks_for_nothing_is_sent(fields: dict[str, Any]) -> None:
    assert isinstance(prepared("anthropic", **fields), OutgoingRequest)


def test_embeddings_have_nothing_that_could_be_ignored() -> None:
    found = prepared("anthropic")
    assert isinstance(found, OutgoingRequest)
    assert found.speaks.fit(found.request, quirks_of("anthropic")) == ()
