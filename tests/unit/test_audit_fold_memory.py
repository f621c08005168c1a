"""What a fold remembers: copies by their subject, ids that are used again, and a hash of every 64th record."""

from datetime import timedelta

from keyforge.audit.core.fold import Fold
from keyforge.audit.core.fold_state import ANCHOR_RECORDS
from keyforge.chain import record as rec
from keyforge.chain.memory import COPIES_S
from keyforge.chain.record import RecordType
from keyforge.contracts.settlement import REMEMBERED_S
from tests.unit import audit_facts as facts
from tests.unit.audit_facts import (
    COST_NUSD,
    KEY,
    MASTER,
    NOW,
    abandoned,
    adm,
    admitted,
    begun,
    completed,
    ctl,
    fold,
    refused,
    use,
)

CHAIN = f"key/acme/{KEY}"
EDGE_1 = "edge-1"


def test_a_copy_is_one_on_the_same_subject() -> None:
    """Two edges may refuse a request of one id, and each of them once."""
    both = [use(refused(1)), use(refused(1, edge=EDGE_1), edge=EDGE_1)]
    found = fold([begun(), *both, *both])
    types = [rec.unpack(record.header).type for record in found.records if record.chain.name == CHAIN]
    assert types.count(RecordType.REQUEST_REFUSED) == 2
    assert (found.repeated, found.rejected) == (2, [])


def test_a_request_whose_id_was_used_before_is_not_forgotten_with_that_one() -> None:
    deadline = NOW + timedelta(minutes=1)
    folding = Fold(0, MASTER)
    before = [begun(), adm(admitted(1, deadline=deadline)), adm(abandoned(1)), use(completed(1))]
    later = NOW + timedelta(seconds=2 * COPIES_S)
    again = [ctl(facts.fenced(), at=later), adm(admitted(1, deadline=later + timedelta(days=9)), at=later)]
    fold([*before, *again], into=folding)
    assert folding.open == 1
    a_day_later = deadline + timedelta(seconds=REMEMBERED_S + 60)
    end = [ctl(facts.fenced(2), at=a_day_later), use(completed(1), at=a_day_later)]
    found = fold(end, into=folding, after=len(before) + len(again))
    assert [(one.settled.terminal, one.settled.nusd) for one in found.ends] == [("completed", COST_NUSD)]


def test_every_64th_record_of_a_chain_is_an_anchor() -> None:
    folding = Fold(0, MASTER)
    count = 2 * ANCHOR_RECORDS + 3
    found = fold([begun(), *(use(refused(number)) for number in range(count))], into=folding)
    hashes = {rec.unpack(record.header).seq: record.hash for record in found.records if record.chain.name == CHAIN}
    first, second = ANCHOR_RECORDS, 2 * ANCHOR_RECORDS
    for after, anchor in ((0, first), (1, first), (first, first), (first + 1, second), (second, second)):
        assert folding.anchor(CHAIN, after) == (anchor, hashes[anchor])
    assert folding.anchor(CHAIN, second + 1) is None
    assert folding.anchor("key/acme/another", 0) is None
