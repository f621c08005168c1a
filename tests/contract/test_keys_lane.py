"""What a commit lane does on any log: the twin with its faults, a node, and three replicas."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from keyforge.contracts import frame, subjects
from keyforge.contracts.errors import Problem
from keyforge.contracts.events import Event, PartitionFenced, TenantCreated, TenantUpdated
from keyforge.contracts.frame import FRAME_EVENTS_MAX, Recorded
from keyforge.contracts.ids import OwnerId, TenantId, TokenId
from keyforge.eventlog.log import Appended, EventLog
from keyforge.eventlog.memory import Fault, MemoryLog
from keyforge.keys.core import facts
from keyforge.keys.core.facts import Tenant
from keyforge.keys.outbound.lane import Committed, Decide, Lane
from keyforge.keys.outbound.recorder import Facts
from keyforge.runtime.clock import SystemClock
from keyforge.testkit.nats_client import partition_log

NOW = datetime(2030, 1, 1, tzinfo=UTC)
WITHIN_S = 20.0


def created(tenant: str, name: str = "x") -> TenantCreated:
    return TenantCreated(
        tenant=TenantId(tenant), name=name, plan="default", partition=0, limits=(), revision=1, by=TokenId("t")
    )


def renamed(tenant: str, name: str, revision: int) -> TenantUpdated:
    return TenantUpdated(
        tenant=TenantId(tenant),
        name=name,
        plan="default",
        status="active",
        limits=(),
        revision=revision,
        by=TokenId("t"),
    )


def create(tenant: str) -> Decide:
    """A command: make a tenant if there is none, and say so if there is."""

    def decide(known: Facts, _: datetime) -> Event | None:
        return None if known.find(facts.tenant_id(tenant)) else created(tenant)

    return decide


def count(tenant: str) -> Decide:
    """A command that depends on what came before: the tenant's name counts up."""

    def decide(known: Facts, _: datetime) -> Event:
        fact = known.find(facts.tenant_id(tenant))
        assert isinstance(fact, Tenant)
        return renamed(tenant, str(int(fact.name) + 1), fact.version + 1)

    return decide


@dataclass
class Lab:
    """A log and lanes on one of its ctl subjects."""

    log: EventLog
    partition: int
    foreign: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def lane(self, *, ticks_per_s: float = 1000, patience_s: float = 5.0) -> AsyncIterator[Lane]:
        lane = Lane(
            self.log,
            subjects.log_stream(self.partition),
            subjects.ctl(self.partition),
            SystemClock(),
            ticks_per_s=ticks_per_s,
            patience_s=patience_s,
            on_foreign=self.foreign.extend,
        )
        async with asyncio.timeout(WITHIN_S):
            await lane.start()
        try:
            async with asyncio.timeout(WITHIN_S):
                yield lane
        finally:
            async with asyncio.timeout(WITHIN_S):
                await lane.stop()

    async def fence(self, epoch: int) -> None:
        """What an owner appends beside keys."""
        event = PartitionFenced(partition=self.partition, epoch=epoch, owner=OwnerId("budget-0"))
        data = frame.encode([Recorded(f"p{self.partition}.{epoch}", "budget/budget-0", NOW, event)])
        assert isinstance(await self.log.append(subjects.ctl(self.partition), data), Appended)

    async def events(self) -> list[str]:
        """The ids of all of keys' events in the log."""
        stream, found = subjects.log_stream(self.partition), list[str]()
        end = await self.log.end(stream)
        async with asyncio.timeout(WITHIN_S), aclosing(self.log.read(stream)) as batches:
            async for messages in batches:
                for message in messages:
                    found += [one.id for one in frame.decode(message.data, message.subject) if one.source == "keys"]
                if messages[-1].seq >= end:
                    break
        return found


