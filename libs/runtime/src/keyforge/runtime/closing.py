"""uvicorn's HTTP/1.1 protocol with a good end for each connection: a client that hangs up is noticed although it is not
read, one that still sends is sent no reset, and one that reads nothing is left.

A connection that is closed while something of it is unread is reset, and the reset takes away what the client has not
read yet. So we end it first in our direction, and read and drop until the client closes (RFC 9112 section 9.6).
"""

import asyncio
import contextlib
import select
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

LINGER_S_MAX: Final = 5.0
"""How long a client that was sent everything may take to close; twice that if what it was sent had to wait for it to
read. Chosen: nginx's default (lingering_timeout)."""
DROP_S: Final = 0.05
"""From one read of what is dropped to the next. Measured: with a read of 256 KiB each, a flood and its sender together
cost 1.3 % of a CPU (at full speed 95 %); what both kernels hold of a client that hung up, 10 MB at most by Linux's
defaults, is read in 2 s."""
HANG_UP_S: Final = 1.0
"""How often a connection that is not read, since what comes is to be kept, is asked whether its client hung up. Chosen:
costs 10 µs; halved it would gain nobody anything."""
UNREAD_S_MAX: Final = 60.0
"""How long a client may read nothing of a response that waits to be sent. Chosen: nginx's default (send_timeout)."""
_HUNG_UP: Final[int] = getattr(select, "POLLRDHUP", select.POLLHUP)
"""Linux's name for the end of what the peer sends, whatever is unread before it."""


class ClosingProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._served: RequestResponseCycle | None = None
        """The request that is served now; `cycle` is the last one that was read."""
        self._reads = True
        """Whether what comes is read for its meaning; if not it is dropped, a read every `DROP_S`."""
        self._ends = False
        """Whether our direction has ended."""
        self._flushing = False
        """What was written last waited for the client to read when this was looked at before."""
        self._linger_timer: asyncio.TimerHandle | None = None
        self._held_timer: asyncio.TimerHandle | None = None
        self._unread_bytes = 0
        self._unread_timer: asyncio.TimerHandle | None = None
        self.unread_s_max = UNREAD_S_MAX

    def is_closing(self) -> bool:
        """Whether nothing more may be written."""
        return self._ends or self.transport.is_closing()

    def end(self) -> None:
        """Close, as `transport.close()` does, but so that the client gets all that was written. A request that is open
        is disconnected, those that wait for it do not begin."""
        if self.is_closing():
            return
        self._ends, self._reads = True, False
        self.pipeline.clear()
        for cycle in (self._served, self.cycle):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        self._flushing = self.flow.write_paused
        with contextlib.suppress(OSError):  # the client has reset it, which is about to be read
            self.transport.write_eof()
        self.flow.resume_reading()
        self._linger_timer = self.loop.call_later(LINGER_S_MAX, self._linger)

    def _linger(self) -> None:
        was_flushing, self._flushing = self._flushing, self.transport.get_write_buffer_size() > 0
        if not (was_flushing or self._flushing):
            self.transport.abort()
            return
        self._linger_timer = self.loop.call_later(LINGER_S_MAX, self._linger)
        if self._flushing and self._unread_timer is None:
            self._check_unread()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._linger_timer, self._held_timer, self._unread_timer):
            if timer is not None:
                timer.cancel()
        if self._served is not None and self._served is not self.cycle:  # uvicorn notifies the last of a pipeline only
            self._served.disconnected = True
            self._served.message_event.set()
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._served = cycle
        cycle.transport = _CycleTransport(self)  # type: ignore[assignment]  # what a cycle uses of it
        super()._start_asgi_task(cycle, app)

    # The end of a connection is seen by who reads it.

    def drop(self) -> None:
        """Take what was read as read; the next read is `DROP_S` later."""
        self.flow.pause_reading()
        self.watch()

    def watch(self) -> None:
        """Notice if the client hangs up while it is not read: for a pause that no app's `receive` ends."""
        if self._held_timer is None:
            self._held_timer = self.loop.call_later(HANG_UP_S if self._reads else DROP_S, self._look)

    def _look(self) -> None:
        self._held_timer = None
        if not self.flow.read_paused or self.transport.is_closing():
            return
        if self._reads and self.pipeline and _has_hung_up(self.transport):
            self._reads = False  # up to the end, which is then seen
        if not self._reads:
            self.flow.resume_reading()
        elif self.pipeline:
            self.watch()

    # A client that does not read its response is disconnected, even in the middle of one or while closing.

    def pause_writing(self) -> None:
        super().pause_writing()
        self._check_unread()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _check_unread(self) -> None:
        before, self._unread_bytes = self._unread_bytes, self.transport.get_write_buffer_size()
        if self._unread_timer is not None and self._unread_bytes >= before:
            self.transport.abort()
        else:
            self._unread_timer = self.loop.call_later(self.unread_s_max, self._check_unread)


class _CycleTransport:
    """The transport as uvicorn's cycle uses it, which closes it at the end of an answer or in the middle of one."""

    __slots__ = ("close", "is_closing", "write")

    def __init__(self, connection: ClosingProtocol) -> None:
        self.write = connection.transport.write
        self.close = connection.end
        self.is_closing = connection.is_closing


def _has_hung_up(transport: asyncio.BaseTransport) -> bool:
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), _HUNG_UP)
    return bool(poll.poll(0))
