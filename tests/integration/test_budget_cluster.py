"""An owner on three nodes: the stream's leader dies and hangs under load, and every answer stays true."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from keyforge.contracts import subjects
from keyforge.eventlog.streams import declare
from keyforge.testkit.nats_client import bus_to
from keyforge.testkit.nats_cluster import NatsCluster
from tests.integration.budget_load import Load, agrees
from tests.integration.budget_stack import World
from tests.unit.budget_facts import cap, key_created, key_updated, tenant_created

pytestmark = pytest.mark.cluster


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[NatsCluster]:
    made = NatsCluster(tmp_path)
    try:
        await asyncio.to_thread(made.start)
        yield made
    finally:
        await asyncio.to_thread(made.stop)


async def test_an_owner_outlives_the_leader_of_its_log(cluster: NatsCluster) -> None:
    bus = await bus_to(cluster.urls)
    try:
        await declare(bus.nats, partitions=1, replicas=3)
        world = World(cluster, bus)
        await world.ctl(tenant_created(), key_created(cap("usd", "total", 10**9)))
        async with world.owner() as owner:
            load = Load(world, edges=6)
            await load.more(100)
            leader = await asyncio.to_thread(cluster.stream_leader, subjects.log_stream(0))
            leader.pause()
            await asyncio.sleep(3)
            leader.resume()
            await load.more(50)
            leader = await asyncio.to_thread(cluster.stream_leader, subjects.log_stream(0))
            leader.kill()
            await load.more(50)
            await asyncio.to_thread(leader.start)
            for revision in range(2, 12):  # a control clock that ticks under load
                await world.ctl(key_updated(cap("usd", "total", 10**9), revision=revision))
            await load.stop()
            assert {answer.type for answer in load.answered.values()} <= {"", "stale_policy"}
            async with world.owner(wait=False, instance="budget-1") as standby:
                await agrees(world, owner, standby)
    finally:
        await bus.close()
