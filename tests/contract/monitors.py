"""Monitoring pages of servers as a test wants them, each on a port of its own; and what a server states of itself."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

import pytest

from keyforge.eventlog.durability import Durability, NotDurable
from keyforge.eventlog.nats.protocol import Info
from keyforge.testkit.nats_client import until
from keyforge.testkit.nats_server import NatsNode
from keyforge.testkit.ports import free_ports

PROMPTLY_S = 20.0


class Monitor:
    """The page of one server of a cluster `kf`; silent until it is started, and after it was stopped."""

    def __init__(self, number: int, *, size: int = 3, sync: bool = True, server_id: str = "") -> None:
        self.info = Info(server_id=server_id or f"ID{number}", server_name=f"n{number}", cluster="kf")
        self.url = f"http://127.0.0.1:{free_ports(1)[0]}"
        self.asked = 0
        self.page: dict[str, Any] | bytes = {
            "server_id": self.info.server_id,
            "server_name": self.info.server_name,
            "cluster": {"name": self.info.cluster},
            "jetstream": {"config": {"sync_always": sync}, "meta": {"cluster_size": size}},
        }
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", int(self.url.rpartition(":")[2]))

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def states(self) -> list[Info]:
        """What a process that is connected to this server knows of it."""
        return [self.info]

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.asked += 1
        page = self.page if isinstance(self.page, bytes) else json.dumps(self.page).encode()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s" % (len(page), page))
        writer.close()
        await writer.wait_closed()


def stated(node: NatsNode) -> list[Info]:
    """What a node states of itself; nothing while it is away."""
    page = node.monitor("/varz")
    return [] if page is None else [Info(server_id=page["server_id"], server_name=page["server_name"])]


@asynccontextmanager
async def cluster_of_three() -> AsyncGenerator[list[Monitor]]:
    """The monitors of a cluster of three, which answer."""
    monitors = [Monitor(number) for number in (1, 2, 3)]
    for monitor in monitors:
        await monitor.start()
    try:
        yield monitors
    finally:
        for monitor in monitors:
            await monitor.stop()


def nobody() -> str:
    """A monitoring URL that nobody answers at."""
    return f"http://127.0.0.1:{free_ports(1)[0]}"


def holds(asked: Durability) -> bool:
    return asked.holds


class Told(list[str]):
    """What was reported."""

    def about(self, *parts: str) -> bool:
        return any(all(part in line for part in parts) for line in self)


async def refused(asked: Durability, servers: Callable[[], list[Info]], match: str) -> str:
    with pytest.raises(NotDurable, match=match) as why:
        async with asyncio.timeout(PROMPTLY_S):
            await asked.established(servers)
    return str(why.value)


async def established(asked: Durability, servers: Callable[[], list[Info]]) -> None:
    async with asyncio.timeout(PROMPTLY_S):
        await asked.established(servers)
    assert holds(asked)


async def when(so: Callable[[], bool]) -> None:
    async def found() -> bool:
        return so()

    await until(found, within_s=PROMPTLY_S)
