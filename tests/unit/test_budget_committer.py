"""The committer over a log in memory that refuses, loses and delays: no answer is given that is not so."""

import asyncio
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any

import pytest

from keyforge.budget.application.replica import Replica
from keyforge.budget.core.state_hash import state_hash
from keyforge.budget.errors import Deposed
from keyforge.budget.metrics import Metrics
from keyforge.contracts import subjects
from keyforge.contracts.compression import decompress
from keyforge.contracts.events import RequestAdmitted
from keyforge.contracts.ids import KeyId, OwnerId
from keyforge.eventlog.memory import Fault, MemoryLog
from keyforge.runtime.clock import SetClock
from tests.unit.budget_facts import (
    EDGE,
    T0,
    ask,
    cancelled,
    cap,
    completed,
    fenced,
    key_created,
    key_revoked,
    key_updated,
    rid,
    tenant_created,
)
from tests.unit.budget_twin import ADM, CTL, USE, WAIT_S, Owner, Wall, admissions, append, recorded, running, until


async def test_what_waits_goes_into_one_frame(log: MemoryLog, clock: SetClock) -> None:
    await append(log, CTL, tenant_created(), key_created())
    async with running(Owner(log, clock)) as owner:
        log.pause()
        first = owner.send(ask(1))
        await asyncio.sleep(0.01)  # its frame is in flight now
        others = [owner.send(ask(i)) for i in range(2, 12)]
        log.resume()
        [one] = await owner.answers(first)
        rest = [(await owner.answers(reply))[0] for reply in others]
        assert {answer.sequence for answer in rest} == {one.sequence + 1}
        assert [answer.index for answer in rest] == list(range(10))


async def test_its_frames_are_compressed_but_for_one_that_is_empty(log: MemoryLog, clock: SetClock) -> None:
    last = await append(log, CTL, tenant_created(), key_created(cap("usd", "day", 5)))
    async with running(Owner(log, clock)) as owner:
        await owner.ask(*(ask(i, 1) for i in range(5)))
        clock.set(T0 + timedelta(seconds=3))
        assert [answer.type for answer in await owner.ask(ask(6, 1))] == ["budget_exceeded"]
    fence, admitted, empty = [m for m in await anext(log.read(subjects.log_stream(0))) if m.seq > last]
    assert (fence.data[0], admitted.data[0], empty.data) == (1, 1, b"[]")
    assert len(admitted.data) < len(decompress(admitted.data)) / 5


async def test_twins_in_one_frame_are_one_admission(log: MemoryLog, clock: SetClock) -> None:
    await append(log, CTL, tenant_created(), key_created())
    async with running(Owner(log, clock)) as owner:
        first, second, other = await owner.ask(ask(1), ask(1), ask(2))
        assert first == second
        assert (first.index, other.index) == (0, 1)
        assert len(await admissions(log)) == 2


async def test_a_tick_between_decision_and_append(log: MemoryLog, clock: SetClock) -> None:
    await append(log, CTL, tenant_created(), key_created(cap("usd", "day", 100)))
    async with running(Owner(log, clock)) as owner:
        folded = owner.replica.ledger.sequence
        real = log.append

        async def late(*args: Any, **kwargs: Any) -> Any:
            log.append = real  # type: ignore[method-assign]
            await append(log, CTL, key_revoked())
            return await real(*args, **kwargs)

        log.append = late  # type: ignore[method-assign]
        [answer] = await owner.ask(ask(1))
        assert (answer.verdict, answer.type) == ("refuse", "key_revoked")
        assert owner.replica.ledger.sequence > folded
        assert not await admissions(log)
        assert not owner.replica.holds.requests


async def test_an_owner_that_was_fenced_answers_nothing(log: MemoryLog, clock: SetClock) -> None:
    await append(log, CTL, tenant_created(), key_created())
    async with running(Owner(log, clock)) as first, running(Owner(log, clock, name="budget-1")) as second:
        reply = first.send(ask(1))
        [answer] = await second.ask(ask(2))
        assert answer.verdict == "allow"
        assert first.running is not None
        with pytest.raises(Deposed):
            await first.running
        assert reply not in first.inbox.answers
        assert [name for _, name in await admissions(log)] == [rid(2)]
        first.committer.give_way()
        assert [a.type for a in first.inbox.answers.get(reply, [])] in ([], ["owner_unavailable"])


