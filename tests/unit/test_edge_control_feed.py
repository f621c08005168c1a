"""The control feed: which partitions it can vouch for, and what it does with an event that it cannot read."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from keyforge.contracts import frame, subjects
from keyforge.contracts.events import Event, KeyRevoked
from keyforge.contracts.frame import Recorded
from keyforge.contracts.ids import KeyId, TenantId, TokenId
from keyforge.edge.metrics import Metrics
from keyforge.edge.outbound.feeds import control_feed as module
from keyforge.edge.outbound.feeds.control_feed import RECOVERED_S, STALE_S, LogControlFeed
from keyforge.eventlog.log import LogMissing, LogShrunk, Message
from keyforge.eventlog.memory import MemoryLog
from keyforge.runtime.clock import SetClock
from keyforge.testkit.ticks import append_tick
from tests.unit.frame_faults import FAULTS

NOW = datetime(2030, 1, 1, tzinfo=UTC)
CUT, OTHER = 0, 1


class Log(MemoryLog):
    """A twin that may be away: it then answers no question about its ends."""

    away = False

    async def last(self, stream: str, subject: str) -> Message | None:
        if self.away:
            raise LogMissing("away")
        return await super().last(stream, subject)


class Feed:
    """A running feed of two partitions, and what it called."""

    def __init__(self) -> None:
        self.log = cast("Log", Log.of_partitions(2))
        self.clock = SetClock(NOW)
        self.metrics = Metrics()
        self.events: list[tuple[int, Event]] = []
        self.cut: set[int] = set()
        self.feed = LogControlFeed(
            self.log, 2, self.clock.monotonic, lambda *event: self.events.append(event), self.cut.add, self.metrics
        )

    def stale(self) -> list[bool]:
        return [self.feed.stale(partition) for partition in (CUT, OTHER)]

    def current(self) -> bool:
        return self.stale() == [False, False]

    def pass_s(self, seconds: float) -> None:
        self.clock.set(self.clock.now() + timedelta(seconds=seconds))

    async def revoke(self, partition: int, name: str = "k") -> None:
        await append_tick(self.log, partition, revoked(name))


def revoked(name: str) -> bytes:
    event = KeyRevoked(
        key_id=KeyId(name), tenant=TenantId("t"), reason=None, revision=2, secret_version=None, by=TokenId("b")
    )
    return frame.encode([Recorded(name, "keys", NOW, event)])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - other tasks go on
            await asyncio.sleep(0.001)


@pytest.fixture
async def running(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Feed]:
    monkeypatch.setattr(module, "POLL_S", 0.002)
    monkeypatch.setattr(module, "WATCH_S", 0.002)
    found = Feed()
    task = asyncio.create_task(found.feed.run())
    await until(found.current)
    yield found
    task.cancel()
    await asyncio.wait([task])


async def test_events_are_handed_on_with_their_partition(running: Feed) -> None:
    await running.revoke(OTHER)
    await until(lambda: bool(running.events))
    ((partition, event),) = running.events
    assert (partition, type(event)) == (OTHER, KeyRevoked)
    assert running.cut == set()


async def test_a_partition_that_cannot_be_shown_to_be_current_is_stale_until_it_can(running: Feed) -> None:
    running.log.away = True
    await asyncio.sleep(0.01)  # what was asked before is answered
    running.pass_s(STALE_S - 0.1)
    await asyncio.sleep(0.01)
    assert running.stale() == [False, False]
    running.pass_s(0.2)
    await until(lambda: running.stale() == [True, True])
    assert running.cut == {CUT, OTHER}
    running.pass_s(RECOVERED_S)
    running.log.away = False
    await until(running.current)


UNKNOWN = revoked("k").replace(b"key.revoked.v1", b"key.revoked.v9")
UNREADABLE = [
    pytest.param(UNKNOWN, id="a later version"),
    pytest.param(revoked("k").replace(b"key.revoked.v1", b"key.forgotten.v1"), id="an unknown type"),
    pytest.param(revoked("k").replace(b'"revision":2', b'"revision":{}'), id="another shape"),
    pytest.param(b"no frame", id="no frame"),
    *(pytest.param(data, id=name) for name, (data, _) in FAULTS.items()),
    pytest.param(UNKNOWN[:-1] + b"," + revoked("n")[1:], id="beside one that can be read"),
]


@pytest.mark.parametrize("message", UNREADABLE)
async def test_what_cannot_be_read_cuts_its_partition_off_for_good(running: Feed, message: bytes) -> None:
    """It may be a revocation: it is not known which streams it ends."""
    await append_tick(running.log, CUT, message)
    await until(lambda: bool(running.cut))
    assert running.cut == {CUT}
    assert running.stale() == [True, False]
    assert running.feed.unreadable()
    assert (running.metrics.control_events_unread, running.feed.stale_partitions()) == (1, 1)

    for partition in (CUT, OTHER):
        await running.revoke(partition, f"later {partition}")
    await until(lambda: {partition for partition, event in running.events if "later" in str(event)} == {CUT, OTHER})
    await asyncio.sleep(0.02)  # it is read to its end, and looked at, again and again
    assert running.stale() == [True, False]


async def test_an_event_on_another_writers_subject_changes_nothing(running: Feed) -> None:
    data = revoked("k").replace(b"key.revoked.v1", b"credential.revoked.v1")
    await append_tick(running.log, CUT, data)
    await running.revoke(CUT)
    await until(lambda: bool(running.events))
    assert running.stale() == [False, False]
    assert running.metrics.control_events_unread == 0


async def test_a_message_that_is_no_tick_ends_the_feed() -> None:
    """Without the chain of ticks, a revocation that was trimmed away would be passed over in silence."""
    found = Feed()
    running = asyncio.create_task(found.feed.run())
    await until(found.current)
    await found.log.append(subjects.ctl(CUT), revoked("k"))
    with pytest.raises(ExceptionGroup) as ended:
        async with asyncio.timeout(30):
            await running
    assert [type(error) for error in ended.value.exceptions] == [LogShrunk]
    assert found.events == []
