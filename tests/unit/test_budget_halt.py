"""A partition whose log holds what this version must not fold: it steps aside, and the others go on."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from keyforge.budget.application.partition import Partition
from keyforge.budget.application.ports import LeaseHolder
from keyforge.budget.application.replica import Replica
from keyforge.budget.core.fold import Halt
from keyforge.budget.errors import Halted
from keyforge.budget.metrics import Metrics
from keyforge.contracts import frame, subjects
from keyforge.contracts.events import RequestAdmitted
from keyforge.contracts.frame import Recorded
from keyforge.eventlog.log import Appended
from keyforge.eventlog.memory import MemoryLog
from keyforge.runtime.clock import SystemClock
from tests.unit.budget_facts import EDGE, T0, ask, cap, key_created, key_revoked, tenant_created
from tests.unit.budget_partition import LeasesTwin, ListenerTwin, partition_of, running
from tests.unit.budget_twin import ADM, CTL, USE, Inbox, append, until

UNKNOWN = frame.encode([Recorded("x", "keys", T0, key_revoked())]).replace(b"key.revoked.v1", b"key.revoked.v9")
HALT_S = 0.2
"""Long enough for a standby of the twins to have taken what is free."""


async def append_unknown(log: MemoryLog, subject: str = CTL) -> int:
    outcome = await log.append(subject, UNKNOWN)
    assert isinstance(outcome, Appended)
    return outcome.seq


def committer_of(partition: Partition) -> Any:
    session = partition._session
    assert session is not None
    assert isinstance(session.listener, ListenerTwin)
    return session.listener.committer


async def admitted(log: MemoryLog, number: int = 0) -> int:
    last = await log.last(subjects.log_stream(number), subjects.adm(number))
    if last is None:
        return 0
    events = [one.event for one in frame.decode(last.data, last.subject) if isinstance(one, Recorded)]
    return sum(isinstance(event, RequestAdmitted) for event in events)


@pytest.mark.parametrize("subject", [CTL, ADM])
async def test_an_owner_steps_aside_and_another_partition_goes_on(subject: str) -> None:
    log, leases, inbox = MemoryLog.of_partitions(2), LeasesTwin(), Inbox()
    partition, other = (partition_of(log, leases, number=number, inbox=inbox) for number in (0, 1))
    for number in (0, 1):
        await append(log, subjects.ctl(number), tenant_created(), key_created(cap("usd", "day", 100)))
    async with running(partition, other):
        await until(lambda: partition.ready and other.ready)
        committer = committer_of(partition)
        sequence = await append_unknown(log, subject)
        await until(lambda: leases.given_back == [(0, 1)])
        assert not partition.ready
        assert not partition.owner
        assert str(partition.replica.halted) == f"unknown event keyforge.key.revoked.v9 at {sequence}.0 on {subject}"
        assert partition.replica.ledger.sequence == sequence - 1
        committer.offer(EDGE, [ask(1)], "of a halted partition")
        committer_of(other).offer(EDGE, [ask(1)], "of another partition")
        await until(lambda: "of another partition" in inbox.answers)
        await asyncio.sleep(HALT_S)
        assert [a.verdict for a in inbox.answers["of another partition"]] == ["allow"]
        assert [a.verdict for a in inbox.answers.get("of a halted partition", [])] in ([], ["refuse"])
        assert (await admitted(log, 0), await admitted(log, 1)) == (0, 1)
        assert await log.end(subjects.log_stream(0)) == sequence, "it fences no more either"
        assert leases.held == {1: 1}, "it never takes the partition again"
        assert other.ready


async def test_an_ask_in_flight_gets_no_allow() -> None:
    log, leases, inbox = MemoryLog.of_partitions(1), LeasesTwin(), Inbox()
    partition = partition_of(log, leases, inbox=inbox)
    await append(log, CTL, tenant_created(), key_created())
    async with running(partition):
        await until(lambda: partition.ready)
        real, sent, goes_on = log.append, asyncio.Event(), asyncio.Event()

        async def slow(subject: str, *args: Any, **kwargs: Any) -> Any:
            if subject == ADM:
                sent.set()
                await goes_on.wait()
            return await real(subject, *args, **kwargs)

        log.append = slow  # type: ignore[method-assign]
        committer = committer_of(partition)
        committer.offer(EDGE, [ask(1)], "in flight")
        await sent.wait()
        committer.offer(EDGE, [ask(2)], "waiting")
        await append_unknown(log)
        await until(lambda: bool(leases.given_back))
        goes_on.set()
        await asyncio.sleep(0.01)
        assert {name: [a.type for a in answers] for name, answers in inbox.answers.items()} == {
            "waiting": ["owner_unavailable"]
        }
        assert await admitted(log) == 0


async def test_an_acknowledgement_after_the_halt_gets_no_allow() -> None:
    """Both in one turn of the event loop, before the halt can cancel what waits for the acknowledgement."""
    log, leases, inbox = MemoryLog.of_partitions(1), LeasesTwin(), Inbox()
    partition = partition_of(log, leases, inbox=inbox)
    await append(log, CTL, tenant_created(), key_created())
    async with running(partition):
        await until(lambda: partition.ready)
        real = log.append

        async def halting(subject: str, *args: Any, **kwargs: Any) -> Any:
            outcome = await real(subject, *args, **kwargs)
            if partition.replica.halted is None:
                with suppress(Halted):
                    partition.replica._halt(Halt(1, 0, ADM, "unknown event"))
            return outcome

        log.append = halting  # type: ignore[method-assign]
        committer_of(partition).offer(EDGE, [ask(1)], "acknowledged")
        await until(lambda: leases.given_back == [(0, 1)])
        assert "acknowledged" not in inbox.answers


async def test_an_owner_that_waits_for_a_tick_steps_aside_at_once() -> None:
    """The ask is of a key that the owner does not know, so it folds what the control clock has before it decides."""
    log, leases, inbox = MemoryLog.of_partitions(1), LeasesTwin(), Inbox()
    partition = partition_of(log, leases, inbox=inbox)
    await append(log, CTL, tenant_created(), key_created())
    async with running(partition):
        await until(lambda: partition.ready)
        fold, goes_on = partition.replica._fold_messages, asyncio.Event()

        async def held_up(messages: Any) -> None:
            await goes_on.wait()
            await fold(messages)

        partition.replica._fold_messages = held_up  # type: ignore[method-assign]
        await append_unknown(log)
        committer_of(partition).offer(EDGE, [ask(1, key_id="new"), ask(2)], "late")
        await asyncio.sleep(0.05)
        goes_on.set()
        await until(lambda: leases.given_back == [(0, 1)])
        assert "late" not in inbox.answers
        assert await admitted(log) == 0


async def test_a_partition_that_meets_it_while_it_catches_up_is_never_taken() -> None:
    log, leases = MemoryLog.of_partitions(1), LeasesTwin()
    await append(log, CTL, tenant_created(), key_created())
    sequence = await append_unknown(log)
    partition = partition_of(log, leases)
    async with running(partition):
        await until(lambda: partition.replica.halted is not None)
        await asyncio.sleep(HALT_S)
        assert (partition.ready, partition.replica.caught_up, leases.held) == (False, False, {})
        assert await log.end(subjects.log_stream(0)) == sequence
        assert not await partition.replica.current(within_s=5)
        with pytest.raises(Halted, match=r"key\.revoked\.v9"):
            await partition.replica.folded(sequence, within_s=5)


async def test_a_standby_that_meets_it_is_not_ready() -> None:
    log, leases = MemoryLog.of_partitions(1), LeasesTwin()
    await append(log, CTL, tenant_created(), key_created())

    async def another(partition: int) -> LeaseHolder:
        return "another"

    leases.holder = another  # type: ignore[method-assign]
    partition = partition_of(log, leases)
    async with running(partition):
        await until(lambda: partition.ready)
        await append_unknown(log)
        await until(lambda: partition.replica.halted is not None)
        assert not partition.ready
        assert not leases.given_back


async def test_what_an_edge_wrote_and_cannot_be_read_is_counted_and_the_fold_goes_on() -> None:
    log, metrics = MemoryLog.of_partitions(1), Metrics()
    replica = Replica(0, log, SystemClock(), metrics)
    await append(log, CTL, tenant_created(), key_created())
    for data in (UNKNOWN, b"no frame"):
        await log.append(USE, data)
    end = await append(log, CTL, key_revoked())
    folding = asyncio.create_task(replica.run())
    assert await replica.folded(end, within_s=30)
    folding.cancel()
    await asyncio.wait([folding])
    assert metrics.registry.get_sample_value("keyforge_budget_rejected_events_total", {"partition": "0"}) == 2