@pytest.fixture(params=["memory", "node", "cluster"])
async def lab(request: pytest.FixtureRequest, partition: int) -> AsyncIterator[Lab]:
    if request.param == "memory":
        yield Lab(_memory(partition), partition)
        return
    async with partition_log(request.getfixturevalue(f"nats_{request.param}"), partition) as log:
        yield Lab(log, partition)


@pytest.fixture
def twin(partition: int) -> Lab:
    return Lab(_memory(partition), partition)


def _memory(partition: int) -> MemoryLog:
    log = MemoryLog()
    log.declare(subjects.log_stream(partition), [subjects.log_all(partition)])
    return log


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(WITHIN_S):
        while not holds():  # noqa: ASYNC110  # what is waited for tells nobody
            await asyncio.sleep(0.001)


def name_of(lane: Lane, tenant: str) -> str:
    fact = lane.facts.book.committed(facts.tenant_id(tenant))
    assert isinstance(fact, Tenant)
    return fact.name


async def test_commands_that_wait_share_a_frame_and_see_each_other(lab: Lab) -> None:
    async with lab.lane() as lane:
        done = await asyncio.gather(*(lane.submit(create(tenant)) for tenant in ("a", "b", "a")))
        assert [one.ids if isinstance(one, Committed) else one for one in done] == [("tenant:a",), ("tenant:b",), ()]
        assert await lab.log.end(subjects.log_stream(lab.partition)) == 1
    assert await lab.events() == ["tenant:a.1", "tenant:b.1"]


async def test_fences_between_frames_only_move_the_condition_on(lab: Lab) -> None:
    async with lab.lane() as lane:
        await lane.submit(lambda known, now: created("n", "0"))
        for epoch in range(1, 11):
            fencing = asyncio.create_task(lab.fence(epoch))
            assert await lane.submit(count("n")) == Committed(("tenant:n",))
            await fencing
        assert name_of(lane, "n") == "10"
    assert await lab.events() == [f"tenant:n.{version}" for version in range(1, 12)]
    assert lab.foreign == []


async def test_two_lanes_on_one_subject_lose_nothing(lab: Lab) -> None:
    async with lab.lane() as one, lab.lane() as other:
        await one.submit(lambda known, now: created("n", "0"))
        await until(lambda: other.facts.find("tenant:n") is not None)
        done = await asyncio.gather(*(lane.submit(count("n")) for _ in range(10) for lane in (one, other)))
        assert all(isinstance(verdict, Committed) for verdict in done)
    assert await lab.events() == [f"tenant:n.{version}" for version in range(1, 22)]
    async with lab.lane() as again:
        assert name_of(again, "n") == "20"


async def test_a_lane_begins_with_what_the_log_holds(lab: Lab) -> None:
    async with lab.lane() as lane:
        await asyncio.gather(*(lane.submit(create(f"t{n}")) for n in range(300)))
        before = list(lane.facts.book)
    async with lab.lane() as lane:
        assert list(lane.facts.book) == before
        assert all(lane.facts.find(fact.id, version=1) == fact for fact in before)


async def test_a_frame_never_holds_more_than_its_bound(twin: Lab) -> None:
    async with twin.lane() as lane:
        await asyncio.gather(*(lane.submit(create(f"t{n}")) for n in range(FRAME_EVENTS_MAX * 2 + 1)))
    assert await twin.log.end(subjects.log_stream(twin.partition)) == 3


async def test_ticks_are_paced(twin: Lab) -> None:
    async with twin.lane(ticks_per_s=20) as lane:
        began = asyncio.get_running_loop().time()
        for n in range(4):
            await lane.submit(create(f"t{n}"))
        assert asyncio.get_running_loop().time() - began >= 0.14


