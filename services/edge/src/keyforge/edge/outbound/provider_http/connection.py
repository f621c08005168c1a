"""One connection to a provider, for one exchange at a time: bytes to a `ResponseReader`, its pieces to the exchange."""

import asyncio
import math
import select
from collections.abc import Callable
from typing import cast

from keyforge.edge.application.provider_call import UpstreamRequest
from keyforge.edge.application.provider_errors import UpstreamCut
from keyforge.edge.outbound.provider_http.exchange import Exchange
from keyforge.edge.outbound.provider_http.reader import ResponseReader


class ProviderConnection(asyncio.Protocol):
    """One connection, for one exchange at a time.

    One timer, set to the nearest limit, serves exchange after exchange: it is not set again for a limit further away,
    so a request seldom sets it.
    """

    __slots__ = (
        "_due",
        "_exchange",
        "_loop",
        "_on_closed",
        "_on_free",
        "_poll",
        "_reader",
        "_timer",
        "_transport",
        "closed",
        "free_since",
        "keep_s",
        "monotonic",
        "served",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        monotonic: Callable[[], float],
        on_free: Callable[["ProviderConnection"], None],
        on_closed: Callable[["ProviderConnection"], None],
    ) -> None:
        self.served = 0
        self.closed = False
        self.free_since = 0.0
        self.keep_s = math.inf
        self.monotonic = monotonic
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
        """Return whether a free connection can be used: open, and nothing to read (an end, or bytes without a request).

        `look` asks the socket itself, which costs a system call; else what the event loop has called back is enough.
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
            self._exchange.look(self.monotonic())

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
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one, but no subclass
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
            else:
                fault = reader.fault
                error = (
                    fault.error(fault.detail) if fault else UpstreamCut(f"the connection broke: {type(exc).__name__}")
                )
                ended = exc is None or isinstance(exc, ConnectionError)
                exchange.fail(error, unanswered=ended and reader.untouched)
        reader.close()
        self._on_closed(self)

    def _free(self) -> None:
        """The exchange is over: keep the connection if nothing is left on it in either direction."""
        self.served += 1
        keep_s = self._reader.notes.keep_s
        if self._reader.reusable and keep_s and not self._transport.get_write_buffer_size() and not self.closed:
            self.free_since, self.keep_s = self.monotonic(), keep_s
            self._on_free(self)
        else:
            self.drop()
