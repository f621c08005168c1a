"""uvicorn's HTTP/1.1 protocol with bounds: on heads, on what frames bodies, on pipelines, on who does not read.

uvicorn parses, keeps connections alive and ends in order; it bounds none of these, takes a trailer for a header, and
loses the body of a request that offers an upgrade.
"""

import asyncio
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

HEAD_BYTES_MAX: Final = 32 * 1024
"""Bytes of a head, beside those that one read brought with its first."""
HEAD_LINES_MAX: Final = 100
"""Lines of a head and of the trailer behind its body, together."""
SILENT_BYTES_MAX: Final = 32 * 1024
"""Bytes that may come in a row without any body in them: chunk extensions, trailers."""
HEAD_S_MAX: Final = 20.0
"""From the connection, or the first byte of a request, to the end of its head."""
PIPELINED_MAX: Final = 32
"""Requests of a connection that wait behind the one that is served."""
UNREAD_S_MAX: Final = 60.0
"""How long nothing at all may be read of an answer that waits to leave."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._head_bytes = 0
        """-1: only the read with its first byte has come, and what else came with that is not counted."""
        self._in_head = True
        self._silent_bytes = 0
        self._in_message = False
        """A request on uvicorn's way is not whole yet."""
        self._offers_upgrade = False
        self._served: RequestResponseCycle | None = None
        """What uvicorn serves now; its own `cycle` is the last one that was read."""
        self._timer: asyncio.TimerHandle | None = None
        self._idle_since = 0.0
        self._idle_timer: asyncio.TimerHandle | None = None
        self._unread_bytes = 0
        self._unread_timer: asyncio.TimerHandle | None = None
        self.unread_s_max = UNREAD_S_MAX

    def goes_short(self) -> bool:
        """Begin the request whose head was read on a way of one's own, if there is one for it."""
        return False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._wait(HEAD_S_MAX)
        self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self._close_if_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait(None)
        for timer in (self._idle_timer, self._unread_timer):
            if timer is not None:
                timer.cancel()
        if self._served is not None and self._served is not self.cycle:  # uvicorn tells the last of a pipeline only
            self._served.disconnected = True
            self._served.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_message:
            self._silent_bytes += len(data)
        self._feed(data)
        if self._in_message and self._silent_bytes > SILENT_BYTES_MAX:
            self.transport.abort()
        elif self._in_head:
            self._head_bytes += len(data) if self._head_bytes >= 0 else 1
            if self._head_bytes > HEAD_BYTES_MAX:
                self.transport.abort()
            elif self._timer is None:
                self._wait(HEAD_S_MAX)

    def _feed(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._read_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            message = "Invalid HTTP request received."
            self.logger.warning(message)
            self.send_400_response(message)

    def _read_without_upgrade(self, rest: bytes) -> None:
        """Read a request again as if it offered no upgrade: the parser takes what follows such a head for another
        protocol, even if it is a body, and some clients offer HTTP/2 with every request."""
        version = self.parser.get_http_version().encode()
        lines = [b"%s: %s\r\n" % pair for pair in self.headers if pair[0] != b"upgrade"]
        head = b"%s %s HTTP/%s\r\n%s\r\n" % (self.parser.get_method(), self.url, version, b"".join(lines))
        self._offers_upgrade = False
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
        self._feed(head + rest)

    def _wait(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None:
            self._timer = self.loop.call_later(seconds, self._too_slow)

    def _too_slow(self) -> None:
        self._timer = None
        if self.pipeline:  # it may be we who do not read, until the requests before it are answered
            self._wait(HEAD_S_MAX)
        else:
            self.transport.abort()

    # Who does not read what it asked for is left, be it in the middle of an answer or of closing.

    def pause_writing(self) -> None:
        super().pause_writing()
        self._look_at_unread()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _look_at_unread(self) -> None:
        before, self._unread_bytes = self._unread_bytes, self.transport.get_write_buffer_size()
        if self._unread_timer is not None and self._unread_bytes >= before:
            self.transport.abort()
        else:
            self._unread_timer = self.loop.call_later(self.unread_s_max, self._look_at_unread)

    # An idle connection is closed by one timer that is rarely set, not by one that is set for every request.

    def on_response_complete(self) -> None:
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        self._idle_since = self.loop.time()

    def _close_if_idle(self) -> None:
        left: float = self.timeout_keep_alive
        if self.transport.is_closing():
            if self._unread_timer is None:
                self._look_at_unread()
        else:
            if self._in_head or not self.cycle.response_complete:
                self._idle_since = self.loop.time()
            left += self._idle_since - self.loop.time()
            if left <= 0:
                self.transport.close()
                left = self.timeout_keep_alive
        self._idle_timer = self.loop.call_later(left, self._close_if_idle)

    # What httptools calls. Whatever is raised here ends the connection with a 400.

    def on_message_begin(self) -> None:
        self._in_head = True
        self._head_bytes = -1
        self.url = b""
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self.headers) >= HEAD_LINES_MAX:
            raise ValueError("a request has more lines than this gateway takes")
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._timer is not None:
            self._wait(None)
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise ValueError("this gateway is no tunnel")
            self._offers_upgrade = True
        elif not self.goes_short():
            if len(self.pipeline) >= PIPELINED_MAX:
                raise ValueError("more requests in a row than this gateway keeps")
            url, headers = self.url, self.headers
            super().on_message_begin()  # makes the scope of ASGI, and forgets what was read
            self.url = url
            self._in_message, self._silent_bytes = True, 0
            for name, value in headers:
                super().on_header(name, value)
            super().on_headers_complete()
            self.headers = headers  # a trailer is counted there, and is no header of the scope

    def on_body(self, body: bytes) -> None:
        self._silent_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_message = False
        if not self._offers_upgrade:
            super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._served = cycle
        super()._start_asgi_task(cycle, app)