async def test_two_of_the_same_name_end_each_other(log: MemoryLog, clock: SetClock) -> None:
    await append(log, CTL, tenant_created(), key_created(cap("usd", "day", 10)))
    async with running(Owner(log, clock)) as first, running(Owner(log, clock)) as second:
        replies = [(owner, owner.send(ask(f"{i} {owner is first}"))) for i in range(5) for owner in (first, second)]
        assert first.running is not None
        with pytest.raises(Deposed):
            await first.running
        await until(lambda: all(reply in second.inbox.answers for owner, reply in replies if owner is second))
        assert len(await admissions(log)) == 1


async def test_unavailable_is_tried_again(log: MemoryLog, clock: SetClock) -> None:
    await append(log, CTL, tenant_created(), key_created(cap("usd", "day", 10)))
    async with running(Owner(log, clock)) as owner:
        log.fail_next(Fault.UNAVAILABLE, subject=ADM)
        assert [a.verdict for a in await owner.ask(ask(1))] == ["allow"]


async def test_a_refusal_is_answered_only_while_we_are_surely_the_owner(log: MemoryLog, clock: SetClock) -> None:
    await append(log, CTL, tenant_created(), key_created(cap("usd", "day", 10)))
    async with running(Owner(log, clock)) as owner:
        end = await log.end(owner.replica.stream)
        assert [a.type for a in await owner.ask(ask(1, 11))] == ["budget_exceeded"]
        assert await log.end(owner.replica.stream) == end
        clock.set(T0 + timedelta(seconds=3))
        assert [a.type for a in await owner.ask(ask(1, 11))] == ["budget_exceeded"]
        assert await log.end(owner.replica.stream) == end + 1  # an empty frame: the server still takes it from us
        clock.set(T0 + timedelta(seconds=9))
        log.fail_next(Fault.UNAVAILABLE, subject=ADM)
        await append(log, CTL, fenced(9, OwnerId("another")))
        reply = owner.send(ask(1, 11))
        assert owner.running is not None
        with pytest.raises(Deposed):
            await owner.running
        assert reply not in owner.inbox.answers


async def test_a_key_made_just_now_is_found(log: MemoryLog, clock: SetClock) -> None:
    await append(log, CTL, tenant_created())
    async with running(Owner(log, clock)) as owner:
        await owner.quiet()
        log_end = log.end
        await append(log, CTL, key_created(key_id=KeyId("new")))
        answers = await owner.ask(ask(1, key_id=KeyId("new")), ask(2, key_id=KeyId("never")))
        assert [(a.verdict, a.type) for a in answers] == [("allow", ""), ("refuse", "key_invalid")]
        assert log.end == log_end


async def test_asks_that_waited_too_long_are_dropped_unanswered(log: MemoryLog, clock: SetClock) -> None:
    await append(log, CTL, tenant_created(), key_created())
    async with running(Owner(log, clock, age_s=5)) as owner:
        log.pause()
        inflight = owner.send(ask(1))
        await asyncio.sleep(0.01)  # in flight
        old = owner.send(ask(2))
        clock.set(T0 + timedelta(seconds=6))
        fresh = owner.send(ask(3))
        log.resume()
        await owner.answers(fresh)
        assert inflight in owner.inbox.answers
        assert old not in owner.inbox.answers
        assert [name for _, name in await admissions(log)] == [rid(1), rid(3)]


async def test_too_many_are_not_taken(log: MemoryLog, clock: SetClock) -> None:
    await append(log, CTL, tenant_created(), key_created())
    async with running(Owner(log, clock)) as owner:
        asks = [ask(i) for i in range(501)]
        assert not owner.committer.offer(EDGE, asks, "r")
        assert [answer.type for answer in owner.inbox.answers["r"]] == ["owner_unavailable"] * 501


async def test_a_large_message_goes_into_several_frames(log: MemoryLog, clock: SetClock) -> None:
    await append(log, CTL, tenant_created(), key_created(cap("requests", "total", 400)))
    async with running(Owner(log, clock)) as owner:
        answers = await owner.ask(*(ask(i) for i in range(500)))
        assert [a.verdict for a in answers] == ["allow"] * 400 + ["refuse"] * 100
        assert len({a.sequence for a in answers[:400]}) == 2
        assert [(a.sequence, rid(i)) for i, a in enumerate(answers[:400])] == await admissions(log)


