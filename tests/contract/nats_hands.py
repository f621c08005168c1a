"""What the tests of the client use: a quick client, recorders that can be waited for, a server written by hand."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Generic, TypeVar

from keyforge.eventlog.nats.client import NatsClient
from keyforge.eventlog.nats.connection import ClientBounds
from keyforge.eventlog.nats.protocol import Delivery

WITHIN_S: Final = 60.0
"""Longer than anything here takes."""
PROMPTLY_S: Final = 10.0
"""Well under the time that an ask has, which is `WITHIN_S`."""
QUICK: Final = ClientBounds(connect_s=1.0, reconnect_pause_s=0.02, close_s=WITHIN_S)
MUCH, MUCH_BYTES = 1_000, 100_000
INFO: Final = b'INFO {"server_id":"fake","headers":true,"max_payload":1048576}\r\n'

T = TypeVar("T")


class Ear(Generic[T]):
    """All that it was handed, and a wait for enough of it."""

    def __init__(self) -> None:
        self.all: list[T] = []
        self._more = asyncio.Event()

    def __call__(self, what: T) -> None:
        self.all.append(what)
        self._more.set()

    async def until(self, enough: Callable[[list[T]], bool]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not enough(self.all):
                self._more.clear()
                await self._more.wait()


class Told(Ear[str]):
    """What a client tells an operator."""

    async def of(self, text: str, times: int = 1) -> None:
        """Wait until it was told `text`, `times` times."""
        await self.until(lambda told: sum(text in each for each in told) >= times)


class Messages(Ear[Delivery]):
    """What a subscription hears."""

    @property
    def data(self) -> list[bytes]:
        return [each.data for each in self.all]

    async def count(self, count: int) -> None:
        await self.until(lambda heard: len(heard) >= count)


@asynccontextmanager
async def open_client(urls: list[str], *, bounds: ClientBounds = QUICK, **options: Any) -> AsyncGenerator[NatsClient]:
    """An open client; closed at the end."""
    client = NatsClient(urls, bounds=bounds, **options)
    await client.open(within_s=WITHIN_S)
    try:
        yield client
    finally:
        await client.close()


def echo(client: NatsClient, subject: str) -> None:
    """Answer every ask with what it said."""
    client.subscribe(subject, lambda asked: client.publish(asked.reply, b"you said " + asked.data))


async def fill(client: NatsClient) -> None:
    """Say more than the kernel holds for both sides; raises BufferFull where that is bounded."""
    for _ in range(MUCH):
        client.publish("a", b"x" * MUCH_BYTES)
        await asyncio.sleep(0)  # so that it is sent as far as it can be


class FakeServer:
    """Says `greeting`, then PONG to each PING unless it is `mute`; `told` is all it was told, `say` says more.

    `left` is set while the last that connected is gone.
    """

    def __init__(self, greeting: bytes = INFO, *, mute: bool = False) -> None:
        self.heard = Ear[bytes]()
        self.connections = Ear[int]()
        self.port = 0
        self._greeting = greeting
        self.mute = mute
        self.left = asyncio.Event()
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def told(self) -> bytes:
        return b"".join(self.heard.all)

    async def until_told(self, text: bytes) -> None:
        await self.heard.until(lambda _: text in self.told)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self._writers.append(writer)
        self.left.clear()
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with suppress(ConnectionError, asyncio.CancelledError):
            writer.write(self._greeting)
            self.connections(len(self._writers))
            while data := await reader.read(1 << 16):
                self.heard(data)
                if not self.mute:
                    writer.write(b"PONG\r\n" * data.count(b"PING\r\n"))
        if writer is self._writers[-1]:
            self.left.set()
        writer.close()
        with suppress(ConnectionError, asyncio.CancelledError):
            await writer.wait_closed()

    def say(self, data: bytes) -> None:
        """Say something to whoever connected last."""
        self._writers[-1].write(data)

    def hang_up(self) -> None:
        """Hang up on everybody."""
        for writer in self._writers:
            writer.transport.abort()


@asynccontextmanager
async def faked(greeting: bytes = INFO, *, mute: bool = False) -> AsyncGenerator[FakeServer]:
    """Run a fake server on loopback."""
    fake = FakeServer(greeting, mute=mute)
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    fake.port = server.sockets[0].getsockname()[1]
    try:
        yield fake
    finally:
        server.close()
        fake.hang_up()
        await asyncio.gather(*fake._tasks)
