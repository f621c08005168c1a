"""A command queue halts at a message that it cannot read: no command is decided on facts that miss what it says."""

import asyncio

import pytest

from keyforge.contracts import frame, subjects
from keyforge.contracts.errors import Problem
from keyforge.contracts.frame import Recorded
from keyforge.eventlog.memory import Fault, MemoryLog
from keyforge.keys.application.ports import Committed
from keyforge.testkit.ticks import append_tick
from tests.contract.keys_queues import NOW, Lab, create, created, renamed, until
from tests.unit.frame_faults import FAULTS

GOOD = frame.encode([Recorded("tenant:b.1", "keys", NOW, created("b"))])
NEWER = GOOD.replace(b"tenant.created.v1", b"tenant.created.v2")
GAP = frame.encode([Recorded("tenant:a.3", "keys", NOW, renamed("a", "later", 3))])
UNREADABLE = [
    pytest.param(GAP, id="a version after one that is missing"),
    pytest.param(GOOD[:-1] + b"," + GAP[1:], id="a known event before a gap"),
    pytest.param(frame.encode([Recorded("tenant:b.2", "keys", NOW, renamed("b", "x", 2))]), id="no first version"),
    pytest.param(b"not a frame", id="not a frame"),
    pytest.param(GOOD[:-20], id="a frame cut short"),
    pytest.param(GOOD.replace(b"tenant.created.v1", b"tenant.archived.v1"), id="an unknown type"),
    pytest.param(NEWER, id="a newer version"),
    pytest.param(GOOD.replace(b'"plan":"default"', b'"plan":7'), id="a known type of another shape"),
    pytest.param(GOOD[:-1] + b"," + NEWER[1:], id="a known event before an unknown one"),
    *(pytest.param(data, id=name) for name, (data, _) in FAULTS.items()),
]


def refused(outcome: Committed | Problem) -> str:
    assert isinstance(outcome, Problem), outcome
    return outcome.kind.type


async def test_a_running_queue_halts_and_keeps_its_last_good_state(lab: Lab) -> None:
    stream = subjects.log_stream(lab.partition)
    async with lab.queue() as queue:
        assert await queue.submit(create("a")) == Committed(("tenant:a",))
        assert queue.halted is None
        folded = queue.folded
        await append_tick(lab.log, lab.partition, NEWER)
        later = frame.encode([Recorded("tenant:a.2", "keys", NOW, renamed("a", "later", 2))])
        await append_tick(lab.log, lab.partition, later)
        await until(lambda: queue.halted is not None)
        end = await lab.log.end(stream)
        assert refused(await queue.submit(create("c"))) == "fold_halted"
        assert refused(await queue.submit(create("a"))) == "fold_halted", "even if nothing would change"
        assert (queue.folded, await lab.log.end(stream)) == (folded, end)
        assert [fact.id for fact in queue.facts.cache] == ["tenant:a"]
        assert queue.facts.cache.committed("tenant:a") == queue.facts.find("tenant:a", version=1)
        assert not queue.failed.done(), "the service goes on"


@pytest.mark.parametrize("data", UNREADABLE)
async def test_a_queue_that_starts_folds_up_to_what_it_cannot_read(twin: Lab, data: bytes) -> None:
    ctl = subjects.ctl(twin.partition)
    async with twin.queue() as queue:
        await queue.submit(create("a"))
    for message in (data, GOOD):
        await append_tick(twin.log, twin.partition, message)
    async with twin.queue() as queue:
        assert [fact.id for fact in queue.facts.cache] == ["tenant:a"]
        assert queue.halted is not None
        assert f"{ctl} at 2: " in queue.halted
        assert queue.folded == 1
        assert refused(await queue.submit(create("c"))) == "fold_halted"
        assert queue.waiting == 0
    assert await twin.log.end(subjects.log_stream(twin.partition)) == 3
    assert twin.foreign == ["tenant:a"], "the directory gets nothing of what follows"


async def test_commands_under_way_are_refused_when_it_halts(twin: Lab) -> None:
    """One is being appended, one waits for the next frame: what was first on the subject cannot be read."""
    assert isinstance(twin.log, MemoryLog)
    async with twin.queue(ticks_per_s=20) as queue:
        twin.log.fail_next(Fault.UNAVAILABLE)
        first = asyncio.create_task(queue.submit(create("a")))
        await until(lambda: bool(queue.facts.staged))
        second = asyncio.create_task(queue.submit(create("b")))
        await append_tick(twin.log, twin.partition, NEWER)
        assert [refused(one) for one in await asyncio.gather(first, second)] == ["fold_halted", "fold_halted"]
        assert list(queue.facts.cache) == []
        assert not queue.facts.staged
    assert await twin.log.end(subjects.log_stream(twin.partition)) == 1
