"""An agent's request over ASGI: any server, any size, any framing."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final

from keyforge.contracts.errors import Problem, problem
from keyforge.contracts.ids import RequestId
from keyforge.edge.application.call import AgentGone, Headers
from keyforge.edge.inbound.request_head import read_head

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

JSON: Final = (b"content-type", b"application/json")


class AsgiCall:
    """`Call` over ASGI. `began` is when its head was read, monotonic; `fields` are the headers, `shared` those of every
    answer."""

    __slots__ = ("_receive", "_send", "_shared", "began", "head", "request_id", "status")

    def __init__(
        self,
        receive: Receive,
        send: Send,
        request_id: RequestId,
        began: float,
        fields: Mapping[bytes, bytes],
        shared: Headers,
    ) -> None:
        self.request_id = request_id
        self.head = read_head(fields)
        self.began = began
        self.status = 0
        self._receive = receive
        self._send = send
        self._shared = shared

    async def body(self, bytes_max: int, time_limit_s: float) -> bytes | Problem:
        """See `Call`."""
        if self.head.content_length > bytes_max:
            return _too_large(bytes_max)
        try:
            async with asyncio.timeout(time_limit_s):
                return await self._read_body(bytes_max)
        except TimeoutError:
            return problem("body_incomplete")

    async def _read_body(self, bytes_max: int) -> bytes | Problem:
        pieces: list[bytes] = []
        size, more = 0, True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise AgentGone
            piece: bytes = message.get("body", b"")
            size += len(piece)
            if size > bytes_max:
                return _too_large(bytes_max)
            pieces.append(piece)
            more = message.get("more_body", False)
        return b"".join(pieces)

    async def gone(self) -> None:
        """See `Call`."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def answer(self, status: int, body: bytes, headers: Headers | None = None) -> None:
        """See `Call`."""
        await self.start(status, [JSON, (b"content-length", b"%d" % len(body)), *(headers or ())])
        await self._send({"type": "http.response.body", "body": body})

    async def empty(self, headers: Headers) -> None:
        """Answer without a body (204)."""
        await self.start(204, headers)
        await self.end()

    async def start(self, status: int, headers: Headers) -> None:
        """See `Call`."""
        self.status = status
        request_id = self.request_id.encode()
        lines = [*headers, (b"x-request-id", request_id), (b"request-id", request_id), *self._shared]
        await self._send({"type": "http.response.start", "status": status, "headers": lines})

    async def piece(self, data: bytes) -> None:
        """See `Call`."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        """See `Call`."""
        await self._send({"type": "http.response.body", "body": b""})


def _too_large(bytes_max: int) -> Problem:
    message = f"The request body is larger than {bytes_max} bytes."
    return problem("body_too_large", message, metadata={"body_bytes_max": bytes_max})
