"""What every EventLog does: one suite for the twin, JetStream on one node, and JetStream with three replicas."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from keyforge.contracts import subjects
from keyforge.contracts.ids import EdgeId
from keyforge.eventlog.fence import append_fence, append_known
from keyforge.eventlog.log import (
    Appended,
    AppendRefused,
    AppendUnknown,
    Busy,
    EventLog,
    Expect,
    FrameTooLarge,
    Full,
    LogMissing,
    LogShrunk,
    Message,
    Stale,
    Unavailable,
)
from keyforge.eventlog.memory import MemoryLog
from keyforge.eventlog.streams import Sizes
from keyforge.testkit.nats_client import partition_log

WITHIN_S = 60.0
SMALL_BYTES = 8 * 1024


@dataclass
class Lab:
    """A log with one partition's stream, small enough to fill."""

    log: EventLog
    partition: int
    replicated: bool

    @property
    def stream(self) -> str:
        return subjects.log_stream(self.partition)

    @property
    def ctl(self) -> str:
        return subjects.ctl(self.partition)

    @property
    def adm(self) -> str:
        return subjects.adm(self.partition)

    @property
    def use(self) -> str:
        return subjects.use(self.partition, EdgeId("e1"))

    async def tick(self, data: bytes = b"tick") -> int:
        outcome = await self.log.append(self.ctl, data)
        assert isinstance(outcome, Appended)
        return outcome.seq

    async def take(self, count: int, **how: Any) -> list[Message]:
        """The first `count` messages of a reading."""
        found: list[Message] = []
        async with asyncio.timeout(WITHIN_S), aclosing(self.log.read(self.stream, **how)) as batches:
            async for batch in batches:
                assert batch
                found.extend(batch)
                if len(found) >= count:
                    break
        return found[:count]


@pytest.fixture(params=["memory", "node", pytest.param("cluster", marks=pytest.mark.cluster)])
async def lab(request: pytest.FixtureRequest, partition: int) -> AsyncIterator[Lab]:
    if request.param == "memory":
        twin = MemoryLog()
        twin.declare(subjects.log_stream(partition), [subjects.log_all(partition)], bytes_max=SMALL_BYTES)
        yield Lab(twin, partition, replicated=True)
        return
    server = request.getfixturevalue(f"nats_{request.param}")
    async with partition_log(server, partition, sizes=Sizes(log_bytes_max=SMALL_BYTES)) as log:
        yield Lab(log, partition, replicated=server.replicas > 1)


async def test_sequences_count_over_all_subjects_of_a_stream(lab: Lab) -> None:
    outcomes = [await lab.log.append(subject, b"x") for subject in (lab.ctl, lab.adm, lab.use)]
    assert outcomes == [Appended(1), Appended(2), Appended(3)]
    assert await lab.log.end(lab.stream) == 3


async def test_an_expectation_that_holds(lab: Lab) -> None:
    assert await lab.log.append(lab.ctl, b"a", expect=Expect(lab.ctl, 0)) == Appended(1)
    assert await lab.log.append(lab.adm, b"b", expect=Expect(lab.ctl, 1)) == Appended(2)
    assert await lab.log.append(lab.ctl, b"c", expect=Expect(lab.ctl, 1)) == Appended(3)


async def test_a_stale_expectation_names_the_newer_tick_and_stores_nothing(lab: Lab) -> None:
    await lab.tick()
    newer = await lab.tick()
    assert await lab.log.append(lab.adm, b"x", expect=Expect(lab.ctl, 1)) == Stale(newer)
    assert await lab.log.append(lab.ctl, b"x", expect=Expect(lab.ctl, 0)) == Stale(newer)
    assert await lab.log.end(lab.stream) == 2


async def test_expecting_what_the_server_has_not_is_unknown(lab: Lab) -> None:
    """A deposed leader that lags says this while the new one stores the frame: it is never a Stale."""
    await lab.tick()
    with pytest.raises(AppendUnknown, match="wrong last sequence: 1"):
        await lab.log.append(lab.adm, b"x", expect=Expect(lab.ctl, 7))


