"""A fast path for the agents' hot routes, inside uvicorn's HTTP/1.1 protocol.

A request takes it if its target is exactly a hot route, its method fits, its body is short and has a length, and
nothing else is open on its connection. It then costs no ASGI messages, no timer and one write, a third of the whole
server's work. Everything else goes the way that uvicorn goes, with the same outcome. uvicorn still parses, keeps
connections alive, holds back what is not read, and ends in order.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from keyforge.contracts.errors import Problem, problem
from keyforge.contracts.ids import RequestId
from keyforge.edge.application.call import Headers, RequestHead, refuse
from keyforge.edge.core.dialects.registry import AgentRoute
from keyforge.edge.inbound.request_head import read_head
from keyforge.runtime.protocol import BoundedProtocol

FAST_BODY_BYTES_MAX: Final = 64 * 1024
"""uvicorn's high-water mark: a larger body goes its way, which holds the socket back while it is read."""
_JSON: Final = (
    b"%scontent-type: application/json\r\ncontent-length: %d\r\nx-request-id: %s\r\nrequest-id: %s\r\n%s\r\n%s"
)
"""An answer: status line, length, request id twice (one SDK reads the one, another the other), more lines, body."""
_IDS: Final = b"x-request-id: %s\r\nrequest-id: %s\r\n"
_CLOSE: Final = b"connection: close\r\n"
_CHUNKED: Final = b"transfer-encoding: chunked\r\n"


class FastCall:
    """`Call` on the fast path; its task begins when its body is whole. To uvicorn it is the cycle of its connection."""

    __slots__ = (
        "_connection",
        "_gone",
        "began",
        "disconnected",
        "head",
        "keep_alive",
        "message_event",
        "on",
        "pieces",
        "request_id",
        "response_complete",
        "shared",
        "status",
    )

    def __init__(
        self,
        connection: "EdgeProtocol",
        on: AgentRoute,
        head: RequestHead,
        request_id: RequestId,
        began: float,
        *,
        keep_alive: bool,
    ) -> None:
        self.on = on
        self.request_id = request_id
        self.head = head
        self.began = began
        self.status = 0
        self.shared = b""
        """Lines that every answer has; where there are none, no request pays for them."""
        self._connection = connection
        self.pieces: list[bytes] = []
        """Of its body, as they come."""
        self._gone: asyncio.Future[None] | None = None
        # What uvicorn looks at:
        self.keep_alive = keep_alive
        self.disconnected = False
        self.response_complete = False
        self.message_event = self

    def ended(self, task: "asyncio.Task[None]") -> None:
        """Its task has ended: a call without a whole answer takes its connection with it."""
        self._connection.tasks.discard(task)
        if not self.response_complete:
            self._connection.transport.abort()

    @property
    def response_started(self) -> bool:
        """Whether its head was sent."""
        return self.status != 0

    def set(self) -> None:
        """uvicorn signals that something happened: here, that the connection is lost."""
        if self.disconnected and self._gone is not None and not self._gone.done():
            self._gone.set_result(None)

    async def body(self, bytes_max: int, time_limit_s: float) -> bytes | Problem:  # noqa: ARG002 - it has come
        """See `Call`."""
        pieces = self.pieces
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def gone(self) -> None:
        """See `Call`."""
        if not self.disconnected:
            self._gone = asyncio.get_running_loop().create_future()
            await self._gone

    async def answer(self, status: int, body: bytes, headers: Headers | None = None) -> None:
        """See `Call`."""
        self.status = status
        if self.disconnected:
            return
        request_id = self.request_id.encode()
        more = b""
        for pair in headers or ():
            more += b"%s: %s\r\n" % pair
        more += self.shared if self.keep_alive else self.shared + _CLOSE
        self._connection.transport.write(_JSON % (STATUS_LINE[status], len(body), request_id, request_id, more, body))
        self._done()

    async def start(self, status: int, headers: Headers) -> None:
        """See `Call`."""
        self.status = status
        if self.disconnected:
            return
        request_id = self.request_id.encode()
        head = [STATUS_LINE[status], _IDS % (request_id, request_id), *[b"%s: %s\r\n" % pair for pair in headers]]
        head += (self.shared, _CHUNKED, b"\r\n" if self.keep_alive else _CLOSE + b"\r\n")
        self._connection.transport.write(b"".join(head))

    async def piece(self, data: bytes) -> None:
        """See `Call`."""
        flow = self._connection.flow
        if flow.write_paused and not self.disconnected:
            await flow.drain()
        if data and not self.disconnected:
            self._connection.transport.write(b"%x\r\n%s\r\n" % (len(data), data))

    async def end(self) -> None:
        """See `Call`."""
        await self.piece(b"")
        if not self.disconnected:
            self._connection.transport.write(b"0\r\n\r\n")
            self._done()

    def _done(self) -> None:
        self.response_complete = True
        if not self.keep_alive:
            self._connection.end()
        self._connection.on_response_complete()


class EdgeProtocol(BoundedProtocol):
    """One connection. `app` is an `AgentRoutes`, which knows the hot routes and carries their calls."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._reading: FastCall | None = None
        self._call: FastCall | None = None
        self.unread_s_max = self.app.unread_time_limit_s

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._reading is not None and self._timer is None:
            self._wait(self.app.body_time_limit_s)

    def _too_slow(self) -> None:
        call, self._reading = self._reading, None
        if call is None:
            super()._too_slow()
        else:
            self._timer = None
            call.keep_alive = False
            self._run(call, refuse(call, problem("body_incomplete")))

    def cut(self) -> None:
        """See `BoundedProtocol`. A request whose body has not come has no task yet that could be cancelled."""
        super().cut()
        call, self._reading = self._reading, None
        if call is not None:
            self._wait(None)
            call.keep_alive = False
            self._run(call, refuse(call, problem("shutting_down")))

    def goes_short(self, fields: dict[bytes, bytes]) -> bool:
        """See `BoundedProtocol`."""
        parser = self.parser
        on: AgentRoute | None = self.app.fast.get(self.url)
        if on is None or parser.get_method() != b"POST" or parser.get_http_version() != "1.1":
            return False
        if self.flow.write_paused or self.transport.is_closing():  # uvicorn's way waits until an agent reads
            return False
        before: RequestResponseCycle | None = self.cycle
        if before is not None and not before.response_complete:
            return False
        head = read_head(fields)
        if head.expects or not 0 < head.content_length <= FAST_BODY_BYTES_MAX:
            return False
        app = self.app
        kept = parser.should_keep_alive() and not self.draining
        call = FastCall(self, on, head, app.new_id(), app.monotonic(), keep_alive=kept)
        if app.cors is not None:
            call.shared = b"".join([b"%s: %s\r\n" % pair for pair in app.cors.of_answer(fields.get(b"origin", b""))])
        self.cycle = self._served = self._call = self._reading = call  # type: ignore[assignment]  # what uvicorn asks of it
        return True

    def on_body(self, body: bytes) -> None:
        if self._reading is not None:
            self._reading.pieces.append(body)
        elif not self._on_fast_path():
            super().on_body(body)

    def on_message_complete(self) -> None:
        call, self._reading = self._reading, None
        if call is not None:
            if self._timer is not None:
                self._wait(None)
            self._run(call, self.app.carry(call, call.on))
        elif not self._on_fast_path():
            super().on_message_complete()

    def _on_fast_path(self) -> bool:
        current: object = self.cycle
        return current is not None and current is self._call

    def _run(self, call: FastCall, work: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(call.ended)
