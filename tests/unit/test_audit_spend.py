"""What a key spent, as the fold knows it: the sum of the ends that count, each request once."""

import pytest

from keyforge.audit.core.sealed import KeySpend
from tests.unit.audit_facts import (
    COST_NUSD,
    KEY,
    RESERVED,
    USED,
    Sent,
    abandoned,
    adm,
    admitted,
    begun,
    cancelled,
    completed,
    ctl,
    fold,
    key_created,
    refused,
    use,
)

CHAIN = f"key/acme/{KEY}"
ONE = KeySpend(requests=1, rows=1, settled_nusd=COST_NUSD, tokens=USED.tokens)
HELD = KeySpend(requests=1, rows=1, settled_nusd=RESERVED.nusd, tokens=RESERVED.tokens)


@pytest.mark.parametrize(
    ("messages", "spend"),
    [
        pytest.param([], None, id="open"),
        pytest.param([use(refused(2))], None, id="refused"),
        pytest.param([use(completed(1))], ONE, id="completed"),
        pytest.param([use(completed(1)), use(completed(1))], ONE, id="completed twice"),
        pytest.param([use(completed(1, usage=None))], HELD, id="usage not known"),
        pytest.param([use(cancelled(1))], KeySpend(0, 1, 0, 0), id="cancelled: a row that is no request"),
        pytest.param([adm(abandoned(1))], HELD, id="abandoned"),
        pytest.param([adm(abandoned(1)), use(completed(1))], ONE, id="a late completion replaces what was presumed"),
        pytest.param(
            [adm(admitted(2)), use(completed(1)), adm(abandoned(2))],
            KeySpend(2, 2, COST_NUSD + RESERVED.nusd, USED.tokens + RESERVED.tokens),
            id="two",
        ),
    ],
)
def test_spend(messages: list[Sent], spend: KeySpend | None) -> None:
    assert fold([begun(), adm(admitted(1)), *messages]).spend.get(CHAIN) == spend


def test_keys_spend_each_for_itself() -> None:
    both = [begun(), ctl(key_created("k2")), adm(admitted(1)), adm(admitted(2, key_id="k2"))]
    assert fold([*both, use(completed(2, key_id="k2"))]).spend == {"key/acme/k2": ONE}