@pytest.mark.parametrize("fault", [Fault.ACK_LOST, Fault.LOST, Fault.LATE, Fault.LAGGING, Fault.BUSY_YET_STORED])
async def test_an_append_of_unknown_outcome_counts_once(twin: Lab, fault: Fault) -> None:
    assert isinstance(twin.log, MemoryLog)
    async with twin.lane() as lane:
        await lane.submit(lambda known, now: created("n", "0"))
        twin.log.fail_next(fault)
        assert await lane.submit(count("n")) == Committed(("tenant:n",))
        twin.log.deliver_late()
        assert await lane.submit(count("n")) == Committed(("tenant:n",))
        assert name_of(lane, "n") == "2"
    assert await twin.events() == ["tenant:n.1", "tenant:n.2", "tenant:n.3"]


@pytest.mark.parametrize("fault", [Fault.LATE, Fault.LOST, Fault.ACK_LOST])
async def test_an_append_given_up_in_doubt_endangers_only_its_answer(twin: Lab, fault: Fault) -> None:
    """The frame may still land: before the next one, which is then decided again, or never."""
    assert isinstance(twin.log, MemoryLog)
    async with twin.lane(patience_s=0.15) as lane:
        await lane.submit(lambda known, now: created("n", "0"))
        twin.log.fail_next(fault)
        for _ in range(4 if fault is not Fault.ACK_LOST else 0):
            twin.log.fail_next(Fault.UNAVAILABLE)
        doubtful = await lane.submit(count("n"))
        landed = fault is Fault.ACK_LOST
        assert landed == isinstance(doubtful, Committed)
        if isinstance(doubtful, Problem):
            assert doubtful.kind.type == "log_unavailable"
            assert "may have been stored" in doubtful.message
        twin.log.deliver_late()
        assert await lane.submit(count("n")) == Committed(("tenant:n",))
        counted = int(name_of(lane, "n"))
        assert counted == (1 if fault is Fault.LOST else 2)
    assert await twin.events() == [f"tenant:n.{version}" for version in range(1, counted + 2)]


async def test_a_full_log_says_so_and_changes_nothing(twin: Lab) -> None:
    assert isinstance(twin.log, MemoryLog)
    async with twin.lane() as lane:
        twin.log.fail_next(Fault.FULL)
        refused = await lane.submit(create("a"))
        assert isinstance(refused, Problem)
        assert refused.kind.type == "log_full"
        assert lane.facts.find("tenant:a") is None
        assert await lane.submit(create("a")) == Committed(("tenant:a",))


async def test_a_command_that_fails_stops_no_other(twin: Lab) -> None:
    def faulty(_: Facts, __: datetime) -> Event:
        raise ZeroDivisionError

    async with twin.lane() as lane:
        bad, good = await asyncio.gather(lane.submit(faulty), lane.submit(create("a")))
        assert isinstance(bad, Problem)
        assert bad.kind.type == "internal"
        assert good == Committed(("tenant:a",))


async def test_what_does_not_follow_is_passed_over(twin: Lab) -> None:
    ctl = subjects.ctl(twin.partition)
    for data in (
        b"not a frame",
        frame.encode([Recorded("tenant:a.7", "keys", NOW, renamed("a", "x", 7))]),
        frame.encode([Recorded("tenant:b.1", "keys", NOW, created("a"))]),
        frame.encode([Recorded("no version", "keys", NOW, created("a"))]),
    ):
        await twin.log.append(ctl, data)
    async with twin.lane() as lane:
        assert list(lane.facts.book) == []
        assert await lane.submit(create("a")) == Committed(("tenant:a",))


async def test_readers_see_nothing_that_is_not_stored(twin: Lab) -> None:
    assert isinstance(twin.log, MemoryLog)
    async with twin.lane() as lane:
        twin.log.pause()
        waiting = asyncio.create_task(lane.submit(create("a")))
        await until(lambda: bool(lane.facts.staged))
        assert lane.facts.book.committed("tenant:a") is None
        assert lane.facts.book.on_shelf(facts.TENANTS) == []
        twin.log.resume()
        await waiting
        assert lane.facts.book.committed("tenant:a") is not None
