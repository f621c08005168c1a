"""The twin's faults, and how the rules for appends whose outcome is unknown come out under each of them."""

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyforge.contracts import subjects
from keyforge.eventlog.fence import append_fence, append_known
from keyforge.eventlog.log import Appended, AppendUnknown, Busy, Expect, Full, LogShrunk, Stale, Unavailable
from keyforge.eventlog.memory import Fault, MemoryLog
from keyforge.eventlog.memory_stream import matches

CTL, ADM, STREAM = subjects.ctl(0), subjects.adm(0), subjects.log_stream(0)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog.of_partitions(1, clock=lambda: NOON)


async def frames(log: MemoryLog) -> list[bytes]:
    if not await log.end(STREAM):
        return []
    async with aclosing(log.read(STREAM)) as batches:
        return [message.data for message in await anext(batches)]


async def test_times_are_the_clocks(log: MemoryLog) -> None:
    await log.append(ADM, b"x")
    found = await log.last(STREAM, ADM)
    assert found is not None
    assert found.time == NOON


@pytest.mark.parametrize(
    ("fault", "outcome", "kept"),
    [
        pytest.param(Fault.ACK_LOST, AppendUnknown, [b"x"], id="stored, unknown"),
        pytest.param(Fault.LAGGING, AppendUnknown, [b"x"], id="stored, refused by a server that lags"),
        pytest.param(Fault.LOST, AppendUnknown, [], id="lost"),
        pytest.param(Fault.LATE, AppendUnknown, [], id="late"),
        pytest.param(Fault.BUSY_YET_STORED, Busy(), [b"x"], id="stored, refused by a deposed leader"),
        pytest.param(Fault.FULL, Full("injected"), [], id="full"),
        pytest.param(Fault.UNAVAILABLE, Unavailable("injected"), [], id="unavailable"),
    ],
)
async def test_fault(log: MemoryLog, fault: Fault, outcome: object, kept: list[bytes]) -> None:
    log.fail_next(fault)
    if outcome is AppendUnknown:
        with pytest.raises(AppendUnknown):
            await log.append(ADM, b"x")
    else:
        assert await log.append(ADM, b"x") == outcome
    assert await frames(log) == kept
    assert await log.append(ADM, b"y") == Appended(len(kept) + 1)


async def test_faults_are_for_a_subject_and_line_up(log: MemoryLog) -> None:
    log.fail_next(Fault.FULL, subject=ADM)
    log.fail_next(Fault.UNAVAILABLE, subject=ADM)
    assert await log.append(CTL, b"x") == Appended(1)
    assert isinstance(await log.append(ADM, b"x"), Full)
    assert isinstance(await log.append(ADM, b"x"), Unavailable)


async def test_a_late_frame_meets_its_condition_when_it_comes(log: MemoryLog) -> None:
    for _ in range(2):
        log.fail_next(Fault.LATE)
        with pytest.raises(AppendUnknown):
            await log.append(ADM, b"late", expect=Expect(CTL, 0))
    assert log.deliver_late() == [Appended(1), Appended(2)]
    log.fail_next(Fault.LATE)
    with pytest.raises(AppendUnknown):
        await log.append(ADM, b"late", expect=Expect(CTL, 0))
    assert await append_fence(log, CTL, b"fence", last=0) == Appended(3)
    assert log.deliver_late() == [Stale(3)]


async def test_appends_wait_while_paused(log: MemoryLog) -> None:
    log.pause()
    first = asyncio.create_task(log.append(ADM, b"1", expect=Expect(CTL, 0)))
    await asyncio.sleep(0.01)  # in flight now
    assert not first.done()
    assert await log.append(ADM, b"2", expect=Expect(CTL, 0)) == Busy()
    log.resume()
    assert await first == Appended(1)


async def test_a_log_that_shrinks_or_is_another_halts_its_readers(log: MemoryLog) -> None:
    for _ in range(3):
        await log.append(ADM, b"x")
    async with aclosing(log.read(STREAM)) as batches:
        await anext(batches)
        log.shrink(STREAM, 2)
        with pytest.raises(LogShrunk, match="it ends at 2"):
            await anext(batches)
    async with aclosing(log.read(STREAM)) as batches:
        await anext(batches)
        log.declare(STREAM, [subjects.log_all(0)])
        with pytest.raises(LogShrunk, match="another stream"):
            await anext(batches)


FAULTS = st.lists(st.none() | st.sampled_from(Fault), max_size=4)


@given(faults=FAULTS, late_at=st.integers(0, 5))
def test_what_append_known_says_is_true(faults: list[Fault | None], late_at: int) -> None:
    """Stored at least once if Appended; if Stale, the frame is before the newer tick or nowhere, and stays so."""

    async def run() -> None:
        log = MemoryLog.of_partitions(1)
        for fault in faults:
            if fault:
                log.fail_next(fault, subject=ADM)
            else:
                log.fail_next(Fault.LOST, subject=CTL)
        sends = 0

        async def send_late() -> None:
            nonlocal sends
            while True:
                await asyncio.sleep(0)
                sends += 1
                if sends == late_at:
                    log.deliver_late()

        other = asyncio.create_task(send_late())
        outcome = await append_known(log, ADM, b"frame", expect=Expect(CTL, 0), pause_s=0)
        other.cancel()
        assert isinstance(outcome, Appended)
        fence = await append_fence(log, CTL, b"fence", last=0, pause_s=0)
        assert isinstance(fence, Appended)
        by_the_fence = (await frames(log))[: fence.seq]
        log.deliver_late()
        assert b"frame" in by_the_fence
        assert (await frames(log))[fence.seq :] == []

    asyncio.run(run())


@given(faults=FAULTS)
def test_at_most_one_fence_is_stored(faults: list[Fault | None]) -> None:
    async def run() -> None:
        log = MemoryLog.of_partitions(1)
        for fault in faults:
            if fault:
                log.fail_next(fault)
        outcome = await append_fence(log, CTL, b"fence", last=0, pause_s=0)
        log.deliver_late()
        assert await frames(log) == [b"fence"]
        assert outcome in (Appended(1), Stale(1))

    asyncio.run(run())


async def test_no_end_of_faults(log: MemoryLog) -> None:
    for _ in range(3):
        log.fail_next(Fault.UNAVAILABLE)
    with pytest.raises(AppendUnknown, match="unknown after 3 sends: Unavailable"):
        await append_known(log, ADM, b"x", expect=Expect(CTL, 0), attempts_max=3, pause_s=0)
    log.fail_next(Fault.ACK_LOST)
    log.fail_next(Fault.FULL)
    with pytest.raises(AppendUnknown):
        await append_known(log, ADM, b"x", expect=Expect(CTL, 0), attempts_max=2, pause_s=0)


@pytest.mark.parametrize(
    ("pattern", "subject", "fits"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.b.c", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.*.c", "a.b.c", True),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        (">", "a", True),
    ],
)
def test_patterns(pattern: str, subject: str, fits: bool) -> None:
    assert matches(pattern, subject) is fits
