"""Connections to a test's nats-server, and a log with streams of its own on it."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import nats
from nats.aio.client import Client

from keyforge.contracts import subjects
from keyforge.eventlog.jetstream import JetStreamLog
from keyforge.eventlog.nats.client import Link
from keyforge.eventlog.nats.connection import LinkBounds
from keyforge.eventlog.reader import ReaderBounds
from keyforge.eventlog.streams import Sizes, declare_stream, log_spec
from keyforge.runtime.bus import Bus

RECONNECT_PAUSE_S = 0.1
CONNECT_TIMEOUT_S = 2
CONNECT_WITHIN_S = 60.0
POLL_S = 0.05
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
    """A connection that comes back for ever, quietly, unless told not to; closed at the end."""
    nc = await _client(urls, reconnects=reconnects)
    try:
        yield nc
    finally:
        await nc.close()


async def bus_to(urls: Sequence[str]) -> Bus:
    """Both connections of a service, which come back quickly and quietly; whoever asks closes them."""
    link = await _link(urls, returns=True)
    return Bus(await _client(urls, reconnects=True), link)


@asynccontextmanager
async def linked(urls: Sequence[str], *, returns: bool = True) -> AsyncGenerator[Link]:
    """A link that comes back quickly and for ever, unless told not to; closed at the end."""
    link = await _link(urls, returns=returns)
    try:
        yield link
    finally:
        await link.close()


async def heard(connection: Client) -> None:
    """Return when the server has read all that was said on a connection of nats-py's.

    It writes the ping of a flush at once, in front of what still waits to be written: a subscription, say. The pong
    comes turns of the loop later, when that is written as well; so a second ping is behind it.
    """
    await connection.flush(timeout=int(CONNECT_WITHIN_S))
    await connection.flush(timeout=int(CONNECT_WITHIN_S))


@asynccontextmanager
async def partition_log(
    server: NatsServer, partition: int, *, sizes: Sizes = SMALL, reader: ReaderBounds | None = None
) -> AsyncGenerator[JetStreamLog]:
    """A log with the stream of one partition declared."""
    async with linked(server.urls) as link:
        await declare_stream(link, log_spec(partition, replicas=server.replicas, sizes=sizes))
        yield JetStreamLog(link, append_timeout_s=CONNECT_WITHIN_S, reader=reader)


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
    """Ask again and again until the answer is true; TimeoutError after `within_s`."""
    async with asyncio.timeout(within_s):
        while not await probe():  # noqa: ASYNC110 - a server is asked, nobody would set an event
            await asyncio.sleep(POLL_S)


async def _client(urls: Sequence[str], *, reconnects: bool) -> Client:
    return await nats.connect(
        list(urls),
        allow_reconnect=reconnects,
        max_reconnect_attempts=-1,
        reconnect_time_wait=RECONNECT_PAUSE_S,
        connect_timeout=CONNECT_TIMEOUT_S,
        error_cb=_quiet,
    )


async def _link(urls: Sequence[str], *, returns: bool) -> Link:
    link = Link(urls, returns=returns, bounds=LinkBounds(connect_s=CONNECT_TIMEOUT_S, pause_s=RECONNECT_PAUSE_S))
    await link.open(within_s=CONNECT_WITHIN_S)
    return link


async def _quiet(_error: Exception) -> None:
    """Servers are killed here on purpose."""
