"""The committer when it is not known whether a frame was stored: it finds out before it decides again."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from keyforge.eventlog.log import Message
from keyforge.eventlog.memory import Fault, MemoryLog
from keyforge.runtime.clock import SetClock
from tests.unit.budget_facts import (
    ask,
    cap,
    key_created,
    key_updated,
    rid,
    tenant_created,
)
from tests.unit.budget_twin import ADM, CTL, Owner, Wall, admissions, append, running


@pytest.mark.parametrize("fault", [Fault.ACK_LOST, Fault.LOST, Fault.LATE])
async def test_an_ambiguous_append_is_resolved(log: MemoryLog, clock: SetClock, fault: Fault) -> None:
    await append(log, CTL, tenant_created(), key_created(cap("usd", "day", 100)))
    async with running(Owner(log, clock)) as owner:
        log.fail_next(fault, subject=ADM)
        allowed, refused = await owner.ask(ask(1, 60), ask(2, 60))
        assert (allowed.verdict, refused.verdict) == ("allow", "refuse")
        log.deliver_late()
        assert await admissions(log) == [(allowed.sequence, rid(1))]
        assert owner.epochs == [1, 2]
        await owner.quiet()
        assert not owner.replica.holds.requests
        assert owner.replica.ledger.open[rid(1)].sequence == allowed.sequence


async def test_busy_is_no_proof_and_the_same_bytes_are_sent_again(log: MemoryLog, clock: SetClock) -> None:
    await append(log, CTL, tenant_created(), key_created(cap("usd", "day", 100)))
    async with running(Owner(log, clock)) as owner:
        log.fail_next(Fault.BUSY_YET_STORED, subject=ADM)
        allowed, refused = await owner.ask(ask(1, 60), ask(2, 60))
        assert (allowed.verdict, refused.verdict) == ("allow", "refuse")
        assert {name for _, name in await admissions(log)} == {rid(1)}  # perhaps twice; the fold counts it once
        await owner.quiet()
        assert not owner.replica.holds.requests
        assert len(owner.replica.ledger.open) == 1
        assert owner.epochs == [1]


async def test_busy_and_then_a_tick_is_looked_at(log: MemoryLog, clock: SetClock) -> None:
    await append(log, CTL, tenant_created(), key_created(cap("usd", "day", 100)))
    async with running(Owner(log, clock)) as owner:
        real = log.append
        sends = 0

        async def ticked(subject: str, *args: Any, **kwargs: Any) -> Any:
            nonlocal sends
            sends += 1
            if sends == 2:  # between the send that was Busy, and stored, and the next
                log.append = real  # type: ignore[method-assign]
                await append(log, CTL, key_updated(cap("usd", "day", 100)))
            return await real(subject, *args, **kwargs)

        log.append = ticked  # type: ignore[method-assign]
        log.fail_next(Fault.BUSY_YET_STORED, subject=ADM)
        [allowed] = await owner.ask(ask(1, 60))
        assert allowed.verdict == "allow"
        assert await admissions(log) == [(allowed.sequence, rid(1))]
        await owner.quiet()
        assert not owner.replica.holds.requests
        assert owner.epochs == [1]


async def test_busy_and_then_a_tick_waits_for_a_reader_that_lags(log: MemoryLog, clock: SetClock) -> None:
    """The stored frame and the tick after it are in the log, and this owner has folded neither yet."""
    await append(log, CTL, tenant_created(), key_created(cap("usd", "day", 100)))
    async with running(Owner(log, clock)) as owner:
        real, fold, goes_on, sends = log.append, owner.replica._fold_messages, asyncio.Event(), 0

        async def held_up(messages: list[Message]) -> None:
            await goes_on.wait()
            await fold(messages)

        async def ticked(subject: str, *args: Any, **kwargs: Any) -> Any:
            nonlocal sends
            sends += subject == ADM
            if subject == ADM and sends == 2:
                await append(log, CTL, key_updated(cap("usd", "day", 100)))
            return await real(subject, *args, **kwargs)

        owner.replica._fold_messages = held_up  # type: ignore[method-assign]
        log.append = ticked  # type: ignore[method-assign]
        log.fail_next(Fault.BUSY_YET_STORED, subject=ADM)
        reply = owner.send(ask(1, 60))
        await asyncio.sleep(0.1)
        assert (sends, reply in owner.inbox.answers) == (2, False), (
            "nothing is decided on a view that is known to be old"
        )
        goes_on.set()
        [allowed] = await owner.answers(reply)
        assert await admissions(log) == [(allowed.sequence, rid(1))]
        assert sends == 2


@pytest.mark.parametrize("fault", [Fault.ACK_LOST, Fault.LOST, Fault.LATE])
async def test_an_ambiguous_fence_is_fenced_again(log: MemoryLog, clock: SetClock, fault: Fault) -> None:
    await append(log, CTL, tenant_created(), key_created())
    log.fail_next(fault, subject=CTL)
    async with running(Owner(log, clock)) as owner:
        [answer] = await owner.ask(ask(1))
        log.deliver_late()
        [again] = await owner.ask(ask(2))
        assert (answer.verdict, again.verdict) == ("allow", "allow")


async def test_a_second_copy_is_not_refused_for_the_clock(log: MemoryLog, clock: SetClock) -> None:
    """The answer to the first was lost with its edge's link. Refused, the edge would not cancel what was admitted."""
    await append(log, CTL, tenant_created(), key_created())
    wall = Wall(clock)
    async with running(Owner(log, wall)) as owner:
        assert [a.verdict for a in await owner.ask(ask(1))] == ["allow"]
        wall.ahead = timedelta(hours=1)
        again = owner.send(ask(1))
        assert [a.type for a in await owner.ask(ask(2))] == ["clock_skew"]
        assert again not in owner.inbox.answers


async def test_a_second_copy_is_not_turned_away(log: MemoryLog, clock: SetClock) -> None:
    await append(log, CTL, tenant_created(), key_created())
    async with running(Owner(log, clock)) as owner:
        assert [a.verdict for a in await owner.ask(ask(1))] == ["allow"]
        log.pause()
        owner.send(ask(2))
        await asyncio.sleep(0.01)  # its frame is in flight now
        admitted, on_its_way, fresh = owner.send(ask(1)), owner.send(ask(2)), owner.send(ask(3))
        owner.committer.give_way()
        assert [a.type for a in owner.inbox.answers[fresh]] == ["owner_unavailable"]
        assert not {admitted, on_its_way} & set(owner.inbox.answers)