async def test_of_conditional_appends_at_once_one_advances_the_clock(lab: Lab) -> None:
    outcomes = await asyncio.gather(*(lab.log.append(lab.ctl, b"%d" % i, expect=Expect(lab.ctl, 0)) for i in range(5)))
    assert [o for o in outcomes if isinstance(o, Appended)] == [Appended(1)]
    assert all(isinstance(o, Busy | Stale) for o in outcomes if not isinstance(o, Appended))
    assert await lab.log.end(lab.stream) == 1


async def test_a_second_conditional_append_in_flight_is_busy_where_streams_are_replicated(lab: Lab) -> None:
    tick = await lab.tick()
    first, second = await asyncio.gather(
        lab.log.append(lab.adm, b"1", expect=Expect(lab.ctl, tick)),
        lab.log.append(lab.adm, b"2", expect=Expect(lab.ctl, tick)),
    )
    assert first == Appended(2)
    assert second == (Busy() if lab.replicated else Appended(3))


async def test_another_writers_tick_in_flight_is_busy_too(lab: Lab) -> None:
    tick = await lab.tick()
    ours, theirs = await asyncio.gather(
        lab.log.append(lab.ctl, b"keys", expect=Expect(lab.ctl, tick)),
        lab.log.append(lab.adm, b"budget", expect=Expect(lab.ctl, tick)),
    )
    assert ours == Appended(2)
    assert theirs == (Busy() if lab.replicated else Stale(2))


async def test_unconditional_appends_overlap(lab: Lab) -> None:
    tick = await lab.tick()
    outcomes = await asyncio.gather(
        lab.log.append(lab.adm, b"x", expect=Expect(lab.ctl, tick)),
        *(lab.log.append(lab.use, b"%d" % i) for i in range(10)),
    )
    assert sorted(o.seq for o in outcomes if isinstance(o, Appended)) == list(range(2, 13))


