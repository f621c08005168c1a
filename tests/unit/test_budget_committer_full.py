"""An owner whose log is full: refused by its name, nothing held, what is admitted already left to its edge."""

from structlog.testing import capture_logs

from keyforge.contracts.subjects import log_stream
from keyforge.eventlog.memory import Fault, MemoryLog
from keyforge.runtime.clock import SetClock
from tests.unit.budget_facts import ask, cap, key_created, tenant_created
from tests.unit.budget_twin import ADM, CTL, Owner, append, running


async def test_full_is_answered_by_its_name_and_holds_nothing(log: MemoryLog, clock: SetClock) -> None:
    await append(log, CTL, tenant_created(), key_created(cap("usd", "day", 10)))
    async with running(Owner(log, clock)) as owner:
        log.fail_next(Fault.FULL, subject=ADM)
        assert [a.type for a in await owner.ask(ask(1))] == ["log_full"]
        assert [a.verdict for a in await owner.ask(ask(2))] == ["allow"]


async def test_full_is_logged_when_it_begins_and_when_it_ends(log: MemoryLog, clock: SetClock) -> None:
    """Not at each attempt: what is overdue is tried twice a second for as long as the log is full."""
    await append(log, CTL, tenant_created(), key_created())
    async with running(Owner(log, clock)) as owner:
        with capture_logs() as lines:
            for number in range(3):
                log.fail_next(Fault.FULL, subject=ADM)
                assert [a.type for a in await owner.ask(ask(number))] == ["log_full"]
            for number in range(3, 5):
                assert [a.verdict for a in await owner.ask(ask(number))] == ["allow"]
    said = [(line["log_level"], line["event"], line["stream"]) for line in lines if line["event"].startswith("the log")]
    stream = log_stream(0)
    assert said == [("error", "the log is full", stream), ("info", "the log has room again", stream)]


async def test_full_refuses_no_ask_that_is_admitted_already(log: MemoryLog, clock: SetClock) -> None:
    """Its first answer was lost: refused, its edge would not cancel what is open."""
    await append(log, CTL, tenant_created(), key_created())
    async with running(Owner(log, clock)) as owner:
        assert [a.verdict for a in await owner.ask(ask(1))] == ["allow"]
        log.fail_next(Fault.FULL, subject=ADM)
        twin, fresh = owner.send(ask(1)), owner.send(ask(2))
        assert [a.type for a in await owner.answers(fresh)] == ["log_full"]
        assert twin not in owner.inbox.answers
