"""Appends and readers while one of three nodes hangs or dies: why an append in doubt is resolved by a fence."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from functools import partial

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from keyforge.contracts import subjects
from keyforge.contracts.ids import EdgeId
from keyforge.eventlog.fence import append_fence, append_known
from keyforge.eventlog.jetstream import JetStreamLog
from keyforge.eventlog.log import Appended, AppendUnknown, Expect, Message
from keyforge.eventlog.reader import ReaderBounds
from keyforge.eventlog.streams import declare_stream, log_spec
from keyforge.testkit.nats_client import SMALL, connected, flushed, open_client, partition_log, stored, until
from keyforge.testkit.nats_cluster import NatsCluster
from keyforge.testkit.nats_server import NatsNode

pytestmark = pytest.mark.cluster

APPEND_TIMEOUT_S = 0.5
ELECTED_WITHIN_S = 60.0
WITHIN_S = 60.0
IMPATIENT = ReaderBounds(heartbeat_s=0.1, silence_heartbeats=4, recheck_s=0.3, pause_fault_s=0.1)
ATTEMPTS = 20
STORED = "stored"


@dataclass
class Partition:
    """A partition's log on three nodes, and a way in through each of them."""

    cluster: NatsCluster
    number: int
    log: JetStreamLog
    stack: AsyncExitStack

    @property
    def stream(self) -> str:
        return subjects.log_stream(self.number)

    @property
    def ctl(self) -> str:
        return subjects.ctl(self.number)

    @property
    def adm(self) -> str:
        return subjects.adm(self.number)

    async def through(self, node: NatsNode) -> JetStreamLog:
        """A log whose requests enter at one node."""
        client = await self.stack.enter_async_context(open_client([node.url], reconnect=False))
        return JetStreamLog(client, append_timeout_s=APPEND_TIMEOUT_S)

    async def client(self, node: NatsNode) -> Client:
        return await self.stack.enter_async_context(connected([node.url], reconnects=False))

    async def tick(self, log: JetStreamLog, last: int) -> int:
        outcome = await append_fence(log, self.ctl, b"tick", last=last)
        assert isinstance(outcome, Appended)
        return outcome.seq

    async def holds(self, log: JetStreamLog, frame: bytes) -> bool:
        return frame in await stored(log, self.number)


@pytest.fixture
async def part(nats_own_cluster: NatsCluster, partition: int) -> AsyncIterator[Partition]:
    async with AsyncExitStack() as stack, partition_log(nats_own_cluster, partition) as log:
        yield Partition(nats_own_cluster, partition, log, stack)


async def test_a_frame_through_a_paused_follower_is_stored_after_a_read_did_not_find_it(part: Partition) -> None:
    leader, (follower, _) = part.cluster.stream_leader(part.stream), part.cluster.stream_followers(part.stream)
    well, hung = await part.through(leader), await part.through(follower)
    tick = await part.tick(hung, 0)  # so that the follower knows where the stream is
    follower.pause()
    with pytest.raises(AppendUnknown):
        await hung.append(part.adm, b"late", expect=Expect(part.ctl, tick))
    assert await well.last(part.stream, part.adm) is None
    follower.resume()
    await until(lambda: part.holds(well, b"late"))


async def test_a_fence_keeps_out_what_was_not_there_by_then(part: Partition) -> None:
    leader, (follower, _) = part.cluster.stream_leader(part.stream), part.cluster.stream_followers(part.stream)
    well, hung = await part.through(leader), await part.through(follower)
    tick = await part.tick(hung, 0)  # so that the follower knows where the stream is
    follower.pause()
    with pytest.raises(AppendUnknown):
        await hung.append(part.adm, b"late", expect=Expect(part.ctl, tick))
    fence = await part.tick(well, tick)
    follower.resume()
    # Behind the late frame on the same connection, so the late one has met its end when this is answered.
    assert await append_known(hung, part.adm, b"behind", expect=Expect(part.ctl, fence)) == Appended(fence + 1)
    assert await stored(well, part.number) == [b"tick", b"tick", b"behind"]


async def test_a_deposed_leader_may_refuse_what_the_new_leader_stores(part: Partition) -> None:
    """Two servers answer one request, the wrong one first: so neither 10071 from a server that lags nor 10164 is proof.

    Each frame has a condition of its own that only the new leader knows to hold, and comes in through the old one.
    What happens in the few milliseconds until that one steps down is a race: a frame was refused and stored in about
    every second run. So this holds what is certain: the kinds of such refusals, and what is never answered.
    """
    created = (await part.log.state(part.stream)).created
    answers = await depose(part)
    assert answers, "no frame got through"
    assert all(each.count(STORED) == 1 for each in answers.values())
    refusals = {each for about_one in answers.values() for each in about_one if each != STORED}
    assert refusals <= {"10071: wrong last sequence: 0", "10164: wrong last sequence"}
    assert (await part.log.state(part.stream)).created == created


