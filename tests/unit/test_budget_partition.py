"""One partition in a process: what it says of itself while nobody can tell who owns it."""

import asyncio

from nats.aio.client import Client
from pydantic import SecretStr

from keyforge.budget.application.batching import Pace
from keyforge.budget.application.partition import Partition
from keyforge.budget.inbound.responder import Pulse
from keyforge.budget.metrics import Metrics
from keyforge.budget.outbound.lease import Leases
from keyforge.budget.settings import BudgetSettings
from keyforge.contracts import subjects
from keyforge.contracts.ids import OwnerId
from keyforge.eventlog.memory import MemoryLog
from keyforge.eventlog.nats.client import Link
from keyforge.runtime.buckets import Bucket, BucketUnavailableError, Entry
from keyforge.runtime.clock import SystemClock
from tests.unit.budget_facts import key_created, tenant_created
from tests.unit.budget_twin import CTL, tell, until


class Unreadable(Bucket):
    """A bucket of a server that stores the log and does not answer for buckets."""

    async def get(self, key: str) -> Entry | None:
        raise BucketUnavailableError(f"nobody answers for {key}")


async def test_it_is_not_ready_on_leases_that_it_cannot_read() -> None:
    """Not the owner, and nobody said that somebody else is."""
    log, link, clock = MemoryLog.of_partitions(1), Link(["nats://127.0.0.1:1"]), SystemClock()
    await tell(log, CTL, tenant_created(), key_created())
    partition = Partition(
        0,
        link=link,
        log=log,
        leases=Leases(Unreadable(Client(), log, subjects.LEASES_BUCKET), OwnerId("budget-0")),
        pulse=Pulse(link, clock),
        pace=Pace(clock),
        clock=clock,
        metrics=Metrics(),
        settings=BudgetSettings(key_secret=SecretStr("00" * 32), instance="budget-0"),
    )
    running = asyncio.create_task(partition.run())
    await until(lambda: partition.follower.caught_up)
    for _ in range(30):
        assert not partition.ready
        await asyncio.sleep(0.01)
    partition.stop()
    await running
