"""How an owner's committer ends: it answers what it was offered, or has the next owner asked."""

import asyncio

from keyforge.contracts.reserve import Answer
from keyforge.eventlog.memory import MemoryLog
from keyforge.runtime.clock import SetClock
from tests.unit.budget_facts import EDGE, ask, key_created, tenant_created
from tests.unit.budget_twin import CTL, Owner, append, running


async def test_what_was_offered_before_a_stop_is_answered(log: MemoryLog, clock: SetClock) -> None:
    await append(log, CTL, tenant_created(), key_created())
    async with running(Owner(log, clock)) as owner:
        log.pause()
        owner.send(ask(0))
        await asyncio.sleep(0.01)  # its frame is in flight now
        waiting = [owner.send(ask(number)) for number in (1, 2)]
        owner.committer.stop()
        log.resume()
        assert owner.running is not None
        await owner.running
        assert [[a.verdict for a in owner.inbox.answers[reply]] for reply in waiting] == [["allow"], ["allow"]]


async def test_who_gives_way_has_the_next_owner_asked(log: MemoryLog, clock: SetClock) -> None:
    await append(log, CTL, tenant_created(), key_created())
    async with running(Owner(log, clock)) as owner:
        await owner.ask(ask(0))
        log.pause()
        owner.send(ask(1))
        await asyncio.sleep(0.01)  # its frame is in flight now
        waiting = owner.send(ask(2))
        owner.committer.give_way()
        assert not owner.committer.offer(EDGE, [ask(3)], "late")
        log.resume()
        refused = Answer("refuse", "owner_unavailable", again=True)
        assert [owner.inbox.answers[reply] for reply in (waiting, "late")] == [[refused], [refused]]
