"""What must hold when servers pause, owners die and clocks step: no acknowledged admission lost, none made twice."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from keyforge.budget.application import partition
from keyforge.contracts import subjects
from keyforge.contracts.ids import KeyId
from keyforge.runtime.clock import SystemClock
from keyforge.testkit.nats_server import NatsNode
from tests.integration.budget_load import Load, Process, agrees
from tests.integration.budget_stack import Faulty, World, until, world_on
from tests.unit.budget_facts import (
    ask,
    cancelled,
    cap,
    completed,
    key_created,
    key_revoked,
    key_updated,
    tenant_created,
)

ADM, CTL = subjects.adm(0), subjects.ctl(0)


@pytest.fixture
async def world(nats_own: Callable[..., NatsNode]) -> AsyncIterator[World]:
    async with world_on(nats_own()) as made:
        yield made


@pytest.mark.parametrize("fault", ["lose_ack_of", "lose"])
async def test_an_ambiguous_append_of_the_real_log(world: World, fault: str) -> None:
    await world.ctl(tenant_created(), key_created(cap("usd", "day", 100)))
    faulty: list[Faulty] = []

    def wrap(log: Any) -> Any:
        faulty.append(Faulty(log))
        return faulty[0]

    async with world.owner(log=wrap) as budget:
        setattr(faulty[0], fault, ADM)
        allowed, refused = await world.ask(ask(1, 60), ask(2, 60))
        assert (allowed.verdict, refused.type) == ("allow", "budget_exceeded")
        assert [(seq, e.request_id) for seq, e in await world.admitted()] == [(allowed.sequence, "r-1")]
        ledger = budget.partitions[0].replica.ledger
        assert ledger.epoch == 2
        first = await world.ask(ask(3, 10), epoch=1)  # an edge that does not know the new epoch yet
        second = await world.ask(ask(4, 10), epoch=2)
        assert [a.verdict for a in first + second] == ["allow", "allow"]
        await until(lambda: not budget.partitions[0].replica.holds.requests, "nothing is held")


async def test_a_server_that_hangs_in_the_middle(world: World) -> None:
    """SIGSTOP of nats-server under load: appends time out, are made sure of, and every answer is true."""
    await world.ctl(tenant_created(), key_created(cap("requests", "total", 100_000)))
    async with world.owner() as budget:
        ledger = budget.partitions[0].replica.ledger
        load = Load(world, edges=8)
        assert isinstance(world.node, NatsNode)
        for _ in range(5):
            await load.more(50)
            world.node.pause()
            await asyncio.sleep(2.3)  # past the append's timeout
            world.node.resume()
            await load.more(20)
            if ledger.epoch >= 2:  # an append was in flight: it was made sure of with a fence
                break
        await load.stop()
        assert len(load.allowed) == len(load.answered)
        assert ledger.epoch >= 2


async def test_two_owners_that_fight_never_both_admit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes the partition from the other again and again, under load: the lease is lost while its owner admits."""
    monkeypatch.setattr(partition, "LEASE_CHECK_S", 0.01)
    monkeypatch.setattr(partition, "DEPOSED_PAUSE_S", 0.01)
    keys = [KeyId(f"k{turn}") for turn in range(6)]
    await world.ctl(tenant_created(), *(key_created(cap("usd", "total", 500), key_id=key) for key in keys))
    async with world.owner() as first, world.owner(wait=False, instance="budget-1") as second:
        load = Load(world, edges=8)
        for turn, load.key_id in enumerate(keys):
            enough = len(load.allowed) + 10
            await until(lambda enough=enough: len(load.allowed) >= enough, "a part of the cap is used")  # type: ignore[misc]
            winner, loser = (each.partitions[0] for each in ((second, first), (first, second))[turn % 2])
            while loser.owner or not winner.owner:
                lease = await world.lease()
                if lease is not None and lease.owner != f"budget-{(turn + 1) % 2}":
                    await world.leases.delete(subjects.lease_key(0))
                await asyncio.sleep(0.02)
        admitted = await load.stop()
        for key in keys:
            assert sum(event.reserved.nusd for event in admitted if event.key_id == key) <= 500
        epochs = [event.epoch for event in admitted]
        assert epochs == sorted(epochs)
        assert len(set(epochs)) > 3
        await agrees(world, first, second)