async def depose(part: Partition) -> dict[int, list[str]]:
    """Pause the leader until there is another, resume it, send at once: the answers about each frame that is stored."""
    old = part.cluster.stream_leader(part.stream)
    follower = part.cluster.stream_followers(part.stream)[0]
    well = await part.through(follower)
    way = await part.client(old)
    answers: dict[int, list[str]] = {i: [] for i in range(ATTEMPTS)}

    async def hear(message: Msg) -> None:
        error = json.loads(message.data).get("error")
        text = f"{error['err_code']}: {error['description']}" if error else STORED
        answers[int(message.subject.rpartition(".")[2])].append(text)

    inbox = way.new_inbox()
    await way.subscribe(f"{inbox}.*", cb=hear)
    await flushed(way)
    end = await well.end(part.stream)
    marks = [subjects.use(part.number, EdgeId(f"{end}-{i}")) for i in range(ATTEMPTS)]

    old.pause()
    ticks = [await first_append(well, mark) for mark in marks]
    old.resume()
    for i, tick in enumerate(ticks):
        headers = {
            "Nats-Expected-Last-Subject-Sequence": str(tick),
            "Nats-Expected-Last-Subject-Sequence-Subject": marks[i],
        }
        await way.publish(part.adm, b"%d-%d" % (end, i), reply=f"{inbox}.{i}", headers=headers)
        await asyncio.sleep(0.0005)  # spread over the milliseconds in which the old leader learns that it is deposed
    await asyncio.sleep(1)  # long enough for both to answer; not all frames get through, none is waited for
    frames = await stored(well, part.number)
    return {i: each for i, each in answers.items() if b"%d-%d" % (end, i) in frames}


async def first_append(log: JetStreamLog, subject: str) -> int:
    """Append once there is a leader again."""
    async with asyncio.timeout(ELECTED_WITHIN_S):
        while True:
            try:
                outcome = await log.append(subject, b"mark")
            except AppendUnknown:
                continue
            if isinstance(outcome, Appended):
                return outcome.seq
            await asyncio.sleep(0.05)


async def test_known_appends_survive_a_leader_that_hangs(part: Partition) -> None:
    """While leaders change, every frame that `append_known` calls stored is, and what it calls stale is not."""
    leader = part.cluster.stream_leader(part.stream)
    follower = part.cluster.stream_followers(part.stream)[0]
    log = await part.through(follower)
    tick = await part.tick(log, 0)
    kept: list[bytes] = []

    async def write() -> None:
        for i in range(40):
            frame = b"f%d" % i
            outcome = await append_known(log, part.adm, frame, expect=Expect(part.ctl, tick), attempts_max=200)
            assert isinstance(outcome, Appended)
            kept.append(frame)
            await asyncio.sleep(0.01)

    writing = asyncio.create_task(write())
    await asyncio.sleep(0.1)  # a few frames under the first leader
    leader.pause()
    await asyncio.sleep(6)  # long enough for the others to elect a leader
    leader.resume()
    async with asyncio.timeout(ELECTED_WITHIN_S):
        await writing
    frames = await stored(log, part.number)
    assert [f for f in dict.fromkeys(frames) if f.startswith(b"f")] == kept


async def test_reading_goes_on_over_changes_of_leader(nats_own_cluster: NatsCluster, partition: int) -> None:
    """The leader is killed under a live writer: the reader sees every acknowledged frame, without a hole."""
    stream, use = subjects.log_stream(partition), subjects.use(partition, EdgeId("e1"))
    acknowledged: list[int] = []
    done = asyncio.Event()

    async def write(log: JetStreamLog) -> None:
        while not done.is_set():
            try:
                outcome = await log.append(use, b"x" * 200)
            except AppendUnknown:
                continue
            if isinstance(outcome, Appended):
                acknowledged.append(outcome.seq)
            await asyncio.sleep(0.005)

    async def read(log: JetStreamLog) -> list[Message]:
        found: list[Message] = []
        async with aclosing(log.read(stream)) as batches:
            async for batch in batches:
                found.extend(batch)
                if done.is_set() and writing.done() and found[-1].seq >= acknowledged[-1]:
                    break
        return found

    async with open_client(nats_own_cluster.urls) as one, open_client(nats_own_cluster.urls) as other:
        await declare_stream(one, log_spec(partition, replicas=3, sizes=SMALL))
        writing = asyncio.create_task(write(JetStreamLog(one, append_timeout_s=0.5)))
        reading = asyncio.create_task(read(JetStreamLog(other, reader=IMPATIENT)))
        await until(partial(more_than, acknowledged, 20))
        leader = await asyncio.to_thread(nats_own_cluster.stream_leader, stream)
        leader.kill()
        await until(partial(more_than, acknowledged, len(acknowledged) + 20), within_s=WITHIN_S)
        await asyncio.to_thread(leader.start)
        await asyncio.to_thread(nats_own_cluster.wait_ready)
        done.set()
        async with asyncio.timeout(WITHIN_S):
            await writing
            await append_one(JetStreamLog(one), use, acknowledged)
            found = await reading
    assert [m.seq for m in found] == list(range(1, found[-1].seq + 1))
    assert set(acknowledged) <= {m.seq for m in found}


async def more_than(found: list[int], count: int) -> bool:
    return len(found) > count


async def append_one(log: JetStreamLog, use: str, acknowledged: list[int]) -> None:
    """The last frame, so that a waiting reader wakes."""
    outcome = await log.append(use, b"end")
    assert isinstance(outcome, Appended)
    acknowledged.append(outcome.seq)
