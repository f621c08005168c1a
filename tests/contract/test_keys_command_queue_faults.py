"""What a command queue makes of appends whose outcome nobody knows."""

import asyncio
import random
from contextlib import suppress

import pytest

from keyforge.contracts import subjects
from keyforge.contracts.errors import Problem
from keyforge.eventlog.log import AppendUnknown
from keyforge.eventlog.memory import Fault, MemoryLog
from keyforge.keys.application.ports import Committed
from tests.contract.keys_queues import Lab, count, created, name_of, until


@pytest.mark.parametrize("fault", [Fault.ACK_LOST, Fault.LOST, Fault.LATE, Fault.LAGGING, Fault.BUSY_YET_STORED])
async def test_an_append_of_unknown_outcome_counts_once(twin: Lab, fault: Fault) -> None:
    assert isinstance(twin.log, MemoryLog)
    async with twin.queue() as queue:
        await queue.submit(lambda known, now: created("n", "0"))
        twin.log.fail_next(fault)
        assert await queue.submit(count("n")) == Committed(("tenant:n",))
        twin.log.deliver_late()
        assert await queue.submit(count("n")) == Committed(("tenant:n",))
        assert name_of(queue, "n") == "2"
    assert await twin.events() == ["tenant:n.1", "tenant:n.2", "tenant:n.3"]


@pytest.mark.parametrize("fault", [Fault.LATE, Fault.LOST, Fault.ACK_LOST])
async def test_an_append_given_up_in_doubt_endangers_only_its_answer(twin: Lab, fault: Fault) -> None:
    """The frame may still land: before the next one, which is then decided again, or never."""
    assert isinstance(twin.log, MemoryLog)
    async with twin.queue(append_time_limit_s=0.15) as queue:
        await queue.submit(lambda known, now: created("n", "0"))
        twin.log.fail_next(fault)
        for _ in range(4 if fault is not Fault.ACK_LOST else 0):
            twin.log.fail_next(Fault.UNAVAILABLE)
        doubtful = await queue.submit(count("n"))
        landed = fault is Fault.ACK_LOST
        assert landed == isinstance(doubtful, Committed)
        if isinstance(doubtful, Problem):
            assert doubtful.kind.type == "log_unavailable"
            assert "may have been stored" in doubtful.message
        twin.log.deliver_late()
        assert await queue.submit(count("n")) == Committed(("tenant:n",))
        counted = int(name_of(queue, "n"))
        assert counted == (1 if fault is Fault.LOST else 2)
    assert await twin.events() == [f"tenant:n.{version}" for version in range(1, counted + 2)]


@pytest.mark.parametrize("seed", range(12))
async def test_no_mix_of_faults_loses_or_doubles_a_change(twin: Lab, seed: int) -> None:
    """Two writers, a fence now and then, every fault: what was answered counts once, all else at most once."""
    assert isinstance(twin.log, MemoryLog)
    chance = random.Random(seed)
    async with twin.queue(append_time_limit_s=0.3) as one, twin.queue(append_time_limit_s=0.3) as other:
        await one.submit(lambda known, now: created("n", "0"))
        await until(lambda: other.facts.find("tenant:n") is not None)
        verdicts: list[Committed | Problem] = []
        for step in range(30):
            if chance.random() < 0.5:
                twin.log.fail_next(chance.choice(list(Fault)), subject=subjects.ctl(twin.partition))
            queues = [chance.choice((one, other)) for _ in range(chance.randrange(1, 4))]
            verdicts += await asyncio.gather(*(queue.submit(count("n")) for queue in queues))
            if chance.random() < 0.3:
                twin.log.deliver_late()
            if chance.random() < 0.2:
                with suppress(AssertionError, AppendUnknown):
                    await twin.fence(step + 1)
        twin.log.deliver_late()
        end = await twin.log.end(subjects.log_stream(twin.partition))
        await until(lambda: one.folded == other.folded == end)
        counted = int(name_of(one, "n"))
        sure = sum(isinstance(verdict, Committed) for verdict in verdicts)
        assert sure <= counted <= len(verdicts)
        assert list(one.facts.cache) == list(other.facts.cache)
    assert await twin.events() == [f"tenant:n.{version}" for version in range(1, counted + 2)]