async def test_nothing_is_admitted_after_an_acknowledged_revoke(world: World) -> None:
    """With a control clock that other keys keep busy, and asks that never pause."""
    keys = [KeyId(f"k{i}") for i in range(6)]
    await world.ctl(tenant_created(), key_created(key_id=KeyId("busy")), *(key_created(key_id=key) for key in keys))
    async with world.owner() as budget:
        stop = asyncio.Event()

        async def busy() -> None:
            revision = 1
            while not stop.is_set():
                revision += 1
                await world.ctl(key_updated(key_id=KeyId("busy"), revision=revision))

        async def load(key: KeyId) -> None:
            number = 0
            while not stop.is_set():
                number += 1
                await world.ask(ask(f"{key} {number}", key_id=key))

        loads = [asyncio.create_task(load(key)) for key in keys] + [asyncio.create_task(busy())]
        revoked: dict[KeyId, int] = {}
        for key in keys:
            await asyncio.sleep(0.1)
            revoked[key] = await world.ctl(key_revoked(key_id=key))
            [answer] = await world.ask(ask(f"{key} after", key_id=key, policy_revision=1))
            assert answer.type == "key_revoked"
        stop.set()
        await asyncio.gather(*loads)
        admitted = await world.admitted()
        assert {event.key_id for _, event in admitted} == set(keys)
        assert all(seq < revoked[event.key_id] for seq, event in admitted)
        await agrees(world, budget)


async def test_abandoned_then_completed_after_all(world: World) -> None:
    await world.ctl(tenant_created(), key_created(cap("usd", "day", 100)))
    async with world.owner(abandon_grace_s=1) as budget:
        ledger = budget.partitions[0].replica.ledger
        await world.ask(ask(1, 60, ttl_ms=200), ask(2, 30, ttl_ms=200))
        await world.use(cancelled(2))
        await until(lambda: ledger.state_of(ask(1).request_id) == "abandoned", "abandoned")
        assert ledger.state_of(ask(2).request_id) == "cancelled"
        [answer] = await world.ask(ask(3, 41))
        assert answer.type == "budget_exceeded"
        await world.use(completed(1, 5))
        await until(lambda: ledger.state_of(ask(1).request_id) == "completed", "completed")
        [answer] = await world.ask(ask(3, 95))
        assert answer.verdict == "allow"


async def test_a_clock_that_disagrees_with_the_brokers_refuses(world: World) -> None:
    class Ahead(SystemClock):
        def now(self) -> Any:
            return super().now() + ahead

    ahead = timedelta(0)
    await world.ctl(tenant_created(), key_created())
    async with world.owner(clock=Ahead()) as budget:
        assert [a.verdict for a in await world.ask(ask(1))] == ["allow"]
        ahead = timedelta(hours=25)
        assert [a.type for a in await world.ask(ask(2))] == ["clock_skew"]
        assert not budget.partitions[0].ready
        ahead = timedelta(0)
        assert [a.verdict for a in await world.ask(ask(3))] == ["allow"]
        assert budget.partitions[0].ready


async def test_a_standby_takes_over_when_the_owner_goes(world: World) -> None:
    await world.ctl(tenant_created(), key_created(cap("usd", "day", 100)))
    async with AsyncExitStack() as leaving:
        owner = await leaving.enter_async_context(world.owner())
        async with world.owner(wait=False, instance="budget-1") as standby:
            [answer] = await world.ask(ask(1, 60))
            assert answer.verdict == "allow"
            await agrees(world, owner, standby)
            assert not standby.partitions[0].owner
            await leaving.aclose()
            await until(lambda: standby.partitions[0].owner, "the standby took over")
            [refused, again] = await world.ask(ask(2, 60), ask(1, 60))
            assert (refused.type, again) == ("budget_exceeded", answer)


async def test_killed_under_load_and_started_again(world: World, tmp_path: Path) -> None:
    """kill -9 of the owner, three times: every admission that was answered is in the log where its answer has it."""
    await world.ctl(tenant_created(), key_created(cap("usd", "total", 100_000)))
    owner = Process(world, tmp_path)
    load = Load(world, edges=8)
    try:
        for _ in range(3):
            await load.more(200)
            owner.process.kill()
            owner.process.wait(60)
            owner.started()
        await load.more(50)
        assert len({event.epoch for event in await load.stop()}) == 4
        assert len(load.allowed) == len(load.answered)
    finally:
        assert owner.end() == 0


async def test_a_paused_owner_wakes_and_admits_no_dead_asks(world: World, tmp_path: Path) -> None:
    """SIGSTOP of the owner for longer than an edge waits: what lay in its socket is dropped, fresh asks are not."""
    await world.ctl(tenant_created(), key_created())
    owner = Process(world, tmp_path)
    try:
        await world.ask(ask("warm"))
        lease = await world.lease()
        assert lease is not None
        owner.process.send_signal(signal.SIGSTOP)
        dead = [ask(f"dead {i}") for i in range(20)]
        found = await asyncio.gather(*(world.ask_once(one, epoch=lease.epoch, within_s=0.5) for one in dead))
        assert found == [None] * 20
        await asyncio.sleep(2)  # longer than a stall may be
        owner.process.send_signal(signal.SIGCONT)
        answers = []
        for i in range(100):
            answer = await world.ask_once(ask(f"fresh {i}"), epoch=lease.epoch, within_s=0.3)
            if answer:
                answers.append(answer[0].verdict)
            if len(answers) == 5:
                break
        assert answers == ["allow"] * 5
        names = {event.request_id for _, event in await world.admitted()}
        assert not names & {one.request_id for one in dead}
    finally:
        assert owner.end() == 0
