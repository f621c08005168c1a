"""What a model can think beside the cap on its output is reserved: by its price, or by a budget that an agent names."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyforge.contracts.usage import UnitPrices, Usage
from keyforge.edge.core.dialects.quirks import quirks_of
from keyforge.edge.core.pricing import worst_case
from keyforge.edge.core.pricing.workload import Workload
from tests.unit.edge_outgoing import outgoing
from tests.unit.edge_twins import FREE

PRICES = UnitPrices(
    input_nusd=100, cache_read_nusd=50, cache_write_nusd=125, input_audio_nusd=900, output_nusd=400, reasoning_nusd=500,
    output_audio_nusd=9_000, cache_write_1h_nusd=300, request_nusd=7,
)  # fmt: skip

THINKING: list[Any] = [
    pytest.param({}, "other", None, 10, id="nothing is said"),
    pytest.param({}, "other", 500, 510, id="the model thinks beside the cap"),
    pytest.param({}, "openai", 500, 510, id="so it does at a provider that bounds it, if its price says so"),
    pytest.param({"thinking": {"type": "enabled", "budget_tokens": 300}}, "other", None, 310, id="a budget"),
    pytest.param({"thinking": {"type": "enabled", "budget_tokens": 300}}, "anthropic", None, 10, id="within the cap"),
    pytest.param({"thinking": {"type": "enabled", "budget_tokens": 300}}, "deepseek", None, 10, id="so at DeepSeek"),
    pytest.param({"thinking": {"budget_tokens": 300}}, "other", 500, 510, id="a budget is a hint, and lowers nothing"),
    pytest.param({"thinking": {"budget_tokens": 900}}, "anthropic", 500, 910, id="a budget beyond what is known"),
    pytest.param({"thinking": {"a": [{"b": 7}, 300.5], "c": 5}}, "other", None, 311, id="a budget by any name"),
    pytest.param({"thinking": {"type": "disabled"}}, "other", None, 10, id="none"),
    pytest.param({"thinking": {"budget_tokens": -1}}, "other", None, 10, id="as the model likes"),
    pytest.param({"reasoning": {"max_tokens": 300}}, "openrouter", None, 310, id="OpenRouter, which routes anywhere"),
    pytest.param({"reasoning": {"max_tokens": 3}, "thinking": {"x": 300}}, "other", None, 310, id="the larger of two"),
    pytest.param({"reasoning": {"effort": "high"}}, "openrouter", None, 10, id="an effort is a part of the cap"),
    pytest.param({"reasoning_effort": "high"}, "gemini", None, 10, id="so it is at Gemini"),
]


@pytest.mark.parametrize(("asked", "kind", "thinking", "tokens"), THINKING)
@pytest.mark.parametrize("n", [1, 3])
def test_what_is_thought_beside_the_cap_is_reserved(
    asked: dict[str, Any], kind: str, thinking: int | None, tokens: int, n: int
) -> None:
    n = 1 if kind == "anthropic" else n  # which makes one completion alone
    found = outgoing(kind, thinking_max=thinking, max_tokens=10, n=n, **asked)
    assert found.worst.output_tokens == tokens * n
    assert found.sending.cap == 10


def test_no_embedding_thinks() -> None:
    found = worst_case.worst_case(Workload(writes=False), 100, 0, quirks_of("other"), FREE, 500)
    assert isinstance(found, worst_case.WorstCase)
    assert found.output_tokens == 0


@given(
    st.integers(1, 500),
    st.integers(1, 4),
    st.none() | st.integers(1, 2_000),
    st.integers(0, 3_000),
    st.sampled_from(["other", "openrouter", "google", "mistral", "openai", "anthropic", "deepseek"]),
    st.data(),
)
def test_no_model_can_bill_more_however_it_thinks(
    cap: int, n: int, beside: int | None, budget: int, kind: str, data: st.DataObject
) -> None:
    """An adversary that thinks as long as its documentation, its price and the agent let it, beside what it writes."""
    n = 1 if kind == "anthropic" else n
    asked: dict[str, Any] = data.draw(
        st.sampled_from([{"thinking": {"budget_tokens": budget}}, {"reasoning": {"max_tokens": budget}}])
    )
    worst = outgoing(kind, prices=PRICES, thinking_max=beside, max_tokens=cap, n=n, **asked).worst
    within = kind in ("openai", "anthropic", "deepseek") and beside is None
    thought = 0 if within else data.draw(st.integers(0, max(budget, beside or 0)))
    shown = data.draw(st.integers(0, cap))
    billed = Usage(output_tokens=shown * n, reasoning_tokens=(cap - shown + thought) * n)
    assert billed.tokens <= worst.output_tokens
    assert PRICES.cost_nusd(billed) <= worst.nusd
