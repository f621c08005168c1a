"""One partition in a process: when it is ready, when it owns, and what it gives back."""

import asyncio

from keyforge.budget.application.batching import Batching
from keyforge.budget.application.committer import Committer
from keyforge.budget.application.partition import Bounds, Partition
from keyforge.budget.errors import LeasesUnavailable
from keyforge.budget.metrics import Metrics
from keyforge.contracts.ids import OwnerId
from keyforge.eventlog.memory import MemoryLog
from keyforge.runtime.clock import SystemClock
from tests.unit.budget_facts import key_created, tenant_created
from tests.unit.budget_twin import CTL, Inbox, append, until


class Leases:
    """The twin of the bucket of leases."""

    def __init__(self, *, readable: bool = True) -> None:
        self.readable = readable
        self.owned: list[int] = []
        self.given_back: list[int] = []

    async def free(self, partition: int, *, restarted: bool) -> bool:
        if not self.readable:
            raise LeasesUnavailable(f"nobody answers for {partition}")
        return True

    async def publish(self, partition: int, epoch: int) -> bool:
        self.owned.append(epoch)
        return True

    async def give_back(self, partition: int, epoch: int) -> None:
        self.given_back.append(epoch)


class Listener:
    """The twin of the responder: tests offer to the committer themselves."""

    def __init__(self, committer: Committer) -> None:
        self.committer = committer
        self.epoch = 0

    async def listen(self, epoch: int) -> None:
        self.epoch = epoch

    def close(self) -> None:
        self.epoch = 0


def partition_of(log: MemoryLog, leases: Leases) -> Partition:
    clock = SystemClock()
    return Partition(
        0,
        owner=OwnerId("budget-0"),
        log=log,
        leases=leases,
        outbox=Inbox(),
        listener_of=Listener,
        batching=Batching(clock),
        clock=clock,
        metrics=Metrics(),
        bounds=Bounds(abandon_grace_s=10, ask_age_s_max=2, asks_waiting_max=500),
    )


async def test_it_is_not_ready_on_leases_that_it_cannot_read() -> None:
    """Not the owner, and not known whether another process is."""
    log = MemoryLog.of_partitions(1)
    await append(log, CTL, tenant_created(), key_created())
    partition = partition_of(log, Leases(readable=False))
    running = asyncio.create_task(partition.run())
    await until(lambda: partition.replica.caught_up)
    for _ in range(30):
        assert not partition.ready
        await asyncio.sleep(0.01)
    partition.stop()
    await running


async def test_it_takes_what_is_free_and_gives_it_back_at_its_end() -> None:
    log, leases = MemoryLog.of_partitions(1), Leases()
    partition = partition_of(log, leases)
    running = asyncio.create_task(partition.run())
    await until(lambda: partition.ready)
    assert (partition.owner, partition.epoch, leases.owned[0]) == (True, 1, 1)
    partition.stop()
    await running
    assert leases.given_back == [1]
    assert not partition.owner
