"""What a request settles at, and which terminal counts."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyforge.contracts import settlement
from keyforge.contracts.limits import CAP_MAX, UNITS, Amounts
from keyforge.contracts.settlement import CANCELLED, Settled, Terminal
from keyforge.contracts.usage import UnitPrices, Usage
from tests.unit.budget_facts import PRICES

RESERVED = Amounts(nusd=100, tokens=50)
DEAR = msgspec.structs.replace(PRICES, request_nusd=5)


@pytest.mark.parametrize(
    ("settled", "nusd", "tokens", "requests"),
    [
        pytest.param(settlement.completed(Usage(output_tokens=7), PRICES, RESERVED), 7, 7, 1, id="usage at its prices"),
        pytest.param(settlement.completed(Usage(), PRICES, RESERVED), 0, 0, 1, id="nothing billed, still a request"),
        pytest.param(settlement.completed(Usage(), DEAR, RESERVED), 0, 0, 1, id="nor the price of a request"),
        pytest.param(settlement.completed(Usage(output_tokens=7), DEAR, RESERVED), 12, 7, 1, id="with what was used"),
        pytest.param(settlement.completed(None, PRICES, RESERVED), 100, 50, 1, id="usage unknown: the reserved"),
        pytest.param(settlement.abandoned(RESERVED), 100, 50, 1, id="abandoned: the reserved"),
        pytest.param(CANCELLED, 0, 0, 0, id="cancelled: nothing, not even a request"),
        pytest.param(settlement.completed(Usage(output_tokens=-9), PRICES, RESERVED), 0, 0, 1, id="never a refund"),
    ],
)
def test_settlement(settled: Settled, nusd: int, tokens: int, requests: int) -> None:
    assert (settled.of("usd"), settled.of("tokens"), settled.of("requests")) == (nusd, tokens, requests)
    assert settled.of("concurrency") == 0


@pytest.mark.parametrize(
    ("before", "terminal", "counts"),
    [
        (None, "completed", True),
        (None, "cancelled", True),
        (None, "abandoned", True),
        ("abandoned", "completed", True),
        ("abandoned", "cancelled", False),
        ("abandoned", "abandoned", False),
        ("completed", "abandoned", False),
        ("completed", "completed", False),
        ("completed", "cancelled", False),
        ("cancelled", "completed", False),
    ],
)
def test_which_terminal_counts(before: Terminal | None, terminal: Terminal, counts: bool) -> None:
    assert settlement.counts(terminal, before) is counts


def test_overran_in_money_or_in_tokens() -> None:
    assert not settlement.overran(Settled("completed", 100, 50, 1), RESERVED)
    assert settlement.overran(Settled("completed", 101, 1, 1), RESERVED)
    assert settlement.overran(Settled("completed", 1, 51, 1), RESERVED)


@given(st.builds(Usage, input_tokens=st.integers(-(2**63), 2**63), output_tokens=st.integers(-(2**63), 2**63)))
def test_no_usage_outgrows_64_bits_or_refunds(usage: Usage) -> None:
    dear = UnitPrices(
        input_nusd=2**62,
        cache_read_nusd=0,
        cache_write_1h_nusd=0,
        cache_write_nusd=0,
        input_audio_nusd=0,
        output_nusd=2**62,
        reasoning_nusd=0,
        output_audio_nusd=0,
    )
    settled = settlement.completed(usage, dear, RESERVED)
    assert all(0 <= settled.of(unit) <= CAP_MAX for unit in UNITS)
