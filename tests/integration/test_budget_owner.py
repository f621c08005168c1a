"""An owner with a real log: reserves answered, races exact, takeovers safe."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from keyforge.testkit.nats_server import NatsNode
from tests.integration.budget_stack import World, until, world_on
from tests.unit.budget_facts import ask, cap, completed, key_created, tenant_created


@pytest.fixture
async def world(nats_own: Callable[..., NatsNode]) -> AsyncIterator[World]:
    async with world_on(nats_own()) as made:
        yield made


async def test_a_reserve_is_in_the_log_before_it_is_answered(world: World) -> None:
    await world.ctl(tenant_created(), key_created(cap("usd", "month", 100)))
    async with world.owner() as budget:
        [answer] = await world.ask(ask(1, 60))
        assert answer.verdict == "allow"
        assert [(seq, event.request_id) for seq, event in await world.admitted()] == [(answer.sequence, "r-1")]
        refused, again = await world.ask(ask(2, 60), ask(1, 60))
        assert (refused.verdict, refused.type, refused.scope) == ("refuse", "budget_exceeded", "key")
        assert again == answer
        assert refused.sequence >= answer.sequence, "it names what it was decided on"
        stored = await world.use(completed(1, 10))
        await until(lambda: not budget.partitions[0].replica.ledger.open, "the completion is folded")
        [refused] = await world.ask(ask(4, 91))
        assert (refused.type, refused.sequence) == ("budget_exceeded", budget.partitions[0].replica.ledger.sequence)
        assert refused.sequence >= stored
        [answer] = await world.ask(ask(3, 90))
        assert answer.verdict == "allow"


async def test_of_200_that_race_for_50_exactly_50_win(world: World) -> None:
    await world.ctl(tenant_created(), key_created(cap("usd", "month", 500)))
    async with world.owner() as budget:
        answers = [one for [one] in await asyncio.gather(*(world.ask(ask(i, 10)) for i in range(200)))]
        assert sum(answer.verdict == "allow" for answer in answers) == 50
        assert {answer.type for answer in answers if answer.verdict == "refuse"} == {"budget_exceeded"}
        assert len(await world.admitted()) == 50
        replica = budget.partitions[0].replica
        await until(lambda: len(replica.ledger.open) == 50 and not replica.holds.requests, "all folded")
