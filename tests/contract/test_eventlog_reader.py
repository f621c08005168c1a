"""A reader that is hurt goes on by itself, nothing lost and nothing twice, or halts where the log is not whole."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from functools import partial

import msgspec
import pytest

from keyforge.contracts import subjects
from keyforge.contracts.ids import EdgeId
from keyforge.eventlog import jetstream_api
from keyforge.eventlog.jetstream import JetStreamLog
from keyforge.eventlog.log import Appended, AppendUnknown, LogClosed, LogShrunk, Message
from keyforge.eventlog.nats.client import NatsClient
from keyforge.eventlog.reader import Reader, ReaderBounds
from keyforge.eventlog.streams import declare_stream, log_spec
from keyforge.testkit.nats_client import SMALL, open_client, until
from keyforge.testkit.nats_server import NatsNode

IMPATIENT = ReaderBounds(
    pull_messages=50,
    heartbeat_s=0.1,
    silence_heartbeats=4,
    recheck_s=0.3,
    shrunk_after_s=0.3,
    consumer_idle_s=1,
    pause_fault_s=0.1,
    ping_s=0.2,
)
PATIENT = msgspec.structs.replace(IMPATIENT, silence_heartbeats=100, consumer_idle_s=30)
"""Where it is said that a reader never began anew: a machine that is slow is no reason to."""
MESSAGES = 600
WITHIN_S = 60.0
FRAME = b"x" * 2000
PARTITION = 0
STREAM = subjects.log_stream(PARTITION)
USE = subjects.use(PARTITION, EdgeId("e1"))

Blow = Callable[[], Awaitable[None]]
StartNode = Callable[..., NatsNode]


@asynccontextmanager
async def filled(
    node: NatsNode, count: int = MESSAGES, bounds: ReaderBounds = IMPATIENT
) -> AsyncIterator[JetStreamLog]:
    async with open_client(node.urls) as client:
        await declare_stream(client, log_spec(PARTITION, replicas=1, sizes=SMALL))
        log = JetStreamLog(client, reader=bounds)
        await append_many(log, count)
        yield log


async def append_many(log: JetStreamLog, count: int) -> None:
    for _ in range(0, count, 100):
        outcomes = await asyncio.gather(*(log.append(USE, FRAME) for _ in range(min(count, 100))))
        assert all(isinstance(outcome, Appended) for outcome in outcomes)


async def read_all(reader: Reader, count: int, *, blow_at: int = 0, blow: Blow | None = None) -> list[Message]:
    """`count` messages, with a blow struck once `blow_at` were handed over."""
    found: list[Message] = []
    async with asyncio.timeout(WITHIN_S), aclosing(reader.batches()) as batches:
        async for batch in batches:
            found.extend(batch)
            if blow is not None and len(found) >= blow_at:
                await blow()
                blow = None
            if len(found) >= count:
                break
    return found


def whole(found: list[Message], count: int = MESSAGES) -> bool:
    return [m.seq for m in found] == list(range(1, count + 1))


async def test_server_killed_and_started(nats_own: StartNode) -> None:
    node = nats_own()
    async with filled(node) as log:

        async def blow() -> None:
            node.kill()
            await asyncio.sleep(0.3)  # dead for a while, so that the client notices
            node.start()

        reader = log.reader(STREAM)
        assert whole(await read_all(reader, MESSAGES, blow_at=100, blow=blow))
        assert reader.consumers > 1


async def test_server_killed_while_the_reader_is_idle(nats_own: StartNode) -> None:
    node = nats_own()
    async with filled(node, 100) as log:

        async def blow() -> None:
            node.kill()
            node.start()
            await until(partial(_stored, log), within_s=WITHIN_S)

        assert whole(await read_all(log.reader(STREAM), 101, blow_at=100, blow=blow), 101)


async def test_consumer_deleted(nats_own: StartNode) -> None:
    async with filled(nats_own()) as log:

        async def blow() -> None:
            for name in await consumers(log._client):
                await jetstream_api.call(log._client, f"CONSUMER.DELETE.{STREAM}.{name}")

        reader = log.reader(STREAM)
        assert whole(await read_all(reader, MESSAGES, blow_at=100, blow=blow))
        assert reader.consumers >= 2


async def test_server_paused(nats_own: StartNode) -> None:
    node = nats_own()
    async with filled(node) as log:

        async def blow() -> None:
            node.pause()
            asyncio.get_running_loop().call_later(2, node.resume)

        reader = log.reader(STREAM)
        assert whole(await read_all(reader, MESSAGES, blow_at=100, blow=blow))


async def test_client_that_stops_reading_for_longer_than_its_consumer_lives(nats_own: StartNode) -> None:
    async with filled(nats_own()) as log:

        async def blow() -> None:
            await asyncio.sleep(2.5)  # consumer_idle_s is 1

        reader = log.reader(STREAM)
        assert whole(await read_all(reader, MESSAGES, blow_at=100, blow=blow))
        assert reader.consumers > 1


async def test_process_that_hangs(nats_own: StartNode) -> None:
    async with filled(nats_own()) as log:

        async def blow() -> None:
            time.sleep(2)  # noqa: ASYNC251 - the whole process hangs, its event loop with it

        assert whole(await read_all(log.reader(STREAM), MESSAGES, blow_at=100, blow=blow))


async def test_message_larger_than_a_pull(nats_own: StartNode) -> None:
    async with filled(nats_own(), 20, msgspec.structs.replace(PATIENT, pull_bytes=500)) as log:
        reader = log.reader(STREAM)
        assert whole(await read_all(reader, 20), 20)
        assert reader.consumers == 1


async def test_pull_filled_to_the_last_byte(nats_own: StartNode) -> None:
    """The server then ends the pull without a word."""
    node = nats_own()
    async with filled(node, 30) as log:
        [first, *_] = await read_all(log.reader(STREAM), 30)
        reply = f"$JS.ACK.{STREAM}.rd{'x' * 22}x1.1.1.1.{'1' * 19}.29"
        exact = 2 * (len(first.subject) + len(reply) + len(first.data))
        for pull_bytes in range(exact - 4, exact + 5):
            bounds = msgspec.structs.replace(IMPATIENT, pull_bytes=pull_bytes)
            found = await read_all(JetStreamLog(log._client, reader=bounds).reader(STREAM), 6)
            assert whole(found[:6], 6)


async def test_idle_reader_hears_what_comes_late(nats_own: StartNode) -> None:
    bounds = msgspec.structs.replace(PATIENT, pull_expires_s=0.5)
    async with filled(nats_own(), 100, bounds) as log:

        async def blow() -> None:
            asyncio.get_running_loop().call_later(2, lambda: late.append(asyncio.ensure_future(log.append(USE, FRAME))))

        late: list[asyncio.Future[object]] = []
        reader = log.reader(STREAM)
        assert whole(await read_all(reader, 101, blow_at=100, blow=blow), 101)
        assert reader.consumers == 1


async def test_nothing_is_left_behind(nats_own: StartNode) -> None:
    async with filled(nats_own(), 100) as log:
        await read_all(log.reader(STREAM), 100)

        async def none_left() -> bool:
            return not await consumers(log._client)

        await until(none_left)


async def test_log_that_lost_its_end_halts(nats_own: StartNode) -> None:
    """The position is past the end: the server alone would wait, silently, until it gets there again."""
    async with filled(nats_own(), 100) as log:
        with pytest.raises(LogShrunk, match="read up to 150, it ends at 100"):
            await read_all(log.reader(STREAM, after=150), 1)


@pytest.mark.parametrize("refilled", [0, 200], ids=["empty", "longer"])
async def test_another_stream_of_the_same_name_halts(nats_own: StartNode, refilled: int) -> None:
    node = nats_own()
    async with filled(node, 100) as log:

        async def blow() -> None:
            node.kill()
            node.wipe()
            node.start()
            async with filled(node, refilled):
                pass

        with pytest.raises(LogShrunk, match="another stream"):
            await read_all(log.reader(STREAM), 150, blow_at=100, blow=blow)


async def test_stream_that_is_gone_halts(nats_own: StartNode) -> None:
    node = nats_own()
    async with filled(node, 100) as log:

        async def blow() -> None:
            node.kill()
            node.wipe()
            node.start()

        with pytest.raises(LogShrunk, match="is gone"):
            await read_all(log.reader(STREAM), 150, blow_at=100, blow=blow)


async def test_hole_halts(nats_own: StartNode) -> None:
    async with open_client(nats_own().urls) as client:
        log = await forgetful(client)
        await jetstream_api.call(client, f"STREAM.MSG.DELETE.{STREAM}", {"seq": 5})
        with pytest.raises(LogShrunk, match="6 follows 4"):
            await read_all(log.reader(STREAM), 10)
        assert [m.seq for m in await read_all(log.reader(STREAM, forgets=True), 9)] == [1, 2, 3, 4, 6, 7, 8, 9, 10]


async def test_lost_beginning_halts(nats_own: StartNode) -> None:
    async with open_client(nats_own().urls) as client:
        log = await forgetful(client)
        await jetstream_api.call(client, f"STREAM.PURGE.{STREAM}", {"seq": 4})
        with pytest.raises(LogShrunk, match="read up to 0, it now begins at 4"):
            await read_all(log.reader(STREAM), 10)
        assert len(await read_all(log.reader(STREAM, after=3), 7)) == 7


async def forgetful(client: NatsClient) -> JetStreamLog:
    """Ten messages in a stream that permits what a log's does not."""
    spec = log_spec(PARTITION, replicas=1, sizes=SMALL)
    permissive = msgspec.structs.replace(spec, fixed=spec.fixed | {"deny_delete": False, "deny_purge": False})
    await declare_stream(client, permissive)
    log = JetStreamLog(client, reader=IMPATIENT)
    for _ in range(10):
        await log.append(USE, FRAME)
    return log


async def test_closed_connection_ends_the_reading(nats_own: StartNode) -> None:
    async with filled(nats_own(), 10) as log:
        with pytest.raises(LogClosed):
            await read_all(log.reader(STREAM), 11, blow_at=10, blow=log._client.close)
        with pytest.raises(LogClosed):
            await read_all(log.reader(STREAM), 1)


class _Names(msgspec.Struct):
    consumers: list[str] | None = None


async def consumers(client: NatsClient) -> list[str]:
    found = msgspec.json.decode(await jetstream_api.call(client, f"CONSUMER.NAMES.{STREAM}"), type=_Names)
    return found.consumers or []


async def _stored(log: JetStreamLog) -> bool:
    try:
        return isinstance(await log.append(USE, FRAME), Appended)
    except AppendUnknown:
        return False
