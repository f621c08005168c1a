"""What is stored is compared with the log's fold, and nothing that is stored is believed: each row proves itself."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from keyforge.audit.core.beginning import Beginning
from keyforge.audit.core.evidence import (
    AuthenticityCheck,
    StoredEnd,
    end_differs,
    is_authentic,
    page_fault,
    spend_differs,
    stored_end,
)
from keyforge.audit.core.folded_chain import FoldedChain, sum_up
from keyforge.audit.core.position import evidence_positions, stored_state
from keyforge.audit.core.sealed import NO_HEAD, Head, KeySpend, Sealed
from keyforge.audit.core.verifying import Verification
from keyforge.chain import record as rec
from keyforge.chain.record import RecordType
from keyforge.chain.seal import Chain, Mac, MasterKey, Record
from keyforge.chain.verify import Stored
from tests.unit import audit_facts as facts
from tests.unit.audit_facts import MASTER

NAME, OTHER = "key/acme/Key000000001", "key/acme/Key000000002"
RECORDS = 6


def sealed(count: int = RECORDS, *, name: str = NAME, history: str = "one", partition: int = 0) -> list[Record]:
    chain = Chain(name, MASTER, partition=partition)
    return [
        chain.seal(RecordType.KEY_UPDATED, b'{"%s":%d}' % (history.encode(), n), sequence=10 + n, index=0, time_ns=n)
        for n in range(count)
    ]


def stored(records: list[Record]) -> list[Stored]:
    return [Stored(record.header, record.hash, record.mac, record.body) for record in records]


def under_our_key(header: bytes) -> Stored:
    """What whoever has the key of our chain makes of a header."""
    hash_ = rec.record_hash(header)
    return Stored(header, hash_, Mac(MASTER.chain_key(rec.chain_id(NAME))).of(hash_), None)


ROWS = stored(sealed())
HEAD = Head(RECORDS, ROWS[-1].hash)
LAST = ROWS[-1]
REAL = facts.stored(
    facts.fold(
        [
            facts.begun(),
            facts.adm(facts.admitted(1)),
            facts.use(facts.completed(1)),
            facts.adm(facts.admitted(2)),
            facts.use(facts.completed(2)),
            facts.adm(facts.admitted(3)),
        ]
    ),
    NAME,
)
"""The same number of records that mean what their bodies say."""
REAL_HEAD = Head(RECORDS, REAL[-1].hash)
FORGED = [
    pytest.param(LAST._replace(header=LAST.header[:-1]), id="a header that was cut"),
    pytest.param(LAST._replace(header=LAST.header[:-1] + b"\0"), id="another header"),
    pytest.param(LAST._replace(hash=ROWS[0].hash), id="another hash"),
    pytest.param(LAST._replace(mac=ROWS[0].mac), id="another MAC"),
    pytest.param(stored(sealed(name=OTHER))[-1], id="another chain's"),
    pytest.param(
        under_our_key(stored(sealed(name=OTHER))[-1].header), id="another chain's, sealed with this one's key"
    ),
]


def test_what_was_sealed_is_authentic() -> None:
    assert is_authentic(NAME, LAST, MASTER)
    assert stored_end(NAME, RECORDS, RECORDS, LAST, MASTER) == StoredEnd(
        NAME, RECORDS, LAST.hash, RECORDS, authentic=True, partition=0, sequence=15
    )


@pytest.mark.parametrize("forged", FORGED)
def test_what_was_not_is_not_and_says_nothing_of_the_log(forged: Stored) -> None:
    assert not is_authentic(NAME, forged, MASTER)
    found = stored_end(NAME, RECORDS, RECORDS, forged, MASTER)
    assert (found.authentic, found.partition, found.sequence) == (False, 0, 0)


def test_what_another_master_key_sealed_is_not_authentic() -> None:
    assert not is_authentic(NAME, LAST, MasterKey(1, bytes(32)))


def test_a_column_beside_a_record_is_not_believed() -> None:
    assert not stored_end(NAME, RECORDS + 1, RECORDS, LAST, MASTER).authentic


@pytest.mark.parametrize(
    ("end", "head", "why"),
    [
        pytest.param((RECORDS, LAST.hash, RECORDS), HEAD, "", id="the same"),
        pytest.param(None, NO_HEAD, "", id="nothing of nothing"),
        pytest.param(None, HEAD, "nothing is stored of it", id="nothing"),
        pytest.param((1, LAST.hash, 1), NO_HEAD, "it is not in the log", id="of no log"),
        pytest.param((5, LAST.hash, 5), HEAD, "it is stored up to seq 5, in the log it ends at 6", id="too short"),
        pytest.param((7, LAST.hash, 7), HEAD, "it is stored up to seq 7, in the log it ends at 6", id="too long"),
        pytest.param((6, ROWS[0].hash, 6), HEAD, "its last record is another one in the log", id="another last"),
        pytest.param((6, LAST.hash, 4), HEAD, "2 records are missing", id="with a gap"),
    ],
)
def test_an_end_differs(end: tuple[int, bytes, int] | None, head: Head, why: str) -> None:
    found = None if end is None else StoredEnd(NAME, *end, authentic=True, partition=0, sequence=1)
    assert end_differs(found, head) == why


SPEND = KeySpend(requests=2, rows=3, settled_nusd=40, tokens=5, digest=6)


@pytest.mark.parametrize(
    ("found", "folded", "why"),
    [
        pytest.param(SPEND, SPEND, "", id="the same"),
        pytest.param(None, None, "", id="nothing"),
        pytest.param(None, SPEND._replace(requests=0, rows=1, tokens=0), "rows 0, in the log 1", id="nothing stored"),
        pytest.param(SPEND._replace(requests=0), None, "tokens 5, in the log 0", id="of no log"),
        pytest.param(SPEND._replace(tokens=6), SPEND, "tokens 6, in the log 5", id="tokens"),
        pytest.param(SPEND._replace(settled_nusd=39), SPEND, "settled_nusd 39, in the log 40", id="money"),
        pytest.param(
            SPEND._replace(requests=1, rows=2), SPEND, "requests 1, in the log 2; rows 2, in the log 3", id="two"
        ),
        pytest.param(SPEND._replace(digest=7), SPEND, "its rows are not those of the log", id="rows alone"),
    ],
)
def test_spend_differs(found: KeySpend | None, folded: KeySpend | None, why: str) -> None:
    differs = spend_differs(found, folded)
    assert why in differs
    assert bool(differs) == bool(why)


def fault(rows: list[Stored], after: int = 0, *, anchor: Head = HEAD) -> int | None:
    chain_id = rec.chain_id(NAME)
    return page_fault(rows, after, anchor, Mac(MASTER.chain_key(chain_id)).of, chain_id)


@pytest.mark.parametrize("after", range(RECORDS))
def test_the_rows_of_a_log_have_no_fault(after: int) -> None:
    assert fault(ROWS[after:], after) is None


CHANGES: list[Callable[[Stored], Stored]] = [
    lambda row: row._replace(header=row.header[:-1] + bytes((row.header[-1] ^ 1,))),
    lambda row: row._replace(header=row.header + b"\0"),
    lambda row: row._replace(hash=bytes(32)),
    lambda row: row._replace(mac=bytes(32)),
    lambda row: row._replace(body=b"{}"),
    lambda row: row._replace(body=None),
]


@pytest.mark.parametrize("change", CHANGES, ids=["header", "longer header", "hash", "MAC", "body", "no body"])
@pytest.mark.parametrize("place", range(RECORDS))
def test_a_row_that_was_changed_is_found_where_it_is(place: int, change: Callable[[Stored], Stored]) -> None:
    assert fault([*ROWS[:place], change(ROWS[place]), *ROWS[place + 1 :]]) == place + 1


@pytest.mark.parametrize("place", range(RECORDS))
def test_a_row_that_is_missing_or_there_twice_is_found_where_it_is(place: int) -> None:
    assert fault([*ROWS[:place], *ROWS[place + 1 :]]) == place + 1
    assert fault([*ROWS[: place + 1], *ROWS[place:]]) == place + 2
    assert fault([*ROWS[2:place], *ROWS[place + 1 :]], 2) == max(place + 1, 3) if place >= 2 else True


def test_another_history_under_our_own_key_is_not_the_logs() -> None:
    other = stored(sealed(history="other"))
    assert fault(other) == RECORDS
    assert fault([*other[:3], *ROWS[3:]]) == 3, "the last of it that the records after it do not contain"


def test_a_record_before_the_first_one_is_surplus() -> None:
    end = StoredEnd(NAME, RECORDS, HEAD[1], RECORDS + 1, authentic=True, partition=0, sequence=1)
    assert end_differs(end, HEAD) == "a record of seq 0 is stored"


def test_only_authentic_ends_move_a_position_each_log_by_its_furthest() -> None:
    def end(partition: int, sequence: int, *, authentic: bool = True) -> StoredEnd:
        return StoredEnd(NAME, 1, b"", 1, authentic=authentic, partition=partition, sequence=sequence)

    ends = [end(0, 5), end(0, 3), end(1, 2), end(1, 9, authentic=False), end(2, 1, authentic=False)]
    assert evidence_positions(ends) == {0: 5, 1: 2}


def test_an_end_of_a_request_proves_that_the_records_before_it_were_stored() -> None:
    state = stored_state({0: 5, 1: 9}, {0: 7, 1: 8, 2: 3})
    assert [state.sequence(partition) for partition in range(4)] == [7, 9, 3, 0]
    assert dict(state.requests) == {0: 7, 1: 8, 2: 3}


def folded(records: list[Record], sequence: int) -> Sealed:
    return Sealed(records=records, sequence=sequence)


def begins(records: list[Record]) -> Beginning:
    return Beginning((rec.unpack(record.header).sequence, record.hash) for record in records)


def test_a_log_of_which_nothing_is_stored_is_the_same() -> None:
    assert not begins([]).differs_after(folded(sealed(), 15))


def test_one_stored_record_shows_that_a_log_is_the_same() -> None:
    beginning = begins(sealed()[1:3])
    # What is stored may be of later messages; and once it is known, it is for good.
    for messages in (folded(sealed(1), 10), folded(sealed(2)[1:], 11), folded(sealed(history="other"), 99)):
        assert not beginning.differs_after(messages)


def test_a_log_that_passed_all_that_is_stored_is_another_one() -> None:
    beginning, other = begins(sealed()[:3]), sealed(history="other")
    assert not beginning.differs_after(folded(other[:2], 11))
    assert beginning.differs_after(folded(other[2:], 12))


def verified(rows: list[Stored], head: Head = HEAD, *, page: int = 2, master: MasterKey = MASTER) -> str:
    """Verify a page at a time, as a reader of a store does."""
    verification, pages = Verification(NAME, master, head), 0
    while (after := verification.next_after) is not None:
        verification.check(rows[after : after + page], after + page)
        pages += 1
        assert pages <= RECORDS
    return str(verification.verdict())


def test_a_chain_is_verified_to_its_head_in_the_log() -> None:
    assert verified(REAL, REAL_HEAD) == "VALID to seq 6"
    assert verified(REAL, REAL_HEAD, page=RECORDS) == "VALID to seq 6"
    assert verified([], NO_HEAD) == "VALID to seq 0"
    assert verified(REAL[:4], REAL_HEAD) == "INVALID at seq 5: the chain ends at seq 4, expected 6"
    assert verified(REAL, Head(RECORDS, bytes(32))) == "INVALID at seq 6: the last hash is not the expected head"


def test_what_is_invalid_ends_the_verification() -> None:
    verification = Verification(NAME, MASTER, REAL_HEAD)
    verification.check([REAL[0], REAL[1]._replace(mac=bytes(32))], 1)
    assert verification.next_after is None
    assert str(verification.verdict()) == "INVALID at seq 2: the MAC is wrong"


def test_a_record_under_another_version_of_the_master_key_is_not_verified() -> None:
    assert "the master key of version 1 is unknown" in verified(ROWS, master=MasterKey(2, MASTER.secret))


def test_a_chain_comes_to_its_end_and_to_digests_that_bind_each_mac_to_its_record() -> None:
    records = sealed()
    swapped = [replace(records[1], mac=records[2].mac), replace(records[2], mac=records[1].mac)]
    whole, in_parts, other = dict[str, FoldedChain](), dict[str, FoldedChain](), dict[str, FoldedChain]()
    sum_up(whole, records)
    sum_up(in_parts, records[:2])
    sum_up(in_parts, records[2:])
    sum_up(other, [records[0], *swapped, *records[3:]])
    assert whole == in_parts
    assert (whole[NAME].head, other[NAME].head) == (HEAD, HEAD)
    assert whole[NAME].digests != other[NAME].digests


class CountedKey(MasterKey):
    """A master key that counts how often the key of a chain is derived from it."""

    derived: list[bytes]

    def chain_key(self, chain: bytes) -> bytes:
        self.derived.append(chain)
        return super().chain_key(chain)


def test_no_key_is_derived_for_a_row_that_is_wrong_without_one() -> None:
    """Rows can be made up in great numbers, each on a chain of its own; to derive its key costs the most."""
    counted = CountedKey(*MASTER)
    counted.derived = []
    check = AuthenticityCheck(counted)
    for wrong in (
        LAST._replace(hash=bytes(32)),
        LAST._replace(body=b"{}"),
        LAST._replace(header=LAST.header[:-1]),
        LAST._replace(header=bytes(len(LAST.header))),
    ):
        assert not check.is_authentic(NAME, wrong)
        assert not is_authentic(NAME, wrong, counted)
    assert not any(check.is_authentic(f"{NAME}{number}", LAST) for number in range(100))
    assert counted.derived == []
    assert all(check.is_authentic(NAME, one) for one in ROWS)
    assert len(counted.derived) == 1
