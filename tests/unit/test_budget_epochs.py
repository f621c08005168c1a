"""An owner at the edges of its epoch: it appends nothing, and answers nothing, that belongs to another one's."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest

from keyforge.budget.errors import Deposed
from keyforge.contracts import frame
from keyforge.contracts.events import PartitionFenced, RequestAdmitted
from keyforge.contracts.frame import Recorded
from keyforge.contracts.ids import KeyId, OwnerId
from keyforge.eventlog.log import Message
from keyforge.eventlog.memory import Fault, MemoryLog
from keyforge.runtime.clock import SetClock
from tests.unit.budget_facts import EDGE, T0, abandoned, after, ask, fenced, key_created, tenant_created
from tests.unit.budget_twin import ADM, CTL, Owner, Wall, admissions, append, recorded, running

UNTIL_S = 20.0
ANOTHER, NEW = OwnerId("budget-1"), KeyId("new")


def lagging(owner: Owner) -> asyncio.Event:
    """Let the owner fold nothing more until the event is set."""
    fold, goes_on = owner.replica._fold_messages, asyncio.Event()

    async def held_up(messages: list[Message]) -> None:
        await goes_on.wait()
        await fold(messages)

    owner.replica._fold_messages = held_up  # type: ignore[method-assign]
    return goes_on


def lagging_until_asked(owner: Owner) -> None:
    """Let the owner fold nothing more until it asks where the control clock ends."""
    goes_on, last = lagging(owner), owner.log.last

    async def asked(*args: Any) -> Any:
        goes_on.set()
        return await last(*args)

    owner.log.last = asked  # type: ignore[assignment,method-assign]


async def deposed(owner: Owner) -> None:
    """Wait until the owner is."""
    assert owner.running is not None
    with pytest.raises(Deposed):
        async with asyncio.timeout(UNTIL_S):
            await owner.running


async def fences(log: MemoryLog) -> list[tuple[int, str]]:
    return [(r.event.epoch, r.event.owner) for r in await recorded(log) if isinstance(r.event, PartitionFenced)]


async def epochs(log: MemoryLog) -> list[int]:
    """The epoch of each admission in the log."""
    return [r.event.epoch for r in await recorded(log) if isinstance(r.event, RequestAdmitted)]


async def test_what_the_reader_has_yet_to_fold_is_waited_for_before_a_key_is_unknown(
    log: MemoryLog, clock: SetClock
) -> None:
    await append(log, CTL, tenant_created())
    async with running(Owner(log, clock)) as owner:
        await owner.quiet()
        lagging_until_asked(owner)
        await append(log, CTL, key_created(key_id=NEW))
        answers = await owner.ask(ask(1, key_id=NEW), ask(2, key_id=KeyId("never")))
        assert [(a.verdict, a.type) for a in answers] == [("allow", ""), ("refuse", "key_invalid")]


async def test_who_catches_up_with_a_newer_fence_decides_no_more(log: MemoryLog, clock: SetClock) -> None:
    """Its next frame would be conditional on that very fence: the server would store it."""
    await append(log, CTL, tenant_created())
    async with running(Owner(log, clock)) as owner:
        await owner.quiet()
        lagging_until_asked(owner)
        await append(log, CTL, key_created(key_id=NEW), fenced(9, ANOTHER))
        reply = owner.send(ask(1, key_id=NEW))
        await deposed(owner)
        assert reply not in owner.inbox.answers
        assert await admissions(log) == []


async def test_an_epoch_that_is_over_when_it_is_folded_never_begins(log: MemoryLog, clock: SetClock) -> None:
    await append(log, CTL, tenant_created(), key_created())
    owner = Owner(log, clock)
    real = log.append

    async def faster(subject: str, *args: Any, **kwargs: Any) -> Any:
        log.append = real  # type: ignore[method-assign]
        goes_on = lagging(owner)
        outcome = await real(subject, *args, **kwargs)
        await append(log, CTL, fenced(2, ANOTHER))
        goes_on.set()
        return outcome

    log.append = faster  # type: ignore[method-assign]
    async with running(owner):
        await deposed(owner)
    assert owner.epochs == []
    assert (owner.leadership.epoch, owner.leadership.confirmed) == (0, False)


async def test_who_is_slower_does_not_depose_who_was_faster(log: MemoryLog, clock: SetClock) -> None:
    await append(log, CTL, tenant_created(), key_created())
    owner = Owner(log, clock)
    real = log.append

    async def slower(subject: str, *args: Any, **kwargs: Any) -> Any:
        log.append = real  # type: ignore[method-assign]
        await append(log, CTL, fenced(1, ANOTHER))
        return await real(subject, *args, **kwargs)

    log.append = slower  # type: ignore[method-assign]
    async with running(owner):
        await deposed(owner)
    assert await fences(log) == [(1, ANOTHER)]


@pytest.mark.parametrize("name", ["budget-0", "budget-1"], ids=["of our own name", "of another name"])
async def test_any_newer_fence_deposes(log: MemoryLog, clock: SetClock, name: str) -> None:
    await append(log, CTL, tenant_created(), key_created())
    async with running(Owner(log, clock)) as owner:
        await append(log, CTL, fenced(2, OwnerId(name)))
        reply = owner.send(ask(1))
        await deposed(owner)
        assert reply not in owner.inbox.answers
        assert await admissions(log) == []


async def test_an_epoch_is_the_next_one_of_the_log(log: MemoryLog, clock: SetClock) -> None:
    await append(log, CTL, tenant_created(), key_created(), fenced(7, ANOTHER))
    async with running(Owner(log, clock)) as owner:
        assert owner.epochs == [8]
        await owner.ask(ask(1))
        assert await epochs(log) == [8]


async def test_an_admission_names_the_epoch_that_it_was_decided_in(log: MemoryLog, clock: SetClock) -> None:
    await append(log, CTL, tenant_created(), key_created())
    async with running(Owner(log, clock)) as owner:
        await owner.ask(ask(1))
        log.fail_next(Fault.LOST, subject=ADM)
        await owner.ask(ask(2))
        assert owner.epochs == [1, 2]
        assert await epochs(log) == [1, 2]


async def test_an_append_confirms_us_from_when_it_was_sent(log: MemoryLog, clock: SetClock) -> None:
    """Another may own the partition since the server stored it, however late its answer comes."""
    await append(log, CTL, tenant_created(), key_created())
    async with running(Owner(log, clock)) as owner:
        log.pause()
        reply = owner.send(ask(1))
        await asyncio.sleep(0.01)  # its frame is in flight now
        clock.set(after(3))
        log.resume()
        assert [a.verdict for a in await owner.answers(reply)] == ["allow"]
        assert not owner.leadership.confirmed


@pytest.mark.parametrize(("seconds", "answers"), [(1, 501), (3, 0)], ids=["confirmed", "no longer"])
async def test_too_many_are_refused_by_a_confirmed_owner_only(
    log: MemoryLog, clock: SetClock, seconds: float, answers: int
) -> None:
    await append(log, CTL, tenant_created(), key_created())
    async with running(Owner(log, clock)) as owner:
        clock.set(after(seconds))
        assert not owner.committer.offer(EDGE, [ask(i) for i in range(501)], "r")
        assert len(owner.inbox.answers.get("r", [])) == answers


@pytest.mark.parametrize(
    ("ahead", "before", "at"),
    [
        pytest.param(timedelta(seconds=-0.5), after(-60), T0, id="the broker's clock is later"),
        pytest.param(timedelta(0), after(0.5), after(0.5), id="an owner's before us was"),
    ],
)
async def test_no_admission_is_recorded_earlier_than_what_it_was_decided_on(
    log: MemoryLog, clock: SetClock, ahead: timedelta, before: datetime, at: datetime
) -> None:
    await append(log, CTL, tenant_created(), key_created())
    await log.append(ADM, frame.encode([Recorded("x", "test", before, abandoned("never"))]))
    wall = Wall(clock)
    wall.ahead = ahead
    async with running(Owner(log, wall)) as owner:
        await owner.ask(ask(1))
        assert [r.at for r in await recorded(log) if isinstance(r.event, RequestAdmitted)] == [at]
