"""An app on the HTTP that every service speaks, in this process."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import uvicorn
from uvicorn.server import ServerState

from keyforge.runtime.protocol import BoundedProtocol

KEEP_ALIVE_S = 1
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class App:
    """Says what it was sent, behind `go`; `answer` is what it says besides. `gone`: agents that hung up meanwhile.

    `/early` does not read what it was sent, nor do `/fault`, which fails, and `/half`, which fails after a part.
    """

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.go.set()
        self.answer = b""
        self.asked: list[dict[str, Any]] = []
        self.gone = 0

    async def __call__(self, scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        self.asked.append(scope)
        body, more = b"", scope["path"] not in ("/early", "/fault", "/half")
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if scope["path"] == "/gone":
            while (await receive())["type"] != "http.disconnect":
                pass
            self.gone += 1
            return
        if scope["path"] == "/half":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": self.answer, "more_body": True})
        await self.go.wait()
        if scope["path"] in ("/fault", "/half"):
            raise RuntimeError("a fault")
        body += self.answer
        length = (b"content-length", b"%d" % len(body))
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": body})


class Served:
    """A server in this process, and its connections."""

    def __init__(self, app: App, state: ServerState, port: int) -> None:
        self.app = app
        self._state = state
        self.port = port

    @property
    def connections(self) -> set[BoundedProtocol]:
        return cast("set[BoundedProtocol]", self._state.connections)

    @asynccontextmanager
    async def connected(
        self, *, buffer_bytes: int | None = None
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        one = socket.socket()
        if buffer_bytes is not None:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        one.connect(("127.0.0.1", self.port))
        reader, writer = await asyncio.open_connection(sock=one, limit=1024)
        try:
            yield reader, writer
        finally:
            writer.close()


@asynccontextmanager
async def serving() -> AsyncIterator[Served]:
    app, state = App(), ServerState()
    config = uvicorn.Config(app, http=BoundedProtocol, ws="none", lifespan="off", log_config=None)
    config.timeout_keep_alive = KEEP_ALIVE_S
    config.load()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: BoundedProtocol(config, state, {}, loop), "127.0.0.1", 0)
    try:
        yield Served(app, state, server.sockets[0].getsockname()[1])
    finally:
        server.close()
        app.go.set()
        for connection in list(state.connections):
            cast("BoundedProtocol", connection).transport.abort()
        await until(lambda: not (state.connections or state.tasks))


async def until(probe: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not probe():  # noqa: ASYNC110 - polls what has no event
            await asyncio.sleep(0.01)


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    async with asyncio.timeout(60):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        return int(head.split(b" ")[1]), await reader.readexactly(length)


async def refusal(reader: asyncio.StreamReader) -> tuple[int, str]:
    """Return status and type of the last answer of a connection."""
    status, body = await answer(reader)
    async with asyncio.timeout(60):
        assert await reader.read() == b"", "it is the last one"
    return status, json.loads(body)["error"]["type"]
