"""One request of an agent over ASGI: its headers read once, its body bounded, its answer written."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final

from keyforge.contracts.errors import Problem, problem
from keyforge.contracts.ids import RequestId

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

JSON: Final = (b"content-type", b"application/json")
IDEMPOTENCY_CHARS_MAX: Final = 255
_BEARER: Final = b"bearer "


class AgentGone(Exception):
    """The agent hung up before its request was read."""


class Call:
    """One request, and the way back."""

    __slots__ = (
        "_content_length",
        "_receive",
        "_send",
        "began",
        "idempotency_key",
        "key_text",
        "request_id",
        "status",
    )

    def __init__(self, scope: Message, receive: Receive, send: Send, request_id: RequestId) -> None:
        self.request_id = request_id
        self.began = time.monotonic()
        self.status = 0
        self.key_text = b""
        self.idempotency_key = b""
        self._content_length = 0
        self._receive = receive
        self._send = send
        self._read_headers(scope["headers"])

    def _read_headers(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        api_key = b""
        for name, value in headers:
            if name == b"authorization":
                if value[:7].lower() == _BEARER:
                    self.key_text = value[7:].strip()
            elif name == b"x-api-key":
                api_key = value.strip()
            elif name == b"content-length":
                self._content_length = int(value) if value.isdigit() else 0
            elif name == b"idempotency-key":
                self.idempotency_key = value
        if not self.key_text:
            self.key_text = api_key

    async def body(self, bytes_max: int, time_limit_s: float) -> bytes | Problem:
        """Return the whole body. Raises AgentGone."""
        if self._content_length > bytes_max:
            return problem("body_too_large", metadata={"body_bytes_max": bytes_max})
        try:
            async with asyncio.timeout(time_limit_s):
                return await self._read_body(bytes_max)
        except TimeoutError:
            return problem("body_incomplete")

    async def _read_body(self, bytes_max: int) -> bytes | Problem:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise AgentGone
        body: bytes = message.get("body", b"")
        if not message.get("more_body", False):
            return body if len(body) <= bytes_max else problem("body_too_large", metadata={"body_bytes_max": bytes_max})
        pieces, size = [body], len(body)
        while message.get("more_body", False):
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise AgentGone
            piece = message.get("body", b"")
            size += len(piece)
            if size > bytes_max:
                return problem("body_too_large", metadata={"body_bytes_max": bytes_max})
            pieces.append(piece)
        return b"".join(pieces)

    async def gone(self) -> None:
        """Wait until the agent hangs up. Only behind `body`."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def refuse(self, wrong: Problem) -> None:
        """Answer with a problem."""
        headers: Headers = [(name.encode(), value.encode()) for name, value in wrong.headers()]
        await self.answer(wrong.kind.status, wrong.body(), headers)

    async def answer(self, status: int, body: bytes, headers: Headers | None = None) -> None:
        """Answer with a whole JSON body."""
        await self.start(status, [JSON, (b"content-length", b"%d" % len(body)), *(headers or ())])
        await self._send({"type": "http.response.body", "body": body})

    async def start(self, status: int, headers: Headers) -> None:
        """Send the head of an answer; the request id goes with every one."""
        self.status = status
        request_id = self.request_id.encode()
        headers += ((b"x-request-id", request_id), (b"request-id", request_id))
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def piece(self, data: bytes) -> None:
        """Send a piece of a stream; waits while the agent does not read."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        """End a stream."""
        await self._send({"type": "http.response.body", "body": b""})
