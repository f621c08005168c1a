"""uvicorn's HTTP/1.1 protocol with bounds: on heads, on the framing of bodies, on pipelines.

uvicorn parses, keeps connections alive and shuts down in order; it bounds none of these, treats a trailer as a header,
loses the body of a request that offers an upgrade, sends chunks to clients that do not know them, and where a request
is followed by what is none, answers the second in place of the first.
"""

import asyncio
from typing import Any, Final, NoReturn

import httptools
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from keyforge.contracts.errors import Problem, problem
from keyforge.runtime.closing import ClosingProtocol
from keyforge.runtime.head import last_answer, wrong_head
from keyforge.runtime.http_1_0 import KNOWS_CHUNKS, without_chunks

HEAD_BYTES_MAX: Final = 32 * 1024
"""Bytes of a head, not counting those that arrived together with its first byte. Chosen: nginx's default
(large_client_header_buffers, 4 of 8 KiB)."""
HEAD_LINES_MAX: Final = 100
"""Lines of a head and of the trailer after its body, together. Chosen: the default of Apache (LimitRequestFields)."""
SILENT_BYTES_MAX: Final = 32 * 1024
"""Bytes in a row without any body in them: chunk extensions, trailers. Chosen: as for a head (`HEAD_BYTES_MAX`)."""
HEAD_S_MAX: Final = 20.0
"""From the connection, or the first byte of a request, to the end of its head. Chosen: the default of Apache's
RequestReadTimeout."""
PIPELINED_MAX: Final = 32
"""Requests of a connection that wait for the one being served. Chosen: no client that we know pipelines at all; with
`HEAD_BYTES_MAX` each, 1 MiB may wait."""
DRAINING: Final = "keyforge.draining"
"""Set in uvicorn's state, which every connection and the scope of every request has, once the process is to end: it
serves on for a while, and a load balancer is to go elsewhere."""


