"""One connection to a provider and the exchange on it: bytes to a `ResponseReader`, its pieces to whoever awaits them.

No task and no timer of its own per exchange; one future while somebody waits. An exchange holds what was received and
not taken, at most `BUFFERED_BYTES_MAX` and one read of the socket before the socket is paused.
"""

import asyncio
import select
import time
from collections.abc import Callable
from typing import Final, Self, cast

from keyforge.edge.outbound.provider_http.errors import UpstreamCut, UpstreamError, UpstreamTimeout
from keyforge.edge.outbound.provider_http.reader import ResponseReader
from keyforge.edge.outbound.provider_http.seam import UpstreamRequest

BUFFERED_BYTES_MAX: Final = 64 * 1024


class Exchange:
    """One request on its connection; it is the `UpstreamResponse` that the caller gets."""

    __slots__ = (
        "_buffered_bytes", "_connection", "_deadline", "_error", "_limits", "_loop", "_paused", "_pieces", "_reused",
        "_touched", "_waiter", "_whole", "done", "headers", "status",
    )  # fmt: skip

    def __init__(self, connection: "Connection", request: UpstreamRequest, loop: asyncio.AbstractEventLoop) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.done = False
        self._connection: Connection | None = connection
        self._deadline = request.deadline
        self._limits = request.limits
        self._reused = connection.served > 0
        self._loop = loop
        self._pieces: list[bytes] = []
        self._buffered_bytes = 0
        self._error: UpstreamError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._paused = self._whole = False
        self._touched = time.monotonic()
        connection.watch(self._limit()[0], self._touched)

    # What the caller sees.

    def header(self, name: bytes) -> bytes | None:
        for known, value in self.headers:
            if known == name:
                return value
        return None

    async def head(self) -> Self:
        """Wait for the head; the exchange itself is the answer."""
        while not self.status:
            await self._more()
        return self

    async def read(self) -> bytes:
        self._whole = True
        self._resume()
        while not self.done:
            await self._more()
        if self._error is not None:
            raise self._error
        pieces, self._pieces = self._pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not self._pieces:
            if self.done and self._error is None:
                raise StopAsyncIteration
            await self._more()
        pieces, self._pieces = self._pieces, []
        self._buffered_bytes = 0
        self._resume()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def abandon(self) -> None:
        if not self.done:
            self.fail(UpstreamCut("abandoned", sent=True))

    # What the connection calls.

    def advance(self, reader: ResponseReader) -> None:
        """Take over what the reader has got."""
        self._touched = time.monotonic()
        if reader.pieces:
            pieces, reader.pieces = reader.pieces, []
            self._pieces += pieces
            for piece in pieces:
                self._buffered_bytes += len(piece)
        if reader.head_done and not self.status:
            self.status, self.headers = reader.status, reader.headers
            if not reader.complete and self._connection is not None:
                self._connection.watch(self._limit()[0], self._touched)
        if reader.complete:
            self._finish()
        elif self._buffered_bytes > BUFFERED_BYTES_MAX and not self._whole and not self._paused and self._connection:
            self._paused = True
            self._connection.pause()
        if self.status:
            self._wake()

    def fail(self, error: UpstreamError) -> None:
        """End with an error; the connection goes. Pieces that came before it can still be taken."""
        if self.done:
            return
        connection = self._connection
        error.sent, error.reused, error.status = True, self._reused, self.status or error.status
        self._error = error
        self._finish()
        self._wake()
        if connection is not None:
            connection.drop()

    def _finish(self) -> None:
        self.done = True
        self._connection = None

    async def _more(self) -> None:
        if self._error is not None:
            raise self._error
        assert self._waiter is None, "one reader at a time"
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _resume(self) -> None:
        if self._paused and self._connection is not None:
            self._paused = False
            self._touched = time.monotonic()
            self._connection.watch(self._limit()[0], self._touched)
            self._connection.resume()

    # Time limits: bytes that come only move `_touched`, and so the limit, away; the connection's timer asks.

    def _limit(self) -> tuple[float, str]:
        due, name = self._deadline, "total"
        if not self.status:
            step, step_name = self._touched + self._limits.first_byte_s, "first byte"
        elif not self._paused:
            step, step_name = self._touched + self._limits.idle_s, "idle"
        else:
            return due, name
        return (step, step_name) if step < due else (due, name)

    def look(self, now: float) -> None:
        """Fail if a limit is over; else be looked at again when it is."""
        due, name = self._limit()
        if now >= due:
            self.fail(UpstreamTimeout(name))
        elif self._connection is not None:
            self._connection.watch(due, now)


