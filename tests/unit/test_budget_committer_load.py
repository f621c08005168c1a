"""The committer and the fold when there is more than they can do, or nothing for a long time."""

import asyncio
from datetime import timedelta

from keyforge.budget.application.batch import BatchBuilder
from keyforge.budget.application.batching import Batching
from keyforge.budget.application.pending import PendingReserves
from keyforge.contracts.frame import FRAME_BYTES_MAX
from keyforge.eventlog.memory import MemoryLog
from keyforge.runtime.clock import SetClock, SystemClock
from tests.unit.budget_facts import EDGE, after, ask, key_created, rid, tenant_created
from tests.unit.budget_twin import CTL, Owner, append, running

MANY = 250


async def test_what_is_overdue_is_recorded_however_many_ask(log: MemoryLog, clock: SetClock) -> None:
    await append(log, CTL, tenant_created(), key_created())
    async with running(Owner(log, clock)) as owner:
        await owner.ask(ask("old", 10, ttl_ms=1000))
        clock.set(after(20))
        messages = 0
        while owner.replica.ledger.state_of(rid("old")) != "abandoned":
            asks = [ask(f"{messages}.{i}", 0) for i in range(MANY)]
            while owner.committer.offer(EDGE, asks, ""):
                messages += 1
                assert messages < 20
                clock.set(clock.now() + timedelta(seconds=0.5))
                asks = [ask(f"{messages}.{i}", 0) for i in range(MANY)]
            await asyncio.sleep(0)


async def test_large_admissions_leave_room_for_what_is_overdue(log: MemoryLog, clock: SetClock) -> None:
    await append(log, CTL, tenant_created(), key_created())
    async with running(Owner(log, clock)) as owner:
        await owner.ask(*(ask(f"old {i}", 0, ttl_ms=1000) for i in range(30)))
        await owner.quiet()
        builder = BatchBuilder(owner.replica, source="test", abandon_grace_s=10)
        asks = [ask(i, 0, body_commitment="x" * 15_650) for i in range(40)]
        message = PendingReserves(EDGE, asks, "", owner.inbox, received_s=0)
        batch, rest = builder.decide(message.each(), 1, after(20))
        builder.add_overdue(batch, after(20))
        assert rest
        assert len(batch.events) == len(batch.verdicts) + 30
        assert len(batch.body()) <= FRAME_BYTES_MAX


class WokenEarly(Batching):
    """Every frame is due at another time, and its committer wakes twice before that."""

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
    await append(log, CTL, tenant_created(), key_created())
    owner = Owner(log, clock)
    owner.committer._batching = batching = WokenEarly()
    async with running(owner):
        await owner.ask(ask(1, 0))
    assert len(batching.asked_for) == 3
    assert len(set(batching.asked_for)) == 1


async def test_waiting_in_vain_leaves_no_waiter(log: MemoryLog, clock: SetClock) -> None:
    await append(log, CTL, tenant_created(), key_created())
    async with running(Owner(log, clock)) as owner:
        await owner.quiet()
        for _ in range(10):
            assert not await owner.replica.folded(10**9, within_s=0.001)
        assert not owner.replica._waiters