class BoundedProtocol(ClosingProtocol):
    """One connection."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._head_bytes = 0
        """-1: only the read with its first byte has arrived, and what else it brought is not counted."""
        self._in_head = True
        self._silent_bytes = 0
        self._in_message = False
        """A request that uvicorn handles is not complete yet."""
        self._offers_upgrade = False
        self._wrong: Problem | None = None
        """What is wrong with what was read last: it is the last answer, and nothing more is read."""
        self._timer: asyncio.TimerHandle | None = None
        self._idle_since = 0.0
        self._idle_timer: asyncio.TimerHandle | None = None

    @property
    def draining(self) -> bool:
        """Whether this process is to end: each answer is then the last one on its connection, and says so."""
        return DRAINING in self.app_state

    def drain(self) -> None:
        """Let the answer that is due, unless its head was sent already, be the last one on this connection."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_started:
            cycle.keep_alive = False

    def cut(self) -> None:
        """The service ends and has waited long enough: close after the request being served, whatever waits for it."""
        if self._served is not None:
            self._served.keep_alive = False

    def goes_short(self, fields: dict[bytes, bytes]) -> bool:  # noqa: ARG002 - for those who have one
        """Begin the request whose head was read (`fields`: its headers) on a path of the subclass; return whether
        it has one for it."""
        return False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._wait(HEAD_S_MAX)
        self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self._close_if_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timers()
        super().connection_lost(exc)

    def end(self) -> None:
        """See `ClosingProtocol`."""
        self._stop_timers()
        super().end()

    def shutdown(self) -> None:
        """Called by uvicorn when the service ends: close now, or after the answer that is due."""
        if self._ends:
            return
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and cycle.response_complete and (self._in_head or self._in_message):
            self.end()  # it has its answer, and still sends
        else:
            super().shutdown()

    def _stop_timers(self) -> None:
        self._wait(None)
        if self._idle_timer is not None:
            self._idle_timer.cancel()

    def data_received(self, data: bytes) -> None:
        if not self._reads:
            self.drop()
            return
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
        if self.pipeline:
            self.watch()

    def _feed(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._read_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._wrong = self._wrong or problem("http_invalid")
            self.logger.warning("request refused: %s", self._wrong.message or self._wrong.kind.message)
            self._read_no_more()

    # What is no request is answered after the requests before it: they are served, and charged.

    def _read_no_more(self) -> None:
        self._reads = False
        self._wait(None)
        if self._in_message and self.pipeline:  # what is wrong is the body of one that waits: it must not begin
            self.pipeline.popleft()
        elif self._in_message:  # of the one being served
            cycle: RequestResponseCycle = self.cycle
            if cycle.response_started:
                self.end()
                return
            cycle.disconnected = cycle.response_complete = True
            cycle.message_event.set()
        self._in_message = self._in_head = False
        if self._served is None or self._served.response_complete:
            self._answer_last()

    def _answer_last(self) -> None:
        if self._wrong is not None and not self.is_closing():
            self.transport.write(last_answer(self._wrong))
            self.end()

    def _refuse(self, wrong: Problem) -> NoReturn:
        self._wrong = wrong
        raise ValueError(wrong.message)

    def _read_without_upgrade(self, rest: bytes) -> None:
        """Parse a request again as if it offered no upgrade: the parser treats what follows such a head as another
        protocol, even if it is a body, and some clients offer HTTP/2 with every request."""
        version = self.parser.get_http_version().encode()
        lines = [b"%s: %s\r\n" % pair for pair in self.headers if pair[0] != b"upgrade"]
        again = b"%s %s HTTP/%s\r\n%s\r\n" % (self.parser.get_method(), self.url, version, b"".join(lines))
        self._offers_upgrade = False
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
        self._feed(again + rest)

    def _wait(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None:
            self._timer = self.loop.call_later(seconds, self._too_slow)

    def _too_slow(self) -> None:
        self._timer = None
        if self.pipeline:  # we may not be reading until the requests before it are answered
            self._wait(HEAD_S_MAX)
        else:
            self.transport.abort()

    # An idle connection is closed by one timer that is rarely set, not by one that is set for every request.

    def on_response_complete(self) -> None:
        if self.pipeline or self.transport.is_closing():  # uvicorn begins the next one
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        if self._ends:
            return
        if not self._reads:
            self._answer_last()
            return
        self.flow.resume_reading()
        self._idle_since = self.loop.time()

    def _close_if_idle(self) -> None:
        left: float = self.timeout_keep_alive
        if self.transport.is_closing():
            if self._unread_timer is None:
                self._check_unread()
        else:
            if self._in_head or not self.cycle.response_complete:
                self._idle_since = self.loop.time()
            left += self._idle_since - self.loop.time()
            if left <= 0:
                self.end()
                return
        self._idle_timer = self.loop.call_later(left, self._close_if_idle)

    # Called by httptools. Anything raised here ends the connection, with `_wrong` or a 400.

    def on_message_begin(self) -> None:
        self._in_head = True
        self._head_bytes = -1
        self.url = b""
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self.headers) >= HEAD_LINES_MAX:
            self._refuse(problem("http_invalid", f"A request must not have more than {HEAD_LINES_MAX} header lines."))
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._timer is not None:
            self._wait(None)
        headers = self.headers
        fields = dict(headers)
        if len(fields) != len(headers) or b"host" not in fields or b"transfer-encoding" in fields:
            wrong = wrong_head(headers, self.parser.get_http_version())
            if wrong is not None:
                self._refuse(wrong)
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                self._refuse(problem("http_invalid", "CONNECT is not supported."))
            self._offers_upgrade = True
        elif not self.goes_short(fields):
            self._goes_long()

    def _goes_long(self) -> None:
        """Begin the request whose head was read on uvicorn's way, or let it wait there."""
        if len(self.pipeline) >= PIPELINED_MAX:
            message = f"At most {PIPELINED_MAX} requests of a connection may wait for the one before them."
            self._refuse(problem("pipeline_too_long", message))
        url, headers = self.url, self.headers
        super().on_message_begin()  # creates the ASGI scope, and forgets what was read
        self.url = url
        for name, value in headers:
            super().on_header(name, value)
        super().on_headers_complete()
        self._in_message, self._silent_bytes = True, 0
        self.headers = headers  # a trailer is counted there, and is not a header of the scope
        if self.draining:
            self.drain()

    def on_body(self, body: bytes) -> None:
        self._silent_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_message = False
        if not self._offers_upgrade:
            super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if cycle.scope["http_version"] != KNOWS_CHUNKS:
            cycle.keep_alive = False
            app = without_chunks(cycle, app)
        super()._start_asgi_task(cycle, app)
