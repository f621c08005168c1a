"""One request on its connection, and its answer: what the connection received and was not taken yet.

No task and no timer of its own; one future while it is waited for. It holds at most `BUFFERED_BYTES_MAX` and one read
of the socket before the socket is paused.
"""

import asyncio
from typing import TYPE_CHECKING, Final, Self

from keyforge.edge.application.provider_call import UpstreamRequest
from keyforge.edge.application.provider_errors import UpstreamCut, UpstreamError, UpstreamTimeout
from keyforge.edge.outbound.provider_http.reader import ResponseReader

if TYPE_CHECKING:  # each holds the other
    from keyforge.edge.outbound.provider_http.connection import ProviderConnection

BUFFERED_BYTES_MAX: Final = 64 * 1024
"""Held for an agent that reads slower than its provider writes. Chosen: asyncio's own high-water mark for writing (64
KiB)."""
UNREAD_S: Final = 1.0
"""A reused connection that ends later than this after the writing may have been read from. Chosen: halved, a reset that
comes over a slow network counts as an answer that was lost; doubled, a provider that reads a request and dies of it
counts as one that did not read it."""


class Exchange:
    """One request on its connection; once it has a `status` it is the `UpstreamResponse` that the caller gets."""

    __slots__ = (
        "_buffered_bytes",
        "_connection",
        "_deadline",
        "_error",
        "_limits",
        "_loop",
        "_monotonic",
        "_paused",
        "_pieces",
        "_reused",
        "_touched",
        "_waiter",
        "_whole",
        "coding",
        "done",
        "headers",
        "status",
    )

    def __init__(
        self, connection: "ProviderConnection", request: UpstreamRequest, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.coding = b""
        self.done = False
        self._connection: ProviderConnection | None = connection
        self._deadline = request.deadline
        self._limits = request.limits
        self._reused = connection.served > 0
        self._loop = loop
        self._monotonic = connection.monotonic
        self._pieces: list[bytes] = []
        self._buffered_bytes = 0
        self._error: UpstreamError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._paused = self._whole = False
        self._touched = self._monotonic()
        connection.watch(min(request.deadline, self._touched + request.limits.first_byte_s), self._touched)

    # What the caller sees.

    def header(self, name: bytes) -> bytes | None:
        for known, value in self.headers:
            if known == name:
                return value
        return None

    def more(self) -> "asyncio.Future[None]":
        """Return what is done once the head has come, more of the body, or the end. Raises what the exchange ended
        with."""
        if self._error is not None:
            raise self._error
        assert self._waiter is None or self._waiter.done(), "one reader at a time"
        self._waiter = self._loop.create_future()
        return self._waiter

    async def read(self) -> bytes:
        self._whole = True
        if self._paused:
            self._resume()
        while not self.done:
            await self.more()
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
            await self.more()
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
        self._touched = self._monotonic()
        if reader.pieces:
            pieces, reader.pieces = reader.pieces, []
            self._pieces += pieces
            if not reader.complete:
                self._buffered_bytes += sum(map(len, pieces))
        if reader.head_done and not self.status:
            self.status, self.headers, self.coding = reader.status, reader.headers, reader.notes.coding
            if not reader.complete and self._connection is not None:
                self._connection.watch(self._limit()[0], self._touched)
        if reader.complete:
            self.done, self._connection = True, None
        elif self._buffered_bytes > BUFFERED_BYTES_MAX and not self._whole and not self._paused and self._connection:
            self._paused = True
            self._connection.pause()
        if self.status:
            self._wake()

    def fail(self, error: UpstreamError, *, unanswered: bool = False) -> None:
        """End with an error; the connection goes. Pieces that came before it can still be taken.

        `unanswered`: the other end closed the connection, and no byte of an answer had come.
        """
        if self.done:
            return
        connection = self._connection
        error.sent, error.reused, error.status = True, self._reused, self.status or error.status
        # Nothing came, so what was touched last is the writing.
        error.unread = unanswered and self._reused and self._monotonic() - self._touched <= UNREAD_S
        self._error = error
        self.done, self._connection = True, None
        self._wake()
        if connection is not None:
            connection.drop()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _resume(self) -> None:
        if self._paused and self._connection is not None:
            self._paused = False
            self._touched = self._monotonic()
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
