"""Connections to a test's nats-server, and a log with streams of its own on it."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import nats
from nats.aio.client import Client

from keyforge.contracts import subjects
from keyforge.eventlog.jetstream import JetStreamLog
from keyforge.eventlog.reader import ReaderBounds
from keyforge.eventlog.streams import Sizes, declare_stream, log_spec

RECONNECT_PAUSE_S = 0.1
CONNECT_TIMEOUT_S = 2
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
    nc = await nats.connect(
        list(urls),
        allow_reconnect=reconnects,
        max_reconnect_attempts=-1,
        reconnect_time_wait=RECONNECT_PAUSE_S,
        connect_timeout=CONNECT_TIMEOUT_S,
        error_cb=_quiet,
    )
    try:
        yield nc
    finally:
        await nc.close()


@asynccontextmanager
async def partition_log(
    server: NatsServer, partition: int, *, sizes: Sizes = SMALL, reader: ReaderBounds | None = None
) -> AsyncGenerator[JetStreamLog]:
    """A log with the stream of one partition declared."""
    async with connected(server.urls) as nc:
        await declare_stream(nc, log_spec(partition, replicas=server.replicas, sizes=sizes))
        yield JetStreamLog(nc, reader=reader)


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


async def until(probe: Callable[[], Awaitable[object]], *, within_s: float = 15.0) -> None:
    """Ask again and again until the answer is true; TimeoutError after `within_s`."""
    async with asyncio.timeout(within_s):
        while not await probe():  # noqa: ASYNC110 - a server is asked, nobody would set an event
            await asyncio.sleep(POLL_S)


async def _quiet(_error: Exception) -> None:
    """Servers are killed here on purpose."""
