"""The asks that wait: in their order, bounded, and each message answered once, when its last verdict is in."""

from keyforge.budget.application.batch import BatchBuilder
from keyforge.budget.application.pending import PendingQueue, PendingReserve, PendingReserves
from keyforge.budget.application.replica import Replica
from keyforge.budget.metrics import Metrics
from keyforge.contracts.reserve import Answer
from keyforge.eventlog.memory import MemoryLog
from keyforge.runtime.clock import SetClock
from tests.unit.budget_facts import EDGE, T0, after, ask, key_created, tenant_created
from tests.unit.budget_twin import ADM, CTL, Inbox, append

ALLOW = Answer("allow", sequence=1)


def message(
    inbox: Inbox, *numbers: int, reply_to: str = "r", received_s: float = 0.0, nusd: int = 0
) -> PendingReserves:
    asks = [ask(number, nusd, body_commitment="x" * 15_650) for number in numbers]
    return PendingReserves(EDGE, asks, reply_to, inbox, received_s=received_s)


def ids(pending: list[PendingReserve]) -> list[str]:
    return [one.request_id for one in pending]


def test_what_is_put_back_comes_first_and_in_its_order() -> None:
    queue, inbox = PendingQueue(9), Inbox()
    for numbers in ((1, 2), (3,), (4, 5)):
        assert queue.add(message(inbox, *numbers))
    taken, _ = queue.take(3, oldest_s=0)
    queue.put_back(taken)
    assert ids(queue.take(9, oldest_s=0)[0]) == ["r-1", "r-2", "r-3", "r-4", "r-5"]


def test_a_message_waits_as_a_whole_or_not_at_all() -> None:
    queue, inbox = PendingQueue(3), Inbox()
    assert queue.add(message(inbox, 1, 2))
    assert not queue.add(message(inbox, 3, 4))
    assert queue.add(message(inbox, 5))
    assert not queue.add(message(inbox, 6))
    assert ids(queue.drain()) == ["r-1", "r-2", "r-5"]


def test_what_is_too_old_is_dropped_and_counted() -> None:
    queue, inbox = PendingQueue(9), Inbox()
    for received_s in (1.0, 2.0, 3.0):
        queue.add(message(inbox, int(received_s), received_s=received_s))
    taken, dropped = queue.take(9, oldest_s=2.0)
    assert (ids(taken), dropped) == (["r-2", "r-3"], 1)


def test_a_message_is_answered_with_its_last_verdict() -> None:
    inbox = Inbox()
    one, other, last = message(inbox, 1, 2, 3).each()
    last.answer(ALLOW)
    one.answer(Answer("refuse", "key_revoked"))
    assert not inbox.answers
    other.answer(ALLOW)
    assert [answer.type for answer in inbox.answers["r"]] == ["key_revoked", "", ""]


async def folded() -> tuple[MemoryLog, Replica]:
    """A log with a tenant and its key, and a replica that folded it."""
    clock = SetClock(T0)
    log = MemoryLog.of_partitions(1, clock=clock.now)
    await append(log, CTL, tenant_created(), key_created())
    replica = Replica(0, log, clock, Metrics())
    await replica._fold_messages(await anext(log.read(replica.stream)))
    return log, replica


async def test_a_full_frame_leaves_the_rest_for_the_next_one() -> None:
    builder = BatchBuilder((await folded())[1], source="test", abandon_grace_s=10)
    pending = message(Inbox(), *range(40)).each()
    batch, rest = builder.decide(pending, 1, T0)
    assert 0 < len(rest) < 40
    assert [*batch.pending, *rest] == pending


async def test_what_is_overdue_goes_into_one_frame() -> None:
    """It is in the log once that frame was stored, and until it is folded nothing else shows that."""
    log, replica = await folded()
    builder = BatchBuilder(replica, source="test", abandon_grace_s=10)
    admitted, _ = builder.decide(message(Inbox(), 1).each(), 1, T0)
    await append(log, ADM, *(recorded.event for recorded in admitted.events))
    await replica._fold_messages(await anext(log.read(replica.stream, after=1)))
    frames = []
    for sequence in (3, 4):
        batch, _ = builder.decide([], 1, after(100))
        builder.add_overdue(batch, after(100))
        builder.stored(batch, sequence)
        frames.append(len(batch.events))
    assert frames == [1, 0]
