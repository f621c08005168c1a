"""A whole partition over a log in memory and twins of its other ports."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from keyforge.budget.application.batching import Batching
from keyforge.budget.application.committer import Committer
from keyforge.budget.application.partition import Partition, PartitionBounds
from keyforge.budget.application.ports import LeaseHolder
from keyforge.budget.errors import LeasesUnavailable
from keyforge.budget.metrics import Metrics
from keyforge.contracts.ids import OwnerId
from keyforge.eventlog.log import EventLog
from keyforge.runtime.clock import SystemClock
from tests.unit.budget_twin import Inbox


class LeasesTwin:
    """The twin of the bucket of leases, for one instance: `held` is the epoch of each lease."""

    def __init__(self, *, readable: bool = True) -> None:
        self.readable = readable
        self.held: dict[int, int] = {}
        self.given_back: list[tuple[int, int]] = []

    async def holder(self, partition: int) -> LeaseHolder:
        await asyncio.sleep(0)
        if not self.readable:
            raise LeasesUnavailable(f"no answer for {partition}")
        return "us" if partition in self.held else "none"

    async def publish(self, partition: int, epoch: int) -> bool:
        await asyncio.sleep(0)
        self.held[partition] = epoch
        return True

    async def give_back(self, partition: int, epoch: int) -> None:
        await asyncio.sleep(0)  # as a bucket: who is cancelled here has given nothing back
        self.held.pop(partition, None)
        self.given_back.append((partition, epoch))


class ListenerTwin:
    """The twin of the responder: tests offer to the committer themselves."""

    def __init__(self, committer: Committer) -> None:
        self.committer = committer
        self.epoch = 0

    async def listen(self, epoch: int) -> None:
        self.epoch = epoch

    async def drain(self) -> None:
        await asyncio.sleep(0)
        self.epoch = 0


def partition_of(log: EventLog, leases: LeasesTwin, *, number: int = 0, inbox: Inbox | None = None) -> Partition:
    clock = SystemClock()
    return Partition(
        number,
        owner=OwnerId("budget-0"),
        log=log,
        leases=leases,
        outbox=inbox or Inbox(),
        listener_of=ListenerTwin,
        batching=Batching(clock),
        clock=clock,
        metrics=Metrics(),
        bounds=PartitionBounds(abandon_grace_s=10, ask_age_s_max=2, asks_waiting_max=500),
    )


@asynccontextmanager
async def running(*partitions: Partition) -> AsyncIterator[None]:
    """Run partitions; all of them end in peace when they are stopped."""
    tasks = [asyncio.create_task(partition.run()) for partition in partitions]
    try:
        yield
    finally:
        for partition in partitions:
            partition.stop()
        async with asyncio.timeout(30):
            await asyncio.gather(*tasks)
