"""A message that this version of audit cannot read: an edge's is skipped, any other stops its log and no other one."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import asdict

from keyforge.audit.application.follow import FollowedLog, follow
from keyforge.audit.application.ports import RecordWriter
from keyforge.audit.core.beginning import Beginning
from keyforge.audit.core.fold import Fold
from keyforge.audit.core.position import NOTHING_STORED
from keyforge.audit.core.sealed import Head, KeySpend, Sealed, UnreadableMessage
from keyforge.audit.metrics import Metrics
from keyforge.audit.outbound.store import Store
from keyforge.audit.outbound.writer import Writer
from keyforge.chain import record as rec
from keyforge.chain.record import PLATFORM_PARTITION, RecordType
from keyforge.contracts import frame, subjects
from keyforge.eventlog.log import Appended
from keyforge.eventlog.memory import MemoryLog
from tests.unit import audit_facts as facts
from tests.unit.audit_facts import KEY, MASTER, NOW, Sent, adm, admitted, begun, completed, fold, use
from tests.unit.frame_faults import FAULTS

CHAIN = f"key/acme/{KEY}"
UNTIL_S = 30.0


def headers(sealed: Sealed) -> list[bytes]:
    """The headers of a key's records."""
    return [record.header for record in sealed.records if record.chain.name == CHAIN]


def types(sealed: Sealed) -> list[int]:
    return [rec.unpack(header).type for header in headers(sealed)]


UNREADABLE = pytest.mark.parametrize(
    ("data", "index", "type_"),
    [
        pytest.param(b"not json", 0, "", id="no JSON"),
        pytest.param(b'[{"id":"\xff"}]', 0, "", id="no UTF-8"),
        pytest.param(b"{}", 0, "", id="no frame"),
        *(pytest.param(data, 0, "", id=name) for name, (data, _) in FAULTS.items()),
        pytest.param(
            adm(admitted(2)).data.replace(b"request.admitted", b"request.imagined"),
            0,
            "keyforge.request.imagined.v1",
            id="unknown type",
        ),
        pytest.param(
            facts.of_newer_version(adm(admitted(2))).data, 0, "keyforge.request.admitted.v99", id="unknown version"
        ),
    ],
)


@UNREADABLE
def test_what_an_edge_wrote_and_cannot_be_read_is_reported_and_the_rest_goes_on(
    data: bytes, index: int, type_: str
) -> None:
    found = fold([begun(), Sent(subjects.use(0, facts.EDGE), NOW, data), adm(admitted(1))])
    assert [(event.sequence, event.frame_index, event.type) for event in found.rejected] == [(2, index, type_)]
    assert types(found) == [RecordType.KEY_CREATED, RecordType.REQUEST_ADMITTED]


@UNREADABLE
@pytest.mark.parametrize("subject", [subjects.adm(0), subjects.ctl(0)])
def test_a_fold_stays_before_what_else_cannot_be_read(subject: str, data: bytes, index: int, type_: str) -> None:
    folding = Fold(0, MASTER)
    fold([begun(), adm(admitted(1))], into=folding)
    heads, out = folding.heads(), Sealed()
    for _ in range(2):  # asked again, it is where it was
        unreadable = facts.fold_one(folding, 3, Sent(subject, NOW, data), out)
        assert unreadable is not None
        assert (unreadable.sequence, unreadable.frame_index, unreadable.type) == (3, index, type_)
        assert (asdict(out), folding.heads(), folding.sequence) == (asdict(Sealed()), heads, 2)


def test_a_fold_stays_before_an_admission_of_another_shape() -> None:
    folding, out = Fold(0, MASTER), Sealed()
    fold([begun()], into=folding)
    data = adm(admitted(2)).data.replace(b'"nusd":2250000', b'"nusd":"many"')
    unreadable = facts.fold_one(folding, 2, Sent(subjects.adm(0), NOW, data), out)
    assert unreadable is not None
    assert (unreadable.frame_index, unreadable.type) == (0, "keyforge.request.admitted.v1")
    assert (out.records, folding.open) == ([], 0)


def test_a_fold_stays_before_a_debit_of_an_unknown_scope() -> None:
    folding, out = Fold(0, MASTER), Sealed()
    fold([begun()], into=folding)
    data = adm(admitted(2)).data
    assert b'"scope":"key:' in data
    newer = data.replace(b'"scope":"key:', b'"scope":"group:')
    unreadable = facts.fold_one(folding, 2, Sent(subjects.adm(0), NOW, newer), out)
    assert unreadable is not None
    assert "unknown scope: group:" in unreadable.why
    assert (out.records, folding.open) == ([], 0)


@pytest.mark.parametrize("subject", [subjects.adm(0), subjects.ctl(0), subjects.use(0, facts.EDGE)])
def test_what_stands_on_the_subject_of_another_writer_is_rejected_and_the_rest_goes_on(subject: str) -> None:
    """No version folds it: to wait for a newer one would be to wait without end."""
    data = facts.sent("", facts.price_set()).data
    found = fold([begun(), Sent(subject, NOW, data), adm(admitted(1))])
    assert [(event.sequence, event.frame_index, event.type) for event in found.rejected] == [
        (2, 0, "keyforge.price.set.v1")
    ]
    assert types(found) == [RecordType.KEY_CREATED, RecordType.REQUEST_ADMITTED]