async def test_full_refuses_the_new_and_keeps_the_old(lab: Lab) -> None:
    frame = b"x" * 1000
    outcomes = [await lab.log.append(lab.use, frame) for _ in range(SMALL_BYTES // 1000 + 2)]
    kept = [o for o in outcomes if isinstance(o, Appended)]
    assert [o.seq for o in kept] == list(range(1, len(kept) + 1))
    assert len(kept) >= 6
    assert all(isinstance(o, Full) for o in outcomes[len(kept) :])
    assert isinstance(await lab.log.append(lab.adm, frame, expect=Expect(lab.ctl, 0)), Full)
    state = await lab.log.state(lab.stream)
    assert state.bytes_max == SMALL_BYTES
    assert 0.6 < state.bytes / SMALL_BYTES <= 1
    assert [m.seq for m in await lab.take(len(kept))] == [o.seq for o in kept]


async def test_nobody_stores_the_subject(lab: Lab) -> None:
    assert isinstance(await lab.log.append("kf.nowhere", b"x"), Unavailable)


async def test_misuse(lab: Lab) -> None:
    with pytest.raises(FrameTooLarge):
        await lab.log.append(lab.use, b"x" * (1024 * 1024))
    with pytest.raises(ValueError, match="not both"):
        await lab.log.append(lab.use, b"x", expect=Expect(lab.ctl, 0), msg_id="1")
    with pytest.raises(AppendRefused):
        await lab.log.append("kf.log. x", b"x")
    for ask in (lab.log.end("KF_NONE"), lab.log.state("KF_NONE"), lab.log.last("KF_NONE", "x")):
        with pytest.raises(LogMissing):
            await ask


async def test_a_message_id_stores_once(lab: Lab) -> None:
    assert await lab.log.append(lab.use, b"x", msg_id="f1") == Appended(1)
    assert await lab.log.append(lab.use, b"y") == Appended(2)
    assert await lab.log.append(lab.use, b"x", msg_id="f1") == Appended(1, duplicate=True)
    assert await lab.log.end(lab.stream) == 2


async def test_reading_gives_subject_data_and_the_brokers_time(lab: Lab) -> None:
    before = datetime.now(UTC)
    for i, subject in enumerate((lab.ctl, lab.adm, lab.use, lab.ctl)):
        await lab.log.append(subject, b"%d" % i)
    found = await lab.take(4)
    assert [(m.seq, m.subject, m.data) for m in found] == [
        (1, lab.ctl, b"0"),
        (2, lab.adm, b"1"),
        (3, lab.use, b"2"),
        (4, lab.ctl, b"3"),
    ]
    assert all(m.time.tzinfo is UTC for m in found)
    assert before - timedelta(seconds=1) <= found[0].time <= found[-1].time <= before + timedelta(seconds=WITHIN_S)
    assert await lab.log.last(lab.stream, lab.adm) == found[1]


async def test_reading_behind_a_position_and_by_subject(lab: Lab) -> None:
    for subject in (lab.ctl, lab.use, lab.adm, lab.use, lab.ctl):
        await lab.log.append(subject, b"x")
    assert [m.seq for m in await lab.take(2, after=3)] == [4, 5]
    assert [m.seq for m in await lab.take(2, subjects=[lab.use])] == [2, 4]
    assert [m.seq for m in await lab.take(2, after=1, subjects=[lab.ctl, lab.adm])] == [3, 5]
    assert [m.seq for m in await lab.take(1, after=2, subjects=[subjects.use_all(lab.partition)])] == [4]


async def test_a_reading_waits_for_what_comes(lab: Lab) -> None:
    async def later() -> None:
        for i in range(3):
            await asyncio.sleep(0.05)
            await lab.log.append(lab.use, b"%d" % i)

    writing = asyncio.create_task(later())
    assert [m.data for m in await lab.take(3)] == [b"0", b"1", b"2"]
    await writing


async def test_two_readings_are_apart(lab: Lab) -> None:
    async with aclosing(lab.log.read(lab.stream)) as one, aclosing(lab.log.read(lab.stream)) as other:
        await lab.log.append(lab.use, b"x")
        async with asyncio.timeout(WITHIN_S):
            first, second = await asyncio.gather(anext(one), anext(other))
    assert first == second


async def test_last_and_end(lab: Lab) -> None:
    assert await lab.log.end(lab.stream) == 0
    assert await lab.log.last(lab.stream, lab.ctl) is None
    await lab.tick(b"a")
    await lab.tick(b"b")
    await lab.log.append(lab.use, b"c")
    found = await lab.log.last(lab.stream, lab.ctl)
    assert found is not None
    assert (found.seq, found.data) == (2, b"b")
    assert await lab.log.end(lab.stream) == 3


async def test_state_names_the_stream(lab: Lab) -> None:
    empty = await lab.log.state(lab.stream)
    created = empty.created
    assert empty.first_at is None
    await lab.tick()
    await lab.tick()
    state = await lab.log.state(lab.stream)
    assert (state.created, state.first, state.last) == (created, 1, 2)
    oldest = (await lab.take(1))[0]
    assert state.first_at == oldest.time
    assert [m.seq for m in await lab.take(1, created=created)] == [1]


async def test_a_stream_created_at_another_moment_halts(lab: Lab) -> None:
    await lab.tick()
    with pytest.raises(LogShrunk, match="another stream"):
        await lab.take(1, created="long ago")


async def test_a_fence_settles_what_is_in_doubt(lab: Lab) -> None:
    tick = await lab.tick()
    fence = await append_fence(lab.log, lab.ctl, b"fence of 2", last=tick)
    assert fence == Appended(2)
    assert await lab.log.append(lab.adm, b"late", expect=Expect(lab.ctl, tick)) == Stale(2)
    assert await append_fence(lab.log, lab.ctl, b"fence of 3", last=tick) == Stale(2)


async def test_known_appends_overcome_busy(lab: Lab) -> None:
    tick = await lab.tick()
    outcomes = await asyncio.gather(
        *(append_known(lab.log, lab.adm, b"%d" % i, expect=Expect(lab.ctl, tick), pause_s=0.002) for i in range(4))
    )
    assert sorted(o.seq for o in outcomes if isinstance(o, Appended)) == [2, 3, 4, 5]
