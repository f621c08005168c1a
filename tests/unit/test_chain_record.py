"""The parts of a record's header that are read by people: ids of requests, positions, amounts."""

import pytest

from keyforge.chain import record as rec
from keyforge.chain.record import NO_REQUEST, RecordType
from keyforge.chain.seal import Chain
from tests.unit.audit_facts import MASTER

UUID = "0192f0c8-1111-7222-8333-000000000001"


def test_a_uuid_is_its_own_bytes_and_reads_as_itself() -> None:
    assert rec.request_bytes(UUID) == bytes.fromhex(UUID.replace("-", ""))
    assert rec.request_text(rec.request_bytes(UUID)) == UUID
    assert rec.request_text(NO_REQUEST) == ""


@pytest.mark.parametrize("other", ["", "r-1", UUID[:-1], UUID[:-1] + "g", UUID.replace("-", ""), UUID + "0"])
def test_any_other_id_has_bytes_of_its_own(other: str) -> None:
    found = {rec.request_bytes(other), rec.request_bytes(UUID), rec.request_bytes("another"), NO_REQUEST}
    assert len(found) == 4
    assert {len(one) for one in found} == {16}


@pytest.mark.parametrize(
    ("amount", "held"),
    [
        (0, 0),
        (-1, -1),
        (rec.AMOUNT_MAX, rec.AMOUNT_MAX),
        (rec.AMOUNT_MAX + 1, rec.AMOUNT_MAX),
        (-rec.AMOUNT_MAX - 2, -rec.AMOUNT_MAX),
    ],
)
def test_an_amount_is_the_nearest_that_a_header_has_room_for(amount: int, held: int) -> None:
    assert rec.held(amount) == held
    sealed = Chain("platform", MASTER, partition=0).seal(
        RecordType.PRICE_SET, b"{}", sequence=1, index=0, time_ns=0, amount_nusd=amount, settled_nusd=2**70
    )
    header = rec.unpack(sealed.header)
    assert (header.amount_nusd, header.settled_nusd) == (held, rec.AMOUNT_MAX)


def test_a_position_is_that_of_the_event() -> None:
    chain = Chain("platform", MASTER, partition=3, generation=2)
    header = rec.unpack(chain.seal(RecordType.PRICE_SET, b"{}", sequence=7, index=5, time_ns=9).header)
    assert (header.position, header.partition, header.time_ns) == ((2, 7, 5), 3, 9)
