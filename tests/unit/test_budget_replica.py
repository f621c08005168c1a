"""The folded state of a partition beside what its owner holds and sent: what is ours is known by bytes and subject."""

import asyncio
from datetime import timedelta

import pytest

from keyforge.budget.application.replica import Replica
from keyforge.budget.core.admit import admit
from keyforge.budget.core.decision_time import DecisionTime
from keyforge.budget.core.holds import HeldFrame
from keyforge.budget.errors import FoldFailed
from keyforge.budget.metrics import Metrics
from keyforge.contracts import frame
from keyforge.contracts.events import RequestAdmitted
from keyforge.contracts.frame import Recorded
from keyforge.contracts.limits import Limit
from keyforge.eventlog.log import Message
from keyforge.eventlog.memory import MemoryLog
from keyforge.runtime.clock import SetClock
from tests.unit.budget_facts import EDGE, T0, ask, cap, key_created, rid, tenant_created
from tests.unit.budget_twin import ADM, CTL, USE, WAIT_S, append


async def replica_of(*limits: Limit, clock: SetClock | None = None) -> tuple[MemoryLog, Replica]:
    """A log with a tenant and its key, and a replica that folded it."""
    clock = clock or SetClock(T0)
    log = MemoryLog.of_partitions(1, clock=clock.now)
    await append(log, CTL, tenant_created(), key_created(*limits))
    replica = Replica(0, log, clock, Metrics())
    await replica._fold_messages(await anext(log.read(replica.stream)))
    return log, replica


def admitted(replica: Replica, number: int, nusd: int = 10) -> RequestAdmitted | None:
    """Decide an ask and hold it, as an owner does."""
    outcome = admit(replica.ledger, replica.holds, ask(number, nusd), EDGE, epoch=0, now=DecisionTime(T0))
    if isinstance(outcome, RequestAdmitted):
        replica.holds.hold(replica.ledger, outcome, HeldFrame())
        return outcome
    return None


async def test_what_is_held_counts_until_it_is_folded_or_we_own_no_more() -> None:
    _, replica = await replica_of(cap("usd", "day", 10))
    first = admitted(replica, 1)
    assert first is not None
    assert admitted(replica, 2) is None
    assert replica.may_be_admitted(rid(1))
    replica.disown()
    assert not replica.may_be_admitted(rid(1))
    assert admitted(replica, 2) is not None


async def test_a_hold_ends_when_its_admission_is_folded() -> None:
    _, replica = await replica_of(cap("usd", "day", 20))
    first = admitted(replica, 1)
    assert first is not None
    data = frame.encode([Recorded("x", "test", T0, first)])
    await replica._fold_messages([Message(2, ADM, T0, data)])
    assert (list(replica.holds.requests), list(replica.ledger.open)) == ([], [rid(1)])
    assert admitted(replica, 2) is not None
    assert admitted(replica, 3) is None


@pytest.mark.parametrize(("subject", "open_"), [(ADM, [rid(1)]), (USE, [])], ids=["where we sent it", "elsewhere"])
async def test_bytes_of_ours_on_a_subject_of_others_are_not_ours(subject: str, open_: list[str]) -> None:
    """An edge that repeats a frame of its owner admits nothing by that."""
    _, replica = await replica_of()
    first = admitted(replica, 1)
    assert first is not None
    events = [Recorded("x", "test", T0, first)]
    body = frame.encode(events)
    replica.note_sent(ADM, body, events)
    await replica._fold_messages([Message(2, subject, T0, body)])
    assert list(replica.ledger.open) == open_


async def test_a_frame_of_ours_that_is_read_back_shows_the_brokers_clock() -> None:
    clock = SetClock(T0)
    _, replica = await replica_of(clock=clock)
    replica.note_sent(ADM, b"[]", [])
    await replica._fold_messages([Message(2, ADM, T0 - timedelta(hours=1), b"[]")])
    assert replica.broker.skewed(clock.now(), clock.monotonic())


async def test_a_log_that_lost_its_end_is_not_folded_on() -> None:
    log, replica = await replica_of()
    folding = asyncio.create_task(replica.run())
    await asyncio.sleep(0)
    log.shrink(replica.stream, 0)
    with pytest.raises(FoldFailed):
        async with asyncio.timeout(WAIT_S):
            await folding
