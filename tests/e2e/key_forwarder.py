"""Forwards requests to an edge with another key in them, for clients whose key is part of their code; answers pass as
they come."""

import asyncio
import re
import threading
from typing import Self
from urllib.parse import urlsplit

_LENGTH = re.compile(rb"^content-length: *(\d+)\r$", re.IGNORECASE | re.MULTILINE)
HEAD_BYTES_MAX = 64 * 1024


class KeyForwarder:
    """Listens on loopback: `with KeyForwarder(edge_url, theirs, ours) as forwarder:`, then `forwarder.url`."""

    def __init__(self, edge: str, theirs: str, ours: str) -> None:
        self._edge = urlsplit(edge)
        self._theirs, self._ours = theirs.encode(), ours.encode()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="forwarder", daemon=True)
        self._server: asyncio.Server

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        listens = asyncio.start_server(self._serve, "127.0.0.1", 0, limit=HEAD_BYTES_MAX)
        self._server = asyncio.run_coroutine_threadsafe(listens, self._loop).result(30)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    async def _stop(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        edge, asks = await asyncio.open_connection(self._edge.hostname, self._edge.port)
        tasks = [asyncio.ensure_future(self._requests(client, asks)), asyncio.ensure_future(_copy(edge, answers))]
        try:  # whichever side closes first, the other one is closed as well
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            asks.close()
            answers.close()

    async def _requests(self, client: asyncio.StreamReader, edge: asyncio.StreamWriter) -> None:
        while True:
            head = await client.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            body = await client.readexactly(int(length[1])) if length else b""
            edge.write(head.replace(self._theirs, self._ours) + body)
            await edge.drain()


async def _copy(edge: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
    while piece := await edge.read(HEAD_BYTES_MAX):
        answers.write(piece)
        await answers.drain()
