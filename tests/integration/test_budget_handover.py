"""An owner that ends under load gives its partitions to a standby, and no edge notices."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from itertools import pairwise
from typing import Final

import pytest
from structlog.testing import capture_logs

from keyforge.budget import app
from keyforge.contracts import subjects
from keyforge.contracts.reserve import Answer
from keyforge.edge.outbound.budget_client import NatsBudgetClient, ReserveBounds
from keyforge.edge.outbound.feeds.bucket_watch import follow
from keyforge.edge.outbound.feeds.owners import Owners
from keyforge.runtime.buckets import Bucket
from keyforge.testkit.nats_server import NatsNode
from tests.integration.budget_stack import World, until, world_on
from tests.pace import within
from tests.unit.budget_facts import EDGE, ask, key_created, tenant_created

EVERY_S: Final = 0.005
ANSWERED: Final = 200
"""Asks that are answered before the owner ends, and after its successor took over."""
BURST: Final = range(1_000_000, 1_001_500)
GAP_S: Final = 1.0
"""A standby looks for a free lease twice a second; the rest are milliseconds."""


@pytest.fixture
async def world(nats_own: Callable[..., NatsNode]) -> AsyncIterator[World]:
    async with world_on(nats_own()) as made:
        yield made


async def test_no_ask_fails_while_an_owner_ends(world: World) -> None:
    loop = asyncio.get_running_loop()
    await world.ctl(tenant_created(), key_created())
    owners = Owners(loop.time)
    leases = Bucket(world.bus.nats_py, world.log, subjects.LEASES_BUCKET)
    watching = asyncio.create_task(follow(world.log, leases, subjects.LEASES_BUCKET, owners.apply))
    client = NatsBudgetClient(world.bus.nats, owners, EDGE, ReserveBounds(answer_s=20.0, owner_s=30.0), loop.time)
    answered: list[float] = []
    refused: list[object] = []
    asked: set[asyncio.Task[None]] = set()

    async def one(number: int) -> None:
        answer = await client.ask(0, ask(number))
        if isinstance(answer, Answer) and answer.verdict == "allow":
            answered.append(loop.time())
        else:
            refused.append(answer)

    async def load() -> None:
        for number in range(100_000):
            asked.add(asyncio.create_task(one(number)))
            await asyncio.sleep(EVERY_S)

    async with AsyncExitStack() as leaving:
        await leaving.enter_async_context(world.owner())
        async with world.owner(wait=False, instance="budget-1") as standby:
            loading = asyncio.create_task(load())
            await until(lambda: len(answered) > ANSWERED, "asks are answered")
            asked |= {asyncio.create_task(one(number)) for number in BURST}
            await asyncio.sleep(0)  # on their way, and more than fit into a frame, when the owner is asked to end
            await until(lambda: standby.partitions[0].ready, "the standby has caught up")
            ending = asyncio.create_task(leaving.aclose())
            while not standby.partitions[0].owner:
                assert standby.partitions[0].ready, "its balancer would be left with nobody"
                await asyncio.sleep(EVERY_S)
            await ending
            count = len(answered)
            await until(lambda: len(answered) > count + ANSWERED, "asks are answered again")
            loading.cancel()
            await asyncio.gather(*asked)
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    gap_s = max(after - before for before, after in pairwise(answered))
    print(f"longest time without an answer: {gap_s * 1000:.0f} ms, of {len(answered)} answers")  # noqa: T201
    assert refused == []
    assert within(gap_s, GAP_S)


async def test_an_owner_that_ends_while_the_log_hangs_names_what_did_not_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "STOP_S_MAX", 0.3)
    async with world.owner() as budget:
        node = world.node
        assert isinstance(node, NatsNode)
        await asyncio.to_thread(node.pause)
        try:
            with capture_logs() as lines:
                await budget.stop()
        finally:
            node.resume()
    assert [line["partitions"] for line in lines if line["event"] == "partitions did not end"] == [[0]]