class Connection(asyncio.Protocol):
    """One connection, for one exchange at a time.

    One timer, set to the nearest limit, serves exchange after exchange: it is not set anew for a limit further away, so
    a request seldom sets it.
    """

    __slots__ = (
        "_due", "_exchange", "_loop", "_on_closed", "_on_free", "_poll", "_reader", "_timer", "_transport", "closed",
        "free_since", "served",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_free: Callable[["Connection"], None],
        on_closed: Callable[["Connection"], None],
    ) -> None:
        self.served = 0
        self.closed = False
        self.free_since = 0.0
        self._loop = loop
        self._on_free = on_free
        self._on_closed = on_closed
        self._exchange: Exchange | None = None
        self._reader = ResponseReader()
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport
        self._poll: select.poll

    def start(self, request: UpstreamRequest, head: bytes) -> Exchange:
        """Write a request. From here on its bytes count as sent."""
        exchange = Exchange(self, request, self._loop)
        self._exchange = exchange
        self._reader.begin(request.body_bytes_max)
        self._transport.writelines((head, request.body))
        return exchange

    def alive(self, *, look: bool) -> bool:
        """Say whether a free connection can be used: open, and nothing to read (an end, or bytes nobody asked for).

        `look` asks the socket itself, which costs a system call; else what the event loop has told must do.
        """
        return not (self.closed or self._transport.is_closing() or (look and self._poll.poll(0)))

    def watch(self, due: float, now: float) -> None:
        """Look at the exchange when `due` comes."""
        if self._timer is not None:
            if self._due <= due:
                return
            self._timer.cancel()
        self._due = due
        self._timer = self._loop.call_later(max(due - now, 0.0), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._exchange is not None and not self._exchange.done:
            self._exchange.look(time.monotonic())

    def drop(self) -> None:
        """Close at once, whatever is under way."""
        self.closed = True
        self._transport.abort()

    def pause(self) -> None:
        self._transport.pause_reading()

    def resume(self) -> None:
        if not self.closed:
            self._transport.resume_reading()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one without saying so
        self._poll = select.poll()
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        exchange, reader = self._exchange, self._reader
        if exchange is None:
            self.drop()
            return
        reader.feed(data)
        if reader.complete:
            self._exchange = None
        exchange.advance(reader)
        if reader.complete:
            self._free()
        elif reader.fault is not None:
            exchange.fail(reader.fault.error(reader.fault.detail, status=reader.status or None))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        exchange, reader = self._exchange, self._reader
        self._exchange = None
        if exchange is not None:
            if exc is None:
                reader.end()
            if reader.complete:
                exchange.advance(reader)
            elif reader.fault is not None:
                exchange.fail(reader.fault.error(reader.fault.detail))
            else:
                exchange.fail(UpstreamCut(f"the connection broke: {type(exc).__name__}"))
        reader.close()
        self._on_closed(self)

    def _free(self) -> None:
        """The exchange is over: keep the connection if nothing is left on it in either direction."""
        self.served += 1
        if self._reader.reusable and not self._transport.get_write_buffer_size() and not self.closed:
            self.free_since = time.monotonic()
            self._on_free(self)
        else:
            self.drop()
