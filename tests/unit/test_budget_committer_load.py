"""The append lane and the fold when there is more than they can do, or nothing for a long time."""

import asyncio
from datetime import timedelta

import pytest

from keyforge.budget.application.batch import Drafter
from keyforge.budget.application.batching import Pace
from keyforge.budget.application.pending import Call, Waiting
from keyforge.contracts.frame import FRAME_BYTES_MAX
from keyforge.eventlog.memory import MemoryLog
from keyforge.runtime.clock import SetClock, SystemClock
from tests.unit.budget_facts import EDGE, T0, after, ask, key_created, rid, tenant_created
from tests.unit.budget_twin import CTL, Owner, running, tell

MANY = 250


@pytest.fixture
def clock() -> SetClock:
    return SetClock(T0)


@pytest.fixture
def log(clock: SetClock) -> MemoryLog:
    return MemoryLog.of_partitions(1, clock=clock.now)


async def test_what_fell_due_is_said_however_many_ask(log: MemoryLog, clock: SetClock) -> None:
    await tell(log, CTL, tenant_created(), key_created())
    async with running(Owner(log, clock)) as owner:
        await owner.ask(ask("old", 10, ttl_ms=1000))
        clock.set(after(20))
        calls = 0
        while owner.follower.ledger.state_of(rid("old")) != "abandoned":
            asks = [ask(f"{calls}.{i}", 0) for i in range(MANY)]
            while owner.lane.offer(EDGE, asks, ""):
                calls += 1
                assert calls < 20
                clock.set(clock.now() + timedelta(seconds=0.5))
                asks = [ask(f"{calls}.{i}", 0) for i in range(MANY)]
            await asyncio.sleep(0)


async def test_large_admissions_leave_room_for_what_fell_due(log: MemoryLog, clock: SetClock) -> None:
    await tell(log, CTL, tenant_created(), key_created())
    async with running(Owner(log, clock)) as owner:
        await owner.ask(*(ask(f"old {i}", 0, ttl_ms=1000) for i in range(30)))
        await owner.quiet()
        drafter = Drafter(owner.follower, source="test", abandon_grace_s=10)
        call = Call(EDGE, [ask(i, 0, body_commitment="x" * 15_650) for i in range(40)], "", owner.inbox, received_s=0)
        draft, rest = drafter.decide([Waiting(call, i) for i in range(40)], 1, after(20))
        drafter.add_duties(draft, after(20))
        assert rest
        assert len(draft.events) == len(draft.verdicts) + 30
        assert len(draft.body()) <= FRAME_BYTES_MAX


class WokenEarly(Pace):
    """Every frame is due at another time, and its lane wakes twice before that."""

    def __init__(self) -> None:
        super().__init__(SystemClock())
        self.asked_for: list[float] = []
        self._dues = 0

    def due_s(self) -> float:
        self._dues += 1
        return float(self._dues)

    def left_s(self, asks: int, due_s: float) -> float:
        self.asked_for.append(due_s)
        return 0.001 if len(self.asked_for) % 3 else 0.0


async def test_a_frame_waits_for_the_tick_that_was_next_when_it_began_to(log: MemoryLog, clock: SetClock) -> None:
    await tell(log, CTL, tenant_created(), key_created())
    owner = Owner(log, clock)
    owner.lane._pace = pace = WokenEarly()
    async with running(owner):
        await owner.ask(ask(1, 0))
    assert len(pace.asked_for) == 3
    assert len(set(pace.asked_for)) == 1


async def test_waiting_in_vain_leaves_nothing_behind(log: MemoryLog, clock: SetClock) -> None:
    await tell(log, CTL, tenant_created(), key_created())
    async with running(Owner(log, clock)) as owner:
        await owner.quiet()
        for _ in range(10):
            assert not await owner.follower.folded(10**9, within_s=0.001)
        assert not owner.follower._waiters
