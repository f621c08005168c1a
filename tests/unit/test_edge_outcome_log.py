"""Outcomes reach the log whatever it answers, with the same bytes; while they cannot, new requests are turned away."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

import pytest
from structlog.testing import capture_logs

from keyforge.contracts import frame, subjects
from keyforge.contracts.compression import decompress
from keyforge.contracts.directory import KeyEntry
from keyforge.contracts.events import RequestCancelled, RequestRefused
from keyforge.contracts.frame import Recorded
from keyforge.contracts.ids import EdgeId, KeyId, RequestId, TenantId
from keyforge.edge.core.settlement.pending_outcomes import PendingOutcomes
from keyforge.edge.core.settlement.refusal_counter import RefusalCounter
from keyforge.edge.outbound import outcome_log as module
from keyforge.edge.outbound.outcome_log import FramedOutcomeLog
from keyforge.eventlog.log import Message
from keyforge.eventlog.memory import Fault, MemoryLog

T = TypeVar("T")
NOW = datetime(2030, 1, 1, tzinfo=UTC)
EDGE = EdgeId("edge-0")


def event(name: str) -> RequestCancelled:
    return RequestCancelled(
        request_id=RequestId(name), tenant=TenantId("t"), key_id=KeyId("k"), edge=EDGE, reason="test", deadline=NOW
    )


async def stored(log: MemoryLog) -> list[Message]:
    if await log.end(subjects.log_stream(0)) == 0:
        return []
    async for messages in log.read(subjects.log_stream(0)):
        return messages
    return []


def frames(message: Message) -> list[Recorded]:
    return [one for one in frame.decode(message.data, message.subject) if isinstance(one, Recorded)]


def ids(messages: list[Message]) -> list[str]:
    return [one.id for message in messages for one in frames(message)]


def key(name: str, partition: int) -> KeyEntry:
    return KeyEntry(
        key_id=KeyId(name),
        tenant=TenantId("t"),
        partition=partition,
        digest="",
        status="active",
        models=None,
        max_output_tokens=None,
        expires_at=None,
        revision=1,
    )


async def until(probe: Callable[[], T | None]) -> T:
    """Return what `probe` finds at last."""
    async with asyncio.timeout(60):
        while True:
            if found := probe():
                return found
            await asyncio.sleep(0.001)  # polls: other tasks go on


async def test_what_comes_together_is_one_frame_on_the_edges_own_subject() -> None:
    log = MemoryLog.of_partitions(1)
    outcomes = FramedOutcomeLog(log, EDGE, lambda: NOW, PendingOutcomes())
    for number in range(5):
        outcomes.append(0, event(f"r{number}"))
    await outcomes.drain()
    messages = await stored(log)
    assert [message.subject for message in messages] == [subjects.use(0, EDGE)]
    assert ids(messages) == [f"r{number}.cancelled" for number in range(5)]
    assert outcomes.unavailable(0) is None
    assert outcomes.waiting() == 0


async def test_its_frames_are_compressed() -> None:
    log = MemoryLog.of_partitions(1)
    outcomes = FramedOutcomeLog(log, EDGE, lambda: NOW, PendingOutcomes())
    for number in range(5):
        outcomes.append(0, event(f"r{number}"))
    await outcomes.drain()
    [message] = await stored(log)
    assert message.data[0] == 1
    assert len(message.data) < len(decompress(message.data)) / 5


@pytest.mark.parametrize("fault", [Fault.FULL, Fault.UNAVAILABLE, Fault.LOST, Fault.ACK_LOST])
async def test_a_frame_is_repeated_with_the_same_bytes_until_it_is_stored(fault: Fault) -> None:
    log = MemoryLog.of_partitions(1)
    log.fail_next(fault)
    log.fail_next(fault)
    outcomes = FramedOutcomeLog(log, EDGE, lambda: NOW, PendingOutcomes())
    outcomes.append(0, event("r"))
    async with asyncio.timeout(60):
        await outcomes.drain()
    messages = await stored(log)
    assert set(ids(messages)) == {"r.cancelled"}
    assert len({message.data for message in messages}) == 1
    assert outcomes.unavailable(0) is None


async def test_where_the_outcome_of_a_key_is_stored_is_known_only_when_it_is() -> None:
    log = MemoryLog.of_partitions(1)
    log.pause()
    pending = PendingOutcomes()
    outcomes = FramedOutcomeLog(log, EDGE, lambda: NOW, pending)
    outcomes.append(0, event("r"))
    retry = pending.retry(event("r").key_id)
    assert retry.pause_s("budget_exceeded", 1000) is not None
    log.resume()
    await outcomes.drain()
    sequence = (await stored(log))[-1].seq
    assert retry.pause_s("budget_exceeded", sequence - 1) is not None
    assert retry.pause_s("budget_exceeded", sequence) is None


@pytest.mark.parametrize(("fault", "type_"), [(Fault.FULL, "log_full"), (Fault.UNAVAILABLE, "log_unavailable")])
async def test_a_log_that_does_not_take_them_turns_new_requests_away(
    monkeypatch: pytest.MonkeyPatch, fault: Fault, type_: str
) -> None:
    if fault is not Fault.FULL:  # which counts at once
        monkeypatch.setattr(module, "PATIENCE_S", 0.0)
    log = MemoryLog.of_partitions(2)
    for _ in range(3):
        log.fail_next(fault, subject=subjects.use(0, EDGE))
    outcomes = FramedOutcomeLog(log, EDGE, lambda: NOW, PendingOutcomes())
    outcomes.append(0, event("r"))
    outcomes.append(1, event("s"))
    draining = asyncio.create_task(outcomes.drain())
    wrong = await until(lambda: outcomes.unavailable(0))
    assert wrong.kind.type == type_
    assert wrong.metadata == ({"stream": "KF_LOG_0"} if fault is Fault.FULL else None)
    assert outcomes.unavailable(1) is None, "another partition is not concerned"
    await draining
    assert outcomes.unavailable(0) is None


async def test_a_connection_that_is_lost_for_a_moment_turns_nobody_away() -> None:
    log = MemoryLog.of_partitions(1)
    for _ in range(3):
        log.fail_next(Fault.UNAVAILABLE)
    outcomes = FramedOutcomeLog(log, EDGE, lambda: NOW, PendingOutcomes())
    outcomes.append(0, event("r"))
    draining = asyncio.create_task(outcomes.drain())
    while not draining.done():
        assert outcomes.unavailable(0) is None
        await asyncio.sleep(0.005)
    assert set(ids(await stored(log))) == {"r.cancelled"}


async def test_too_many_that_wait_turn_new_requests_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING_REFUSE", 3)
    log = MemoryLog.of_partitions(1)
    log.pause()
    outcomes = FramedOutcomeLog(log, EDGE, lambda: NOW, PendingOutcomes())
    outcomes.append(0, event("first"))
    await asyncio.sleep(3 * module.TICK_S)  # it is on its way to the log
    for number in range(3):
        outcomes.append(0, event(f"r{number}"))
    wrong = outcomes.unavailable(0)
    assert wrong is not None
    assert wrong.kind.type == "log_unavailable"
    log.resume()
    await outcomes.drain()
    assert outcomes.unavailable(0) is None
    assert len(ids(await stored(log))) == 4


async def test_what_is_on_its_way_is_not_stored_yet() -> None:
    log = MemoryLog.of_partitions(1)
    log.pause()
    outcomes = FramedOutcomeLog(log, EDGE, lambda: NOW, PendingOutcomes())
    outcomes.append(0, event("sent"))
    await asyncio.sleep(3 * module.TICK_S)  # it is on its way to the log
    outcomes.append(0, event("waits"))
    assert outcomes.waiting() == 2
    log.resume()
    await outcomes.drain()
    assert outcomes.waiting() == 0
    assert outcomes.give_up() == 0


async def test_what_is_given_up_is_counted_and_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING_MAX", 1)
    log = MemoryLog.of_partitions(1)
    log.pause()
    outcomes = FramedOutcomeLog(log, EDGE, lambda: NOW, PendingOutcomes())
    with capture_logs() as lines:
        outcomes.append(0, event("sent"))
        await asyncio.sleep(3 * module.TICK_S)  # it is on its way to the log
        outcomes.append(0, event("waits"))
        outcomes.append(0, event("lost"))  # no room for it
        assert outcomes.give_up() == 3
        await outcomes.drain()
        outcomes.append(0, event("late"))
        log.resume()
        await asyncio.sleep(3 * module.TICK_S)  # what were still sent would be stored
    assert await stored(log) == []
    assert [line["event"] for line in lines] == ["an outcome was lost"] * 2
    assert outcomes.give_up() == 4


async def test_refusals_take_no_room_from_the_ends_of_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING_REFUSE", 3)
    monkeypatch.setattr(module, "WAITING_MAX", 6)
    log, refusals = MemoryLog.of_partitions(2), RefusalCounter(EDGE)
    log.pause()
    outcomes = FramedOutcomeLog(log, EDGE, lambda: NOW, PendingOutcomes())
    outcomes.append(0, event("first"))
    await asyncio.sleep(3 * module.TICK_S)  # it is on its way to the log
    for second in range(10):
        refusals.count(key("k", 0), RequestId(f"r{second}"), "log_unavailable")
        for one in refusals.due(outcomes.has_room):
            outcomes.append(one.partition, one.event)
    assert outcomes.has_room(1)
    for number in range(3):
        outcomes.append(0, event(f"end{number}"))
    log.resume()
    await outcomes.drain()
    messages = await stored(log)
    assert set(ids(messages)) >= {"end0.cancelled", "end1.cancelled", "end2.cancelled"}
    events = [one.event for message in messages for one in frames(message)]
    later = refusals.due(outcomes.has_room)
    counted = [one for one in [*events, *(one.event for one in later)] if isinstance(one, RequestRefused)]
    assert sum(one.count for one in counted) == 10, "none is forgotten"
