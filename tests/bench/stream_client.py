"""Agents that read streams, on raw sockets, so that they cost little beside what they measure."""

import asyncio
import itertools
import json
import re
import time
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

from tests.bench.bodies import STREAM_REQUEST

OPENING_MAX = 16
"""Streams that are being opened at once: how fast admissions come is not what is measured here."""
OPEN_WITHIN_S = 60.0
END_WITHIN_S = 60.0
WRITTEN_AT = re.compile(rb'"content": ?"at (\d+)"')


@dataclass(frozen=True)
class Target:
    """Where to ask, which model, and with which keys in turn."""

    url: str
    model: str
    keys: list[str]

    def requests(self) -> list[bytes]:
        """Return a request for each key."""
        parts = urlsplit(self.url)
        body = json.dumps({**STREAM_REQUEST, "model": self.model}).encode()
        head = (
            f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nAuthorization: Bearer "
        )
        return [f"{head}{key}\r\n\r\n".encode() + body for key in self.keys]

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return str(parts.hostname), int(parts.port or 80)


class Reader(asyncio.Protocol):
    """One connection: what came of the stream that was asked for last."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport
        self.lost = True
        self.ended: asyncio.Future[None] | None = None
        self._forget()

    def _forget(self) -> None:
        self.head = b""
        self.good = False
        self.pieces = 0
        self.delay_ms: float | None = None
        self._tail = b""
        self.begun = self.loop.create_future()
        self.ended = self.loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.lost = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._finish()

    def ask(self, request: bytes) -> None:
        """Ask for a stream."""
        self._forget()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        if not self.begun.done():
            self.head += data
            if b"\ndata: " not in self.head:
                if b"\r\n\r\n" in self.head and not self.head.startswith(b"HTTP/1.1 200"):
                    self._finish()
                return
            self.begun.set_result(None)
            written = WRITTEN_AT.search(self.head)
            if written:
                self.delay_ms = (now - int(written.group(1))) / 1e6
        self.pieces += 1
        self._tail = (self._tail + data)[-40:]
        if self._tail.endswith(b"0\r\n\r\n"):
            self.good = b"data: [DONE]" in self._tail
            self._finish()

    def _finish(self) -> None:
        if not self.begun.done():
            self.begun.set_result(None)
        if self.ended is not None and not self.ended.done():
            self.ended.set_result(None)

    @property
    def open(self) -> bool:
        """Whether the stream has shown data and goes on."""
        return self.pieces > 0 and self.ended is not None and not self.ended.done()

    async def end(self) -> None:
        """Wait until the stream has ended, one way or the other."""
        assert self.ended is not None
        await self.ended


async def connect(target: Target) -> Reader:
    """Open a connection."""
    _, reader = await asyncio.get_running_loop().create_connection(Reader, *target.address)
    return reader


async def open_streams(target: Target, count: int) -> list[Reader]:
    """Open so many streams, each seen to have begun; those that failed are among them."""
    slots, asks, readers = asyncio.Semaphore(OPENING_MAX), itertools.cycle(target.requests()), []

    async def one(request: bytes) -> None:
        async with slots:
            reader = await connect(target)
            readers.append(reader)
            reader.ask(request)
            await reader.begun

    async with asyncio.timeout(OPEN_WITHIN_S):
        await asyncio.gather(*(one(next(asks)) for _ in range(count)))
    return readers


async def ends(readers: list[Reader]) -> int:
    """Wait for the end of all of them; return how many ended as they should. Closes the connections."""
    async with asyncio.timeout(END_WITHIN_S):
        await asyncio.gather(*(reader.end() for reader in readers))
    for reader in readers:
        reader.transport.close()
    return sum(reader.good for reader in readers)


@dataclass
class Streamed:
    """What became of streams read one after another on each connection."""

    delays_ms: list[float]
    pieces: int = 0
    good: int = 0
    bad: int = 0


async def in_turn(target: Target, *, connections: int, each: int) -> Streamed:
    """Read `each` streams on each of so many connections, out of step with one another."""
    found, asks = Streamed([]), itertools.cycle(target.requests())

    async def one(number: int) -> None:
        await asyncio.sleep(number * 0.011)
        reader = await connect(target)
        for _ in range(each):
            if reader.lost:
                reader = await connect(target)
            reader.ask(next(asks))
            await reader.end()
            found.good, found.bad = found.good + reader.good, found.bad + (not reader.good)
            found.pieces += reader.pieces
            if reader.delay_ms is not None:
                found.delays_ms.append(reader.delay_ms)
        reader.transport.close()

    await asyncio.gather(*(one(number) for number in range(connections)))
    return found
