"""Where usage is, which of two counts, and the laws that hold for any usage, whatever it is called."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyforge.contracts.usage import UnitPrices, Usage
from keyforge.edge.core.dialects import usage_table
from keyforge.edge.core.dialects.openai_chat.usage import later, read_usage
from keyforge.edge.core.dialects.usage_names import SPELLINGS

TRUTH = {"prompt_tokens": 25, "completion_tokens": 9, "total_tokens": 34}
KNOWN = Usage(input_tokens=25, output_tokens=9)


def nested(counts: dict[str, Any]) -> dict[str, Any]:
    """Write counts, by path, as an API would."""
    root: dict[str, Any] = {}
    for path, count in counts.items():
        *objects, name = path.split(".")
        inner = root
        for one in objects:
            inner = inner.setdefault(one, {})
        inner[name] = count
    return root


@pytest.mark.parametrize(
    "answer",
    [
        {"usage": TRUTH},
        {"usage": None, "x_groq": {"id": "req_1", "usage": TRUTH}},
        {"usage": TRUTH, "x_groq": {"id": "req_1", "usage": TRUTH}},
        {"usage": {"prompt_tokens": 0, "completion_tokens": 0}, "x_groq": {"usage": TRUTH}},
        {"usageMetadata": {"promptTokenCount": 25, "candidatesTokenCount": 9}},
        {"usage_metadata": {"prompt_token_count": 25, "candidates_token_count": 9}},
        {"meta": {"api_version": {"version": "1"}, "billed_units": {"input_tokens": 25, "output_tokens": 9}}},
        {"message": {"usage": {"input_tokens": 25, "output_tokens": 9}}, "type": "message_start"},
        {"response": {"usage": {"input_tokens": 25, "output_tokens": 9}}, "type": "response.completed"},
        {"delta": {"usage": {"billed_units": {"input_tokens": 25, "output_tokens": 9}}}, "type": "message-end"},
        {"type": "message_stop", "amazon-bedrock-invocationMetrics": {"inputTokenCount": 25, "outputTokenCount": 9}},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": TRUTH}]},
        {"usage": {}, "choices": [{"index": 0, "usage": TRUTH}]},
        {"usage": TRUTH, "meta": "of something else", "message": "none", "response": [], "usageMetadata": 7},
    ],
)
def test_every_place(answer: dict[str, Any]) -> None:
    assert usage_table.reported(answer) == KNOWN


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"usage": None},
        {"usage": {}},
        {"usage": "25"},
        {"usage": [TRUTH]},
        {"choices": [{"usage": TRUTH}, {"usage": TRUTH}]},
        {"choices": ["usage"]},
        {"usage": {"prompt_tokens": -1, "completion_tokens": 9}, "x_groq": {"usage": TRUTH}},
        {"usage": TRUTH, "x_groq": {"usage": {"prompt_tokens": 25.5, "completion_tokens": 9}}},
    ],
)
def test_no_place_or_no_sense(answer: dict[str, Any]) -> None:
    assert usage_table.reported(answer) is None


@pytest.mark.parametrize(
    ("fields", "known"),
    [
        pytest.param({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, KNOWN, id="zeros"),
        pytest.param({"input_tokens": "0", "output_tokens": 0.0}, KNOWN, id="zeros of other names"),
        pytest.param({}, KNOWN, id="nothing"),
        pytest.param({"prompt_tokens": None, "completion_tokens": None}, KNOWN, id="nulls"),
        pytest.param({"prompt_tokens": 25, "completion_tokens": 12}, Usage(input_tokens=25, output_tokens=12),
                     id="more"),
        pytest.param({"prompt_tokens": 20, "completion_tokens": 8}, Usage(input_tokens=20, output_tokens=8), id="less"),
        pytest.param({"prompt_tokens": 25, "completion_tokens": 0}, KNOWN, id="no completion"),
        pytest.param({"prompt_tokens": 0, "completion_tokens": 12}, Usage(input_tokens=25, output_tokens=12),
                     id="no prompt"),
        pytest.param({"output_tokens": 12}, Usage(input_tokens=25, output_tokens=12), id="Anthropic's last event"),
        pytest.param({"prompt_tokens": -1, "completion_tokens": 9}, None, id="negative"),
        pytest.param({"prompt_tokens": 25, "completion_tokens": True}, None, id="no number"),
        pytest.param({"prompt_tokens": 25, "completion_tokens": 9, "prompt_tokens_details": {"cached_tokens": 26}},
                     None, id="a part larger than its whole"),
        pytest.param("25", None, id="text"),
    ],
)  # fmt: skip
def test_what_counts_after_the_truth(fields: Any, known: Usage | None) -> None:
    assert later(KNOWN, fields) == usage_table.later(KNOWN, fields) == known


def test_zeros_first_are_unknown_and_the_truth_replaces_them() -> None:
    zeros = {"prompt_tokens": 0, "completion_tokens": 0}
    assert later(None, zeros) is None
    assert later(later(None, zeros), TRUTH) == KNOWN


@pytest.mark.parametrize(
    ("fields", "minutes", "hours"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cache_write_tokens": 5}}, 0, 5),
        ({"input_tokens": 4, "output_tokens": 1, "cache_creation_input_tokens": 5}, 0, 5),
        (
            {
                "input_tokens": 4, "output_tokens": 1, "cache_creation_input_tokens": 5,
                "cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 2},
            },
            3, 2,
        ),
        (
            {
                "input_tokens": 4, "output_tokens": 1, "cache_creation_input_tokens": 5,
                "cache_creation": {"ephemeral_5m_input_tokens": 3},
            },
            3, 2,
        ),
    ],
)  # fmt: skip
def test_what_is_written_counts_for_an_hour_where_one_was_asked_for(fields: Any, minutes: int, hours: int) -> None:
    """Unless the provider says which: an hour costs more."""
    for read in (read_usage(fields, hour=True), usage_table.read(fields, hour=True)):
        assert read is not None
        assert (read.cache_write_tokens, read.cache_write_1h_tokens) == (minutes, hours)


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt_tokens": 40, "completion_tokens": 10, "cache_read_input_tokens": 60},
        {"prompt_tokens": 40, "completion_tokens": 10, "total_tokens": 110, "cache_read_input_tokens": 60},
        {"input_tokens": 40, "output_tokens": 10, "cache_read_input_tokens": 60},
        {"input_tokens": 40, "output_tokens": 10, "total_tokens": 50, "cache_read_input_tokens": 60},
        {"prompt_tokens": 40, "completion_tokens": 10, "input_tokens": 40, "output_tokens": 10,
         "cache_read_input_tokens": 60},
    ],
)  # fmt: skip
def test_where_it_can_be_read_in_two_ways_the_dearer_counts(fields: Any) -> None:
    assert read_usage(fields) == Usage(input_tokens=40, cache_read_tokens=60, output_tokens=10)


def test_the_total_shows_that_other_names_are_within() -> None:
    fields = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110, "cache_read_input_tokens": 60}
    assert read_usage(fields) == Usage(input_tokens=40, cache_read_tokens=60, output_tokens=10)


def test_two_apis_names_that_disagree() -> None:
    fields = {"prompt_tokens": 25, "completion_tokens": 0, "input_tokens": 25, "output_tokens": 9}
    assert read_usage(fields) == KNOWN
    assert read_usage({**fields, "output_tokens_details": {"reasoning_tokens": 10}}) is None


anything = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.none())
counts = st.integers(0, 200)
spelled = counts | counts.map(float) | counts.map(str)
PATHS = sorted({path for spelling in SPELLINGS for path in spelling.paths()})


@st.composite
def usages(draw: st.DrawFn, values: st.SearchStrategy[Any] = spelled) -> dict[str, Any]:
    """A usage in any mixture of names, of which some are those of one API."""
    spelling = draw(st.sampled_from(SPELLINGS))
    own = [spelling.prompt, spelling.completion]
    more = draw(st.lists(st.sampled_from([*spelling.paths(), *PATHS]), max_size=5))
    return nested({path: draw(values) for path in (*own, *more)})


def flat(fields: Any) -> list[Any]:
    return [leaf for value in fields.values() for leaf in (flat(value) if isinstance(value, dict) else [value])]


@given(usages())
def test_buckets_are_never_negative_and_never_all_zero(fields: dict[str, Any]) -> None:
    read = read_usage(fields)
    assert read is None or (min(getattr(read, name) for name in Usage.__struct_fields__) >= 0 and read.tokens > 0)


@given(usages(spelled | anything))
def test_nothing_unreadable_is_zero(fields: dict[str, Any]) -> None:
    """A usage with any count of a known name that makes no sense is unknown as a whole."""
    if read_usage(fields) is not None:
        for count in flat(fields):
            assert count is None or (not isinstance(count, bool | list) and 0 <= float(count) <= usage_table.TOKENS_MAX)
            assert count is None or float(count).is_integer()


@given(usages())
def test_no_whole_is_undercharged(fields: dict[str, Any]) -> None:
    """Every API's own whole is in the buckets, whichever names stand beside it, but for what another bills less of."""
    read = read_usage(fields)
    if read is None:
        return
    for spelling in SPELLINGS:
        if spelling.not_with and _at(fields, spelling.not_with) is not None:
            continue
        inner = [_at(fields, path) for path in (spelling.prompt, spelling.completion)]
        if None not in inner:
            assert read.tokens >= sum(int(float(one)) for one in inner if one is not None)


