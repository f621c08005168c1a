"""One partition in a process: when it is ready, when it owns, and what it gives back."""

import asyncio

from keyforge.eventlog.memory import MemoryLog
from tests.unit.budget_facts import key_created, tenant_created
from tests.unit.budget_partition import LeasesTwin, partition_of
from tests.unit.budget_twin import CTL, append, until


async def test_it_is_not_ready_on_leases_that_it_cannot_read() -> None:
    """Not the owner, and not known whether another process is."""
    log = MemoryLog.of_partitions(1)
    await append(log, CTL, tenant_created(), key_created())
    partition = partition_of(log, LeasesTwin(readable=False))
    running = asyncio.create_task(partition.run())
    await until(lambda: partition.replica.caught_up)
    for _ in range(30):
        assert not partition.ready
        await asyncio.sleep(0.01)
    partition.stop()
    await running


async def test_it_takes_what_is_free_and_gives_it_back_at_its_end() -> None:
    log, leases = MemoryLog.of_partitions(1), LeasesTwin()
    partition = partition_of(log, leases)
    running = asyncio.create_task(partition.run())
    await until(lambda: partition.ready)
    assert (partition.owner, partition.epoch, leases.held) == (True, 1, {0: 1})
    partition.stop()
    await running
    assert leases.given_back == [(0, 1)]
    assert not partition.owner