def test_a_fold_stays_before_a_frame_of_which_it_can_read_a_part() -> None:
    folding, out = Fold(0, MASTER), Sealed()
    fold([begun()], into=folding)
    newer = facts.of_newer_version(adm(admitted(2))).data
    mixed = Sent(subjects.adm(0), NOW, adm(admitted(1)).data[:-1] + b"," + newer[1:])
    unreadable = facts.fold_one(folding, 2, mixed, out)
    assert unreadable is not None
    assert (unreadable.frame_index, unreadable.type) == (1, "keyforge.request.admitted.v99")
    assert (out.records, folding.open) == ([], 0)


def test_the_platforms_fold_stays_as_well() -> None:
    folding = Fold(PLATFORM_PARTITION, MASTER)
    newer = facts.of_newer_version(facts.sent(subjects.PLATFORM_CTL, facts.price_set()))
    unreadable = facts.fold_one(folding, 1, newer, Sealed())
    assert unreadable is not None
    assert (unreadable.partition, unreadable.type) == (PLATFORM_PARTITION, "keyforge.price.set.v99")


def test_a_newer_version_folds_what_an_older_one_stayed_before(monkeypatch: pytest.MonkeyPatch) -> None:
    history = [begun(), facts.of_newer_version(adm(admitted(1))), use(completed(1))]
    older = Fold(0, MASTER)
    fold(history[:1], into=older)
    assert facts.fold_one(older, 2, history[1], Sealed()) is not None
    monkeypatch.setattr(frame, "decode", facts.decode_newer)
    known = fold([begun(), adm(admitted(1)), use(completed(1))])
    assert headers(fold(history[1:], into=older, after=1)) == headers(known)[1:]
    assert headers(fold(history)) == headers(known)


class KeptRecords:
    """A writer that stores at once: the twin of `outbound.writer.Writer`, as far as `follow` and `rebuild` call it."""

    def __init__(self) -> None:
        self.healthy = True
        self.heads: dict[str, Head] = {}
        self.spend: dict[str, KeySpend] = {}
        self.done: dict[int, int] = {}
        self.waiting = 0
        self.headers: list[bytes] = []
        self._last: dict[int, int] = {}
        self._advanced = asyncio.Event()

    async def put(self, partition: int, sealed: Sealed) -> None:
        self.done[partition] = sealed.sequence
        self.headers += headers(sealed)
        self.heads |= {record.chain.name: Head(record.seq, record.hash) for record in sealed.records}
        self._wake()

    @asynccontextmanager
    async def between_blocks(self) -> AsyncIterator[None]:
        yield

    def tables_swapped(self) -> None:
        """It has no tables."""

    async def until(self, sequences: Mapping[int, int]) -> None:
        while any(self.done.get(log, 0) < min(end, self._last.get(log, end)) for log, end in sequences.items()):
            await self._advanced.wait()

    def end_at(self, partition: int, sequence: int) -> None:
        self._last[partition] = sequence
        self._wake()

    async def run(self) -> None:
        """All is stored already."""

    def _wake(self) -> None:
        self._advanced.set()
        self._advanced = asyncio.Event()


HISTORY = [begun(), adm(admitted(1)), facts.of_newer_version(adm(admitted(2))), use(completed(1)), adm(admitted(3))]
"""Message 3 is a newer version's."""


async def log_of(messages: list[Sent]) -> MemoryLog:
    log = MemoryLog.of_partitions(1, clock=lambda: NOW)
    for message in messages:
        assert isinstance(await log.append(message.subject, message.data), Appended)
    return log


def followed() -> FollowedLog:
    return FollowedLog(0, subjects.log_stream(0), Fold(0, MASTER), Beginning(()))


async def follow_on(log: MemoryLog, found: FollowedLog, writer: RecordWriter) -> UnreadableMessage:
    await follow(log, found, NOTHING_STORED, writer, gather_s=0.001, on_folded=lambda _sealed: None)
    assert found.unreadable is not None
    return found.unreadable


async def test_nothing_after_it_is_stored_and_a_newer_version_continues_there(monkeypatch: pytest.MonkeyPatch) -> None:
    log, older, found = await log_of(HISTORY), KeptRecords(), followed()
    async with asyncio.timeout(UNTIL_S):
        unreadable = await follow_on(log, found, older)
    assert (unreadable.sequence, unreadable.type) == (3, "keyforge.request.admitted.v99")
    assert (found.folded, found.end, older.done) == (2, 5, {0: 2})
    assert older.headers == headers(fold(HISTORY[:2]))

    monkeypatch.setattr(frame, "decode", facts.decode_newer)
    newer = KeptRecords()
    following = asyncio.ensure_future(follow_on(log, followed(), newer))
    async with asyncio.timeout(UNTIL_S):
        await newer.until({0: 5})
    assert not following.done()
    following.cancel()
    assert newer.headers == headers(fold(HISTORY))
    assert newer.headers[: len(older.headers)] == older.headers


async def test_who_waits_for_what_comes_after_it_is_woken() -> None:
    writer = Writer(Store(lambda: pytest.fail("nothing is stored here")), NOTHING_STORED, linger_s=1, metrics=Metrics())
    await writer.put(0, Sealed(sequence=2))
    waiting = asyncio.ensure_future(writer.until({0: 5, 1: 1}))
    await asyncio.sleep(0)
    writer.end_at(0, 2)
    await asyncio.sleep(0)
    assert not waiting.done()  # the other log is still to come
    await writer.put(1, Sealed(sequence=1))
    async with asyncio.timeout(UNTIL_S):
        await waiting
        later = asyncio.ensure_future(writer.until({1: 9}))
        await asyncio.sleep(0)
        writer.end_at(1, 1)
        await later