def _at(fields: Any, path: str) -> Any:
    for name in path.split("."):
        fields = fields.get(name) if isinstance(fields, dict) else None
    return fields


usual = st.fixed_dictionaries(
    {"prompt_tokens": counts, "completion_tokens": counts},
    optional={
        "total_tokens": counts | st.none(),
        "prompt_tokens_details": st.none()
        | st.fixed_dictionaries(
            {}, optional=dict.fromkeys(("cached_tokens", "cache_write_tokens", "audio_tokens"), counts | st.none())
        ),
        "completion_tokens_details": st.none()
        | st.fixed_dictionaries({}, optional=dict.fromkeys(("reasoning_tokens", "audio_tokens"), counts | st.none())),
        "prompt_cache_hit_tokens": counts,
        "num_cached_tokens": counts,
        "cached_tokens": counts,
    },
)


@given(usual | usages())
def test_the_short_way_and_the_table_agree(fields: dict[str, Any]) -> None:
    assert read_usage(fields) == usage_table.read(fields)


@given(usages(), usages())
def test_a_later_usage_never_takes_a_side_away(first: dict[str, Any], second: dict[str, Any]) -> None:
    before = read_usage(first)
    after = later(before, second)
    if before is not None and after is not None:
        for side in (("input_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens",
                      "input_audio_tokens"), ("output_tokens", "reasoning_tokens", "output_audio_tokens")):  # fmt: skip
            had = any(getattr(before, name) for name in side)
            assert not had or any(getattr(after, name) for name in side)


@given(usages())
def test_an_hour_is_never_cheaper_than_minutes(fields: dict[str, Any]) -> None:
    prices = UnitPrices(
        input_nusd=3, cache_read_nusd=1, cache_write_nusd=4, cache_write_1h_nusd=6, input_audio_nusd=3, output_nusd=9,
        reasoning_nusd=9, output_audio_nusd=9,
    )  # fmt: skip
    asked, usual_ = read_usage(fields, hour=True), read_usage(fields)
    assert (asked is None) == (usual_ is None)
    if asked is not None and usual_ is not None:
        assert asked.tokens == usual_.tokens
        assert prices.cost_nusd(asked) >= prices.cost_nusd(usual_)
