"""One log, one chain, in any process and any batches: batches and restarts change no byte, and every chain adds up."""

from collections.abc import Callable, Sequence
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from keyforge.audit.core.fold import Fold
from keyforge.audit.core.sealed import Sealed
from keyforge.chain import record as rec
from keyforge.chain.record import RecordType
from keyforge.chain.verify import verify
from keyforge.contracts.frame import Recorded
from tests.unit import audit_facts as facts
from tests.unit.audit_facts import (
    KEY,
    MASTER,
    NOW,
    Sent,
    abandoned,
    adm,
    admitted,
    begun,
    cancelled,
    completed,
    ctl,
    fold,
    refused,
    use,
)

CHAIN = f"key/acme/{KEY}"
NUMBERS = st.integers(0, 5)
MOMENTS = st.integers(0, 200_000)


@st.composite
def logs(draw: st.DrawFn) -> list[Sent]:
    """A log of anything in any order, at times that go anywhere."""
    messages = [begun(), ctl(facts.key_created("k2"))]
    kinds: list[Callable[..., Recorded]] = [admitted, completed, cancelled, abandoned, refused]
    for _ in range(draw(st.integers(0, 25))):
        kind = draw(st.sampled_from(kinds))
        key_id = draw(st.sampled_from([KEY, "k2"]))
        found = [kind(number, key_id=key_id) for number in draw(st.lists(NUMBERS, min_size=1, max_size=3))]
        at = NOW + timedelta(seconds=draw(MOMENTS))
        messages.append((use if kind in (completed, cancelled, refused) else adm)(*found, at=at))
    return messages


def sealed_bytes(sealed: Sequence[Sealed]) -> list[tuple[str, bytes, bytes, bytes]]:
    return [(r.chain.name, r.header, r.mac, r.body) for one in sealed for r in one.records]


@given(logs(), st.lists(st.integers(1, 5)))
@settings(max_examples=100)
def test_batches_and_a_second_writer_make_no_difference(log: list[Sent], cuts: list[int]) -> None:
    whole = fold(log)
    folding = Fold(0, MASTER)
    pieces, at = [], 0
    for size in [*cuts, len(log)]:
        pieces.append(fold(log[at : at + size], into=folding, after=at))
        at = min(at + size, len(log))
    assert sealed_bytes(pieces) == sealed_bytes([whole])
    assert [end for piece in pieces for end in piece.ends] == whole.ends
    assert {r.chain.name: (r.seq, r.hash) for r in whole.records} == folding.heads()


@given(logs())
@settings(max_examples=100)
def test_every_prefix_pairs_and_adds_up(log: list[Sent]) -> None:
    found = fold(log)
    for chain in (CHAIN, "key/acme/k2"):
        assert verify(chain, facts.stored(found, chain), MASTER).valid
        settled = reserved = 0
        opened: dict[bytes, int] = {}
        presumed: dict[bytes, int] = {}
        tombs: set[bytes] = set()
        for header in (rec.unpack(r.header) for r in found.records if r.chain.name == chain):
            request = header.request_id
            match header.type:
                case RecordType.REQUEST_ADMITTED if header.reserved_nusd == reserved:
                    assert header.amount_nusd  # its cancel came before it
                case RecordType.REQUEST_ADMITTED:
                    opened[request] = header.amount_nusd
                    presumed.pop(request, None)  # an id that was forgotten, admitted again
                    reserved += header.amount_nusd
                case RecordType.REQUEST_CANCELLED if request not in opened:
                    tombs.add(request)
                case RecordType.REQUEST_COMPLETED if request in presumed:
                    settled += header.amount_nusd - presumed.pop(request)
                case RecordType.REQUEST_COMPLETED | RecordType.REQUEST_CANCELLED | RecordType.REQUEST_ABANDONED:
                    reserved -= opened.pop(request)
                    settled += header.amount_nusd
                    if header.type == RecordType.REQUEST_ABANDONED:
                        presumed[request] = header.amount_nusd
            assert (header.settled_nusd, header.reserved_nusd) == (settled, reserved)
            assert reserved == sum(opened.values())


@given(logs())
@settings(max_examples=100)
def test_open_requests_are_counted_as_they_change(log: list[Sent]) -> None:
    folding = Fold(0, MASTER)
    for number, message in enumerate(log):
        fold([message], into=folding, after=number)
        assert folding.open == sum(one is not None for one in folding._state.requests.values())
