"""The committer when our clock steps while a frame is made: no wrong time gets into the log, where it would stay."""

from datetime import timedelta
from typing import Any

from keyforge.contracts.ids import KeyId
from keyforge.eventlog.memory import Fault, MemoryLog
from keyforge.runtime.clock import SetClock
from tests.unit.budget_facts import T0, ask, key_created, tenant_created
from tests.unit.budget_twin import ADM, CTL, Owner, Wall, append, running, until

HOUR = timedelta(hours=1)


async def test_a_step_while_the_control_clock_is_asked(log: MemoryLog, clock: SetClock) -> None:
    await append(log, CTL, tenant_created(), key_created())
    wall = Wall(clock)
    async with running(Owner(log, wall)) as owner:
        real = log.last

        async def stepped(*args: Any) -> Any:
            log.last = real  # type: ignore[method-assign]
            wall.ahead = HOUR
            await append(log, CTL, key_created(key_id=KeyId("new")))
            return await real(*args)

        log.last = stepped  # type: ignore[assignment,method-assign]
        assert [a.verdict for a in await owner.ask(ask(1, key_id=KeyId("new")))] == ["allow"]
        assert [a.type for a in await owner.ask(ask(2))] == ["clock_skew"]
        wall.ahead = timedelta(0)
        await until(lambda: not owner.replica.broker.skewed(wall.now(), wall.monotonic()))
        assert [a.verdict for a in await owner.ask(ask(3))] == ["allow"]
        await owner.quiet()
        assert owner.replica.ledger.last_at == T0


async def test_a_step_while_an_unknown_frame_is_resolved(log: MemoryLog, clock: SetClock) -> None:
    await append(log, CTL, tenant_created(), key_created())
    wall = Wall(clock)
    async with running(Owner(log, wall)) as owner:
        real = log.append
        steps = [HOUR, timedelta(0)]  # before the frame that is lost, and again before the fence after it

        async def stepped(*args: Any, **kwargs: Any) -> Any:
            if steps:
                wall.ahead = steps.pop(0)
            return await real(*args, **kwargs)

        log.append = stepped  # type: ignore[method-assign]
        log.fail_next(Fault.LOST, subject=ADM)
        assert [a.verdict for a in await owner.ask(ask(1))] == ["allow"]
        assert owner.epochs == [1, 2]
        await owner.quiet()
        assert owner.replica.ledger.last_at == T0
