"""A chain verifies, and whatever byte of it is touched, it says where."""

from dataclasses import dataclass

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keyforge.audit.core.fold import Fold
from keyforge.chain import record as rec
from keyforge.chain.seal import MasterKey
from keyforge.chain.verify import Stored, Verifier, verify
from keyforge.contracts.frame import Recorded
from keyforge.contracts.limits import Amounts
from tests.unit import audit_facts as facts
from tests.unit import chain_facts
from tests.unit.audit_facts import MASTER

NAME = "key/acme/Key000000001"
RECORDS = 6


@dataclass
class Made:
    """A chain of a few records."""

    records: list[Stored]
    head: tuple[int, bytes]


def make(count: int = RECORDS, *, master: MasterKey = MASTER, name: str = NAME, history: str = "one") -> Made:
    """The first `count` records of a key: its creation, then admissions and their completions; `history` is in all."""
    key_id = name.rpartition("/")[2]
    messages = [facts.ctl(facts.tenant_created(), _of(history, facts.key_created(key_id)))]
    for n in range(count // 2):
        messages.append(facts.adm(_of(history, facts.admitted(n, key_id=key_id))))
        messages.append(facts.use(_of(history, facts.completed(n, key_id=key_id))))
    made = facts.stored(facts.fold(messages, into=Fold(0, master)), name)[:count]
    return Made(made, (count, made[-1].hash))


def _of(history: str, recorded: Recorded) -> Recorded:
    return msgspec.structs.replace(recorded, source=history)


def flipped(data: bytes, at: int, bit: int) -> bytes:
    return data[:at] + bytes((data[at] ^ 1 << bit,)) + data[at + 1 :]


def test_a_whole_chain_is_valid() -> None:
    made = make()
    verdict = verify(NAME, made.records, MASTER, head=made.head)
    assert str(verdict) == "VALID to seq 6"
    assert verdict.head == made.head[1]


def test_an_empty_chain_is_valid_to_nothing() -> None:
    assert verify(NAME, [], MASTER).seq == 0


@pytest.mark.parametrize("field", ["header", "hash", "mac", "body"])
def test_any_byte_touched_is_found_where_it_is(field: str) -> None:
    made = make()
    for place in range(RECORDS):
        whole = getattr(made.records[place], field)
        for at in range(len(whole)):
            records = list(made.records)
            records[place] = records[place]._replace(**{field: flipped(whole, at, (at + place) % 8)})
            verdict = verify(NAME, records, MASTER, head=made.head)
            assert not verdict.valid, (place, at)
            assert verdict.seq == place + 1, (place, at, verdict)


@pytest.mark.parametrize("field", ["header", "hash", "mac", "body"])
def test_a_field_cut_short_or_longer_is_found(field: str) -> None:
    made = make()
    for changed in (getattr(made.records[2], field)[:-1], getattr(made.records[2], field) + b"\0"):
        records = list(made.records)
        records[2] = records[2]._replace(**{field: changed})
        assert verify(NAME, records, MASTER).seq == 3
        assert not verify(NAME, records, MASTER).valid


def test_a_record_left_out_is_found() -> None:
    made = make()
    for place in range(RECORDS - 1):
        verdict = verify(NAME, made.records[:place] + made.records[place + 1 :], MASTER)
        assert (verdict.valid, verdict.seq) == (False, place + 1)


def test_two_records_that_changed_places_are_found() -> None:
    made = make()
    for place in range(RECORDS - 1):
        records = list(made.records)
        records[place], records[place + 1] = records[place + 1], records[place]
        verdict = verify(NAME, records, MASTER)
        assert (verdict.valid, verdict.seq) == (False, place + 1)


@pytest.mark.parametrize("place", range(1, RECORDS))
def test_two_histories_of_one_chain_spliced_are_found_where_they_meet(place: int) -> None:
    """Each record is sealed under the right key, in order: only what it names as its predecessor shows it."""
    one, other = make(), make(history="other")
    assert verify(NAME, other.records, MASTER, head=other.head).valid
    verdict = verify(NAME, one.records[:place] + other.records[place:], MASTER, head=other.head)
    assert (verdict.valid, verdict.seq) == (False, place + 1)


def test_a_repeated_record_is_found() -> None:
    made = make()
    verdict = verify(NAME, [*made.records[:3], *made.records[2:]], MASTER)
    assert (verdict.valid, verdict.seq, verdict.why) == (False, 4, "seq 3 follows 3")


def test_a_chain_cut_short_is_valid_to_its_end_and_invalid_against_its_head() -> None:
    made = make()
    assert str(verify(NAME, made.records[:4], MASTER)) == "VALID to seq 4"
    verdict = verify(NAME, made.records[:4], MASTER, head=made.head)
    assert str(verdict) == "INVALID at seq 5: the chain ends at seq 4, expected 6"


def test_a_chain_grown_is_invalid_against_its_head() -> None:
    made, longer = make(4), make(6)
    verdict = verify(NAME, longer.records, MASTER, head=made.head)
    assert (verdict.valid, verdict.seq) == (False, 5)


def test_another_end_of_the_same_length_is_invalid_against_the_head() -> None:
    made = make()
    verdict = verify(NAME, made.records, MASTER, head=(RECORDS, bytes(32)))
    assert (verdict.valid, verdict.seq, verdict.why) == (False, 6, "the last hash is not the expected head")


def test_records_of_another_chain_are_refused_though_they_are_sound() -> None:
    other = make(name="key/acme/Key000000002")
    verdict = verify(NAME, other.records, MASTER)
    assert (verdict.valid, verdict.seq, verdict.why) == (False, 1, "a record of another chain")


def test_a_chain_under_another_secret_has_wrong_macs() -> None:
    other = make(master=MasterKey(1, bytes(32)))
    assert verify(NAME, other.records, MASTER).why == "the MAC is wrong"


def test_an_unknown_key_version_is_said() -> None:
    other = make(master=MasterKey(7, MASTER.secret))
    assert verify(NAME, other.records, MASTER).why == "the master key of version 7 is unknown"


def test_a_short_master_key_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 32 bytes"):
        MasterKey(1, b"short").chain_key(bytes(32))


def test_an_erased_body_leaves_the_chain_valid() -> None:
    made = make()
    records = list(made.records)
    records[1] = records[1]._replace(body=None)
    verdict = verify(NAME, records, MASTER, head=made.head)
    assert (verdict.valid, verdict.redacted) == (True, 1)


def test_a_verifier_goes_on_where_it_was() -> None:
    made = make()
    verifier = Verifier(NAME, lambda _: MASTER)
    for place in range(0, RECORDS, 2):
        assert verifier.check(made.records[place : place + 2]).seq == place + 2
    assert verifier.verdict(made.head).valid


def test_what_was_wrong_stays_wrong() -> None:
    made = make()
    verifier = Verifier(NAME, lambda _: MASTER)
    verifier.check([made.records[1]])
    assert verifier.check(made.records).seq == 1
    assert not verifier.verdict().valid


def test_a_position_that_does_not_advance_is_found() -> None:
    created, admitted = chain_facts.drafts(make(2).records)
    again = admitted.but(sequence=created.sequence, frame_index=created.frame_index)
    found = verify(NAME, chain_facts.sealed([created, again]), MASTER)
    assert found.why == "its position is not after that of the record before it"


@given(st.integers(), st.integers())
@example(-(2**63), 1)
def test_amounts_past_64_bits_become_the_nearest_that_fit(one: int, other: int) -> None:
    amounts = [Amounts(nusd=nusd, tokens=1) for nusd in (one, other)]
    messages = [facts.begun(), facts.adm(*[facts.admitted(n, reserved=held) for n, held in enumerate(amounts)])]
    records = facts.stored(facts.fold(messages), NAME)
    first, second = (rec.unpack(record.header) for record in records[1:])
    for exact, shown in ((one, first.amount_nusd), (other, second.amount_nusd), (one + other, second.reserved_nusd)):
        assert shown == min(max(exact, -rec.AMOUNT_MAX), rec.AMOUNT_MAX)
    assert verify(NAME, records, MASTER).valid
