"""What providers report as usage, in the spellings of recorded traffic, and what makes no sense."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import fields

from keyforge.contracts.usage import Usage
from keyforge.edge.core.dialects.base import MeteredAnswer
from keyforge.edge.core.dialects.openai_chat.answer import read_chat, read_embeddings
from keyforge.edge.core.dialects.openai_chat.usage import (
    CompletionDetails,
    PromptDetails,
    UsageFields,
    read_cost_nusd,
    read_usage,
)
from keyforge.edge.core.dialects.usage_names import SPELLINGS
from keyforge.edge.core.pricing.workload import Workload


def usage(prompt: Any = 100, completion: Any = 20, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, **more}


@pytest.mark.parametrize(
    ("usage", "buckets"),
    [
        pytest.param(usage(), Usage(input_tokens=100, output_tokens=20), id="plain"),
        pytest.param(
            usage(prompt_tokens_details={"cached_tokens": 60, "audio_tokens": 10, "cache_write_tokens": 5}),
            Usage(input_tokens=25, cache_read_tokens=60, cache_write_tokens=5, input_audio_tokens=10, output_tokens=20),
            id="parts of the prompt",
        ),
        pytest.param(
            usage(completion_tokens_details={"reasoning_tokens": 15, "audio_tokens": 3}),
            Usage(input_tokens=100, output_tokens=2, reasoning_tokens=15, output_audio_tokens=3),
            id="parts of the completion",
        ),
        pytest.param(
            usage(prompt_cache_hit_tokens=64, prompt_cache_miss_tokens=36),
            Usage(input_tokens=36, cache_read_tokens=64, output_tokens=20),
            id="DeepSeek",
        ),
        pytest.param(
            usage(num_cached_tokens=40), Usage(input_tokens=60, cache_read_tokens=40, output_tokens=20), id="Mistral"
        ),
        pytest.param(
            usage(prompt_tokens_details=None, completion_tokens_details=None, total_tokens=120),
            Usage(input_tokens=100, output_tokens=20),
            id="null details",
        ),
        pytest.param(
            usage(35, 12, total_tokens=109),
            Usage(input_tokens=35, output_tokens=12, reasoning_tokens=62),
            id="Gemini: reasoning is only in the total",
        ),
        pytest.param(
            usage(10, 100, total_tokens=410, completion_tokens_details={"reasoning_tokens": 300}),
            Usage(input_tokens=10, output_tokens=100, reasoning_tokens=300),
            id="xAI: reasoning is beside the completion",
        ),
        pytest.param(
            usage(2168, 100, prompt_tokens_details={"cached_tokens": 2161, "cache_write_tokens": 2161}),
            Usage(input_tokens=7, cache_read_tokens=2161, cache_write_tokens=2161, output_tokens=100),
            id="Gemini through OpenRouter: read and written are the same tokens, both billed",
        ),
        pytest.param(usage(0, 180), Usage(output_tokens=180), id="a provider that reports no prompt"),
        pytest.param(
            usage(prompt_tokens_details={"cached_tokens": 0}, cached_tokens=40),
            Usage(input_tokens=100, output_tokens=20),
            id="details that say none come before any other place",
        ),
    ],
)
def test_buckets_are_disjoint(usage: Any, buckets: Any) -> None:
    assert read_usage(usage) == buckets


@pytest.mark.parametrize(
    "usage",
    [
        None,
        "12",
        [],
        {},
        usage(None),
        usage(completion=None),
        {"prompt_tokens": 5},
        usage(-1),
        usage(1.5),
        usage(float("nan")),
        usage(float("inf")),
        usage(-1.0),
        usage(True),
        usage("100.0"),
        usage(" 100"),
        usage("1e2"),
        usage("-1"),
        usage("١٠"),
        usage(""),
        usage("9" * 11),
        usage(1e12),
        usage(10**12),
        usage(0, 0),
        usage(prompt_tokens_details=[7]),
        usage(prompt_tokens_details="none"),
        usage(completion_tokens_details=[]),
        usage(prompt_tokens_details={"cached_tokens": 101}),
        usage(prompt_tokens_details={"cached_tokens": 60, "audio_tokens": 60}),
        usage(completion_tokens_details={"reasoning_tokens": 21}),
        usage(completion_tokens_details={"reasoning_tokens": -1}),
        usage(total_tokens="120 tokens"),
        usage(total_tokens=[]),
        usage(cache_creation_input_tokens="many"),
        usage(input_tokens=-1),
        {"total_tokens": 120},
        {"input_tokens": 9, "output_tokens": 1, "iterations": [{"input_tokens": 9, "output_tokens": 1, "model": "m"}]},
        {"input_tokens": 9, "output_tokens": 1, "iterations": [{"input_tokens": 9, "output_tokens": "1.0"}]},
        {"input_tokens": 9, "output_tokens": 1, "iterations": {"input_tokens": 9}},
        {"input_tokens": 9, "output_tokens": 1, "iterations": [{}] * 257},
    ],
)
def test_unknown_is_never_zero(usage: Any) -> None:
    assert read_usage(usage) is None


def test_embeddings_have_no_completion() -> None:
    assert read_usage({"prompt_tokens": 7, "total_tokens": 7}, embeddings=True) == Usage(input_tokens=7)
    assert read_usage({"prompt_tokens": 7, "total_tokens": 9}, embeddings=True) == Usage(input_tokens=9)
    assert read_usage({"prompt_tokens": 0}, embeddings=True) is None
    assert read_usage({"total_tokens": 7}, embeddings=True) == Usage(input_tokens=7)
    assert read_usage({"total_tokens": -7}, embeddings=True) is None


@pytest.mark.parametrize(
    ("cost", "nusd"),
    [
        (0, 0),
        (0.00004, 40_000),
        (0.0160614, 16_061_400),
        (1e-10, 1),
        (-1, None),
        ("1", None),
        (True, None),
        (1e300, None),
    ],
)
def test_a_reported_cost_is_rounded_up_or_left_out(cost: Any, nusd: Any) -> None:
    assert read_cost_nusd({"cost": cost}) == nusd


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (
            json.dumps({"choices": [{}], "usage": usage()}).encode(),
            MeteredAnswer(Usage(input_tokens=100, output_tokens=20)),
        ),
        (
            b'{"s":"\\ud83d","choices":[{}],"usage":{"prompt_tokens":1,"completion_tokens":0}}',
            MeteredAnswer(Usage(input_tokens=1)),
        ),
        (b'{"choices":[]}', MeteredAnswer(written=False, suspicious=True)),
        (b'{"choices":null}', MeteredAnswer(written=False, suspicious=True)),
        (b'{"choices":[{}],"error":null}', MeteredAnswer(suspicious=True)),
        (b'{"data":[{}]}', MeteredAnswer()),
        (
            b'{"choices":[{}],"usage":{"prompt_tokens":0,"completion_tokens":0},"x_groq":{"usage":%s}}'
            % b'{"prompt_tokens":"7","completion_tokens":2.0}',
            MeteredAnswer(Usage(input_tokens=7, output_tokens=2)),
        ),
        (
            b'{"choices":[{}],"usage":"none","usageMetadata":{"promptTokenCount":7,"candidatesTokenCount":2}}',
            MeteredAnswer(unclear=True),
        ),
        (
            b'{"choices":[{}],"usage":null,"usageMetadata":{"promptTokenCount":7,"candidatesTokenCount":2}}',
            MeteredAnswer(Usage(input_tokens=7, output_tokens=2)),
        ),
        (b"[1]", None),
        (b'{"usage":', None),
        (b"\xff", None),
        (b"[" * 100_000, None),
    ],
)  # fmt: skip
def test_a_json_answer(body: Any, answer: Any) -> None:
    assert read_chat(body, Workload()) == answer


def test_an_answer_knows_what_was_asked() -> None:
    written = usage(prompt_tokens_details={"cache_write_tokens": 5})
    body = json.dumps({"choices": [{}], "usage": written}).encode()
    minutes, hours = (read_chat(body, Workload(cache_1h=asked)) for asked in (False, True))
    assert minutes == MeteredAnswer(Usage(input_tokens=95, cache_write_tokens=5, output_tokens=20))
    assert hours == MeteredAnswer(Usage(input_tokens=95, cache_write_1h_tokens=5, output_tokens=20))
    assert read_embeddings(b'{"data":[{}],"usage":{"total_tokens":5}}', Workload(writes=False)) == MeteredAnswer(
        Usage(input_tokens=5)
    )


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
counts = st.integers(0, 200) | anything
details = st.fixed_dictionaries(
    {}, optional={"cached_tokens": counts, "audio_tokens": counts, "reasoning_tokens": counts}
)


def test_what_the_usual_usage_passes_over_is_no_count_in_any_spelling() -> None:
    counted = {path for spelling in SPELLINGS for path in spelling.paths()}
    places: dict[type[Struct], str] = {
        UsageFields: "",
        PromptDetails: "prompt_tokens_details.",
        CompletionDetails: "completion_tokens_details.",
    }
    passed_over = {
        place + field.name for struct, place in places.items() for field in fields(struct) if field.type is Any
    }
    assert len(passed_over) == 16
    assert not passed_over & counted


@given(
    st.fixed_dictionaries(
        {"prompt_tokens": counts, "completion_tokens": counts},
        optional={
            "total_tokens": counts,
            "prompt_tokens_details": details | anything,
            "completion_tokens_details": details | anything,
        },
    )
)
def test_what_is_believed_adds_up(usage: Any) -> None:
    read = read_usage(usage)
    if read is not None:
        assert min(read.input_tokens, read.output_tokens, read.cache_read_tokens, read.reasoning_tokens) >= 0
        assert (
            read.tokens == max(usage["prompt_tokens"] + usage["completion_tokens"], usage.get("total_tokens") or 0) > 0
        )
