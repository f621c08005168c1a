"""A load balancer as operators have one: asks /readyz every second, keeps connections, never sends a request twice."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Self

CHECK_S: Final = 1.0
CHECK_TIMEOUT_S: Final = 5.0  # later is too late, as for any balancer: the backend is out until the next check
HEAD_BYTES_MAX: Final = 64 * 1024

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Head:
    """The first line of a message and what its headers say of its body and its connection."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        lines = raw.decode("latin-1").split("\r\n")
        self.first = lines[0].split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        self.length = int(headers.get("content-length", "0"))
        self.chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        self.closes = headers.get("connection", "").lower() == "close"


class Backend:
    """One replica: whether it said that it is ready, if not why, and its idle connections."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.ready = False
        self.why = ""
        self.idle: list[Streams] = []

    async def connection(self) -> Streams:
        while self.idle:
            reader, writer = self.idle.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self.port, limit=HEAD_BYTES_MAX)

    async def check(self) -> None:
        """Ask for /readyz on a connection of its own."""
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                try:
                    writer.write(b"GET /readyz HTTP/1.1\r\nhost: balancer\r\nconnection: close\r\n\r\n")
                    head = Head(await reader.readuntil(b"\r\n\r\n"))
                    said = await reader.readexactly(head.length)
                finally:
                    writer.close()
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as fault:
            self.ready, self.why = False, type(fault).__name__
        else:
            self.ready, self.why = head.first[1] == "200", f"{head.first[1]} {said.decode()}"


class Balancer:
    """Serves at `url` while entered; a request goes to the next backend that is ready."""

    def __init__(self, ports: Sequence[int]) -> None:
        self.backends = [Backend(port) for port in ports]
        self.deserted: list[list[str]] = []
        """What each backend said, whenever none was ready after a check."""
        self._turn = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=HEAD_BYTES_MAX)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        await asyncio.gather(*(backend.check() for backend in self.backends))
        self._tasks |= {asyncio.create_task(self._watch(backend)) for backend in self.backends}
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for backend in self.backends:
            for connection in backend.idle:
                connection[1].close()

    def all_ready(self) -> bool:
        """Return whether each backend said so when it was asked last."""
        return all(backend.ready for backend in self.backends)

    async def _watch(self, backend: Backend) -> None:
        while True:
            await asyncio.sleep(CHECK_S)
            await backend.check()
            if not any(one.ready for one in self.backends):
                self.deserted.append([one.why for one in self.backends])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._relay(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass  # one side hung up: the client sees an answer that breaks off
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            self._tasks.discard(task)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Carry one request and its answer; return whether the client's connection may stay."""
        head = Head(await reader.readuntil(b"\r\n\r\n"))
        body = await reader.readexactly(head.length)
        ready = [backend for backend in self.backends if backend.ready]
        if not ready:
            whys = [backend.why for backend in self.backends]
            why = json.dumps({"error": {"type": "no_backend", "metadata": {"readyz": whys}}}).encode()
            writer.write(b"HTTP/1.1 503 No backend\r\ncontent-length: %d\r\n\r\n%s" % (len(why), why))
            return True
        self._turn += 1
        backend = ready[self._turn % len(ready)]
        upstream, sending = await backend.connection()
        kept = False
        try:
            sending.write(head.raw + body)
            answer = Head(await upstream.readuntil(b"\r\n\r\n"))
            writer.write(answer.raw)
            if answer.chunked:
                await self._chunks(upstream, writer)
            else:
                writer.write(await upstream.readexactly(answer.length))
            await writer.drain()
            kept = not answer.closes
        finally:
            if kept:
                backend.idle.append((upstream, sending))
            else:
                sending.close()
        return not answer.closes

    @staticmethod
    async def _chunks(upstream: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            size = await upstream.readuntil(b"\r\n")
            writer.write(size + await upstream.readexactly(int(size, 16) + 2))
            await writer.drain()
            if int(size, 16) == 0:
                return