async def test_an_event_that_is_too_large_is_refused(log: MemoryLog, clock: SetClock) -> None:
    await append(log, CTL, tenant_created(), key_created())
    async with running(Owner(log, clock)) as owner:
        big, small = await owner.ask(ask(1, body_commitment="x" * 20_000), ask(2))
        assert (big.type, small.verdict) == ("request_invalid", "allow")


async def test_abandoned_and_overran_are_recorded_unsolicited(log: MemoryLog, clock: SetClock) -> None:
    await append(log, CTL, tenant_created(), key_created(cap("usd", "day", 100)))
    async with running(Owner(log, clock)) as owner:
        await owner.ask(ask(1, 60), ask(2, 10))
        await append(log, USE, completed(2, 15))
        await until(lambda: rid(2) not in owner.replica.ledger.open)
        clock.set(T0 + timedelta(seconds=71))
        await until(lambda: owner.replica.ledger.state_of(rid(1)) == "abandoned")
        await until(lambda: not owner.replica.ledger.overruns)
        assert [a.type for a in await owner.ask(ask(3, 1))] == ["model_frozen"]
        await append(log, USE, completed(1, 5))
        await until(lambda: owner.replica.ledger.state_of(rid(1)) == "completed")


async def test_a_clock_that_steps_is_refused_until_it_is_right_again(log: MemoryLog, clock: SetClock) -> None:
    await append(log, CTL, tenant_created(), key_created())
    wall = Wall(clock)
    async with running(Owner(log, wall)) as owner:
        assert [a.verdict for a in await owner.ask(ask(1))] == ["allow"]
        for ahead_s in (3600, -3600):
            wall.ahead = timedelta(seconds=ahead_s)
            assert [a.type for a in await owner.ask(ask(2))] == ["clock_skew"]
            wall.ahead = timedelta(0)
            await until(lambda: not owner.replica.broker.skewed(wall.now(), wall.monotonic()))
            assert [a.verdict for a in await owner.ask(ask(f"ok {ahead_s}"))] == ["allow"]
        [(_, event)] = [(r.id, r.event) for r in await recorded(log) if r.id == f"{rid('ok 3600')}.admitted"]
        assert isinstance(event, RequestAdmitted)
        assert event.deadline == T0 + timedelta(seconds=60)


async def test_a_cancel_overtakes_its_admission(log: MemoryLog, clock: SetClock) -> None:
    await append(log, CTL, tenant_created(), key_created(cap("usd", "day", 10)))
    async with running(Owner(log, clock)) as owner:
        await append(log, USE, cancelled(1))
        await owner.quiet()
        assert [a.type for a in await owner.ask(ask(1))] == ["request_cancelled"]
        assert [a.verdict for a in await owner.ask(ask(2))] == ["allow"]


async def test_with_a_busy_control_clock_asks_get_through(log: MemoryLog, clock: SetClock) -> None:
    await append(log, CTL, tenant_created(), key_created(key_id=KeyId("busy")), key_created())

    async def change() -> None:
        revision = 1
        while True:
            revision += 1
            await append(log, CTL, key_updated(key_id=KeyId("busy"), revision=revision))
            await asyncio.sleep(0.002)

    changing: Awaitable[None] = asyncio.create_task(change())
    async with running(Owner(log, clock)) as owner:
        for i in range(50):
            assert [a.verdict for a in await owner.ask(ask(i))] == ["allow"]
    changing.cancel()  # type: ignore[attr-defined]


async def test_a_standby_has_the_same_state(log: MemoryLog, clock: SetClock) -> None:
    await append(log, CTL, tenant_created(), key_created(cap("usd", "day", 500)))
    standby = Replica(0, log, clock, Metrics())
    folding = asyncio.create_task(standby.run())
    async with running(Owner(log, clock)) as owner:
        for i in range(20):
            await owner.ask(ask(i, 20))
            await append(log, USE, completed(i, i))
        await owner.quiet()
        assert await standby.folded(owner.replica.ledger.sequence, within_s=WAIT_S)
        assert state_hash(standby.ledger) == state_hash(owner.replica.ledger)
    folding.cancel()
    await asyncio.gather(folding, return_exceptions=True)
