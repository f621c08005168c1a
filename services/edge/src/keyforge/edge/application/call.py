"""One request of an agent: its headers read once, its body bounded, its answer written. Two ways to carry it.

`AsgiCall` is the plain one, over ASGI. `wire.WireCall` is the fast one, for requests that need nothing special.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final, Protocol

import msgspec

from keyforge.contracts.errors import Problem, problem
from keyforge.contracts.ids import RequestId

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

LENGTH_DIGITS_MAX: Final = 18
"""The parser refuses larger lengths, but takes any number of zeros before one."""
JSON: Final = (b"content-type", b"application/json")
_BEARER: Final = b"bearer "


class AgentGone(Exception):
    """The agent hung up before its request was read."""


class Told(msgspec.Struct, frozen=True, gc=False):
    """What the headers of a request say, as far as the edge reads them. `content_length` -1: not said.

    `expects`: it is to be told something (100-continue) before it sends its body.
    """

    key_text: bytes
    idempotency_key: bytes
    content_length: int
    expects: bool


def read_headers(headers: Iterable[tuple[bytes, bytes]]) -> Told:
    """Read the headers of a request; names in lower case. A bearer token comes before `x-api-key`."""
    bearer = api_key = idempotency_key = b""
    content_length, expects = -1, False
    for name, value in headers:
        if name == b"authorization":
            if value[:7].lower() == _BEARER:
                bearer = value[7:].strip()
        elif name == b"x-api-key":
            api_key = value.strip()
        elif name == b"content-length":
            content_length = int(value) if value.isdigit() and len(value) <= LENGTH_DIGITS_MAX else -1
        elif name == b"idempotency-key":
            idempotency_key = value
        elif name == b"expect":
            expects = True
    return Told(bearer or api_key, idempotency_key, content_length, expects)


class Call(Protocol):
    """One request, and the way back."""

    request_id: RequestId
    told: Told
    began: float
    """When its head was read (monotonic seconds)."""
    status: int
    """What it was answered with; 0: nothing yet."""

    async def body(self, bytes_max: int, time_limit_s: float) -> bytes | Problem:
        """Return the whole body. Raises AgentGone."""
        ...

    async def gone(self) -> None:
        """Wait until the agent hangs up. Only behind `body`."""
        ...

    async def answer(self, status: int, body: bytes, headers: Headers | None = None) -> None:
        """Answer with a whole JSON body."""
        ...

    async def start(self, status: int, headers: Headers) -> None:
        """Send the head of a stream; the request id goes with every one."""
        ...

    async def piece(self, data: bytes) -> None:
        """Send a piece of a stream; waits while the agent does not read."""
        ...

    async def end(self) -> None:
        """End a stream."""
        ...


async def refuse(call: Call, wrong: Problem) -> None:
    """Answer with a problem."""
    headers: Headers = [(name.encode(), value.encode()) for name, value in wrong.headers()]
    await call.answer(wrong.kind.status, wrong.body(), headers)


def too_large(bytes_max: int) -> Problem:
    """Return what an agent is told whose body is over the bound."""
    return problem("body_too_large", metadata={"body_bytes_max": bytes_max})


class AsgiCall:
    """A call over ASGI: any server, any size, any framing."""

    __slots__ = ("_receive", "_send", "began", "request_id", "status", "told")

    def __init__(self, scope: Message, receive: Receive, send: Send, request_id: RequestId) -> None:
        self.request_id = request_id
        self.told = read_headers(scope["headers"])
        self.began = time.monotonic()
        self.status = 0
        self._receive = receive
        self._send = send

    async def body(self, bytes_max: int, time_limit_s: float) -> bytes | Problem:
        """See `Call`."""
        if self.told.content_length > bytes_max:
            return too_large(bytes_max)
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
                return too_large(bytes_max)
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

    async def start(self, status: int, headers: Headers) -> None:
        """See `Call`."""
        self.status = status
        request_id = self.request_id.encode()
        told = [*headers, (b"x-request-id", request_id), (b"request-id", request_id)]
        await self._send({"type": "http.response.start", "status": status, "headers": told})

    async def piece(self, data: bytes) -> None:
        """See `Call`."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        """See `Call`."""
        await self._send({"type": "http.response.body", "body": b""})
