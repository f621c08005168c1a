"""What a command queue does on any log: the twin, a node, and three replicas."""

import asyncio
from datetime import datetime

from keyforge.contracts import frame, subjects
from keyforge.contracts.compression import decompress
from keyforge.contracts.errors import Problem
from keyforge.contracts.events import Event, RequestAbandoned
from keyforge.contracts.frame import FRAME_EVENTS_MAX, Recorded
from keyforge.contracts.ids import KeyId, RequestId, TenantId
from keyforge.eventlog.memory import Fault, MemoryLog
from keyforge.keys.application.ports import Committed, StagedFacts
from keyforge.keys.core import names
from keyforge.testkit.ticks import append_tick
from tests.contract.keys_queues import NOW, Lab, count, create, created, name_of, renamed, until

ABANDONED = RequestAbandoned(request_id=RequestId("r"), tenant=TenantId("t"), key_id=KeyId("k"))
"""An event of another writer."""


async def test_commands_that_wait_share_a_frame_and_see_each_other(lab: Lab) -> None:
    async with lab.queue() as queue:
        done = await asyncio.gather(*(queue.submit(create(tenant)) for tenant in ("a", "b", "a")))
        assert [one.ids if isinstance(one, Committed) else one for one in done] == [("tenant:a",), ("tenant:b",), ()]
        assert await lab.log.end(subjects.log_stream(lab.partition)) == 1
    assert await lab.events() == ["tenant:a.1", "tenant:b.1"]


async def test_its_frames_are_compressed(twin: Lab) -> None:
    async with twin.queue() as queue:
        await asyncio.gather(*(queue.submit(create(f"t{n}")) for n in range(5)))
    [message] = await anext(twin.log.read(subjects.log_stream(twin.partition)))
    assert message.data[0] == 1
    assert len(message.data) < len(decompress(message.data)) / 4


async def test_fences_between_frames_only_move_the_condition_on(lab: Lab) -> None:
    async with lab.queue() as queue:
        await queue.submit(lambda known, now: created("n", "0"))
        for epoch in range(1, 11):
            fencing = asyncio.create_task(lab.fence(epoch))
            assert await queue.submit(count("n")) == Committed(("tenant:n",))
            await fencing
        assert name_of(queue, "n") == "10"
    assert await lab.events() == [f"tenant:n.{version}" for version in range(1, 12)]
    assert lab.foreign == []


async def test_two_lanes_on_one_subject_lose_nothing(lab: Lab) -> None:
    async with lab.queue() as one, lab.queue() as other:
        await one.submit(lambda known, now: created("n", "0"))
        await until(lambda: other.facts.find("tenant:n") is not None)
        done = await asyncio.gather(*(queue.submit(count("n")) for _ in range(10) for queue in (one, other)))
        assert all(isinstance(verdict, Committed) for verdict in done)
    assert await lab.events() == [f"tenant:n.{version}" for version in range(1, 22)]
    async with lab.queue() as again:
        assert name_of(again, "n") == "20"


async def test_a_lane_begins_with_what_the_log_holds(lab: Lab) -> None:
    async with lab.queue() as queue:
        await asyncio.gather(*(queue.submit(create(f"t{n}")) for n in range(300)))
        before = list(queue.facts.cache)
    async with lab.queue() as queue:
        assert list(queue.facts.cache) == before
        assert all(queue.facts.find(fact.id, version=1) == fact for fact in before)


async def test_a_frame_never_holds_more_than_its_bound(twin: Lab) -> None:
    async with twin.queue() as queue:
        await asyncio.gather(*(queue.submit(create(f"t{n}")) for n in range(FRAME_EVENTS_MAX * 2 + 1)))
    assert await twin.log.end(subjects.log_stream(twin.partition)) == 3


async def test_ticks_are_paced(twin: Lab) -> None:
    async with twin.queue(ticks_per_s=20) as queue:
        began = asyncio.get_running_loop().time()
        for n in range(4):
            await queue.submit(create(f"t{n}"))
        assert asyncio.get_running_loop().time() - began >= 0.14


async def test_a_full_log_says_so_and_changes_nothing(twin: Lab) -> None:
    assert isinstance(twin.log, MemoryLog)
    async with twin.queue() as queue:
        twin.log.fail_next(Fault.FULL)
        refused = await queue.submit(create("a"))
        assert isinstance(refused, Problem)
        assert refused.kind.type == "log_full"
        assert refused.metadata == {"stream": subjects.log_stream(twin.partition)}
        assert queue.facts.find("tenant:a") is None
        assert await queue.submit(create("a")) == Committed(("tenant:a",))


async def test_a_command_that_fails_stops_no_other(twin: Lab) -> None:
    def faulty(_: StagedFacts, __: datetime) -> Event:
        raise ZeroDivisionError

    async with twin.queue() as queue:
        bad, good = await asyncio.gather(queue.submit(faulty), queue.submit(create("a")))
        assert isinstance(bad, Problem)
        assert bad.kind.type == "internal"
        assert good == Committed(("tenant:a",))


async def test_what_does_not_follow_is_passed_over(twin: Lab) -> None:
    for data in (
        frame.encode([Recorded("tenant:a.0", "keys", NOW, renamed("a", "x", 0))]),
        frame.encode([Recorded("tenant:b.1", "keys", NOW, created("a"))]),
        frame.encode([Recorded("no version", "keys", NOW, created("a"))]),
        frame.encode([Recorded("r.1", "budget", NOW, ABANDONED)]),
        frame.encode([Recorded(f"tenant:a.{'1' * 5_000}", "keys", NOW, created("a"))]),
    ):
        await append_tick(twin.log, twin.partition, data)
    async with twin.queue() as queue:
        assert list(queue.facts.cache) == []
        assert await queue.submit(create("a")) == Committed(("tenant:a",))


async def test_readers_see_nothing_that_is_not_stored(twin: Lab) -> None:
    assert isinstance(twin.log, MemoryLog)
    async with twin.queue() as queue:
        twin.log.pause()
        waiting = asyncio.create_task(queue.submit(create("a")))
        await until(lambda: bool(queue.facts.staged))
        assert queue.facts.cache.committed("tenant:a") is None
        assert queue.facts.cache.listed(names.TENANTS) == []
        twin.log.resume()
        await waiting
        assert queue.facts.cache.committed("tenant:a") is not None
