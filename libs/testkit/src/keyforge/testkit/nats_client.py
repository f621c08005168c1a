"""Connections to a test's nats-server, and a log with streams of its own on it."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import nats
from nats.aio.client import Client

from keyforge.contracts import subjects
from keyforge.eventlog.jetstream import JetStreamLog
from keyforge.eventlog.log import AppendUnknown, EventLog, Expect, Unavailable
from keyforge.eventlog.nats.client import NatsClient
from keyforge.eventlog.nats.connection import ClientBounds
from keyforge.eventlog.reader import ReaderBounds
from keyforge.eventlog.streams import Sizes, declare_stream, log_spec
from keyforge.runtime.bus import Bus

RECONNECT_PAUSE_S = 0.1
CONNECT_TIMEOUT_S = 2
CONNECT_WITHIN_S = 60.0
POLL_S = 0.05
_NEVER_REACHED = 2**60
"""A sequence that no stream of a test comes to."""
SMALL = Sizes(log_bytes_max=64 * 1024 * 1024, platform_bytes_max=16 * 1024 * 1024, audit_bytes_max=64 * 1024 * 1024)
"""Bounds for streams of tests: the server sets them aside for each."""


class NatsServer(Protocol):
    """What a node, a cluster and a container have in common."""

    @property
    def urls(self) -> list[str]: ...

    @property
    def monitor_urls(self) -> list[str]: ...

    @property
    def replicas(self) -> int: ...


@asynccontextmanager
async def connected(urls: Sequence[str], *, reconnects: bool = True) -> AsyncGenerator[Client]:
    """A connection of nats-py that reconnects quickly and without a word, if it is to; closed at the end."""
    client = await _nats_py(urls, reconnects=reconnects)
    try:
        yield client
    finally:
        await client.close()


async def bus_to(urls: Sequence[str], *, inbox_prefix: str = subjects.DEFAULT_INBOX) -> Bus:
    """Both connections of a service, which reconnect quickly and without a word; the caller closes them."""
    client = await _client(urls, reconnect=True, inbox_prefix=inbox_prefix)
    return Bus(await _nats_py(urls, reconnects=True, inbox_prefix=inbox_prefix), client)


@asynccontextmanager
async def open_client(
    urls: Sequence[str], *, reconnect: bool = True, inbox_prefix: str = subjects.DEFAULT_INBOX
) -> AsyncGenerator[NatsClient]:
    """A client of ours that reconnects quickly, if it is to; closed at the end."""
    client = await _client(urls, reconnect=reconnect, inbox_prefix=inbox_prefix)
    try:
        yield client
    finally:
        await client.close()


async def flushed(connection: Client) -> None:
    """Return once the server has read everything that was sent on a connection of nats-py.

    It writes the PING of a flush at once, before what still waits to be written, such as a subscription. The PONG
    arrives some turns of the loop later, when that is written as well; so a second PING comes after it.
    """
    await connection.flush(timeout=int(CONNECT_WITHIN_S))
    await connection.flush(timeout=int(CONNECT_WITHIN_S))


@asynccontextmanager
async def partition_log(
    server: NatsServer, partition: int, *, sizes: Sizes = SMALL, reader: ReaderBounds | None = None
) -> AsyncGenerator[JetStreamLog]:
    """A log with the stream of one partition declared."""
    async with open_client(server.urls) as client:
        await declare_stream(client, log_spec(partition, replicas=server.replicas, sizes=sizes))
        log = JetStreamLog(client, append_timeout_s=CONNECT_WITHIN_S, reader=reader)
        await taken(log, subjects.ctl(partition))
        yield log


async def taken(log: EventLog, subject: str) -> None:
    """Return once a stream takes what is published on a subject; nothing is stored.

    Of three nodes, the client's own may hear who leads a new stream a moment after the stream was created: until then
    it answers that nobody takes the subject.
    """

    async def refused() -> bool:
        try:
            return not isinstance(await log.append(subject, b"", expect=Expect(subject, _NEVER_REACHED)), Unavailable)
        except AppendUnknown:  # a wrong last sequence below the one we expect, which the leader says
            return True

    await until(refused)


async def stored(log: JetStreamLog, partition: int) -> list[bytes]:
    """The frames that the partition's leader has now, in order."""
    stream = subjects.log_stream(partition)
    end = await log.end(stream)
    found: list[bytes] = []
    reading = log.read(stream)
    try:
        while len(found) < end:
            found.extend(message.data for message in await anext(reading))
    finally:
        await reading.aclose()
    return found


async def until(probe: Callable[[], Awaitable[object]], *, within_s: float = 60.0) -> None:
    """Repeat `probe` until its result is true; TimeoutError after `within_s`."""
    async with asyncio.timeout(within_s):
        while not await probe():  # noqa: ASYNC110 - a server is asked, nothing sets an event
            await asyncio.sleep(POLL_S)


async def _nats_py(urls: Sequence[str], *, reconnects: bool, inbox_prefix: str = subjects.DEFAULT_INBOX) -> Client:
    return await nats.connect(
        list(urls),
        allow_reconnect=reconnects,
        max_reconnect_attempts=-1,
        reconnect_time_wait=RECONNECT_PAUSE_S,
        connect_timeout=CONNECT_TIMEOUT_S,
        inbox_prefix=inbox_prefix.encode(),
        error_cb=_quiet,
    )


async def _client(urls: Sequence[str], *, reconnect: bool, inbox_prefix: str = subjects.DEFAULT_INBOX) -> NatsClient:
    bounds = ClientBounds(connect_s=CONNECT_TIMEOUT_S, reconnect_pause_s=RECONNECT_PAUSE_S)
    client = NatsClient(urls, reconnect=reconnect, inbox_prefix=inbox_prefix, bounds=bounds)
    await client.open(within_s=CONNECT_WITHIN_S)
    return client


async def _quiet(_error: Exception) -> None:
    """Servers are killed here on purpose."""
