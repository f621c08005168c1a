"""One client of the simulated provider: parses a request, enters it into the books, answers it as scripted."""

import asyncio
import hashlib
import socket
import struct
from collections.abc import Iterator
from functools import partial
from typing import Any, Final, Literal, cast
from urllib.parse import urlsplit

import httptools
import msgspec

from keyforge.simulator import answers
from keyforge.simulator.books import BookEntry
from keyforge.simulator.faults.replay import replay
from keyforge.simulator.faults.table import NumberedFault, UnknownFaultError, find
from keyforge.simulator.provider import Provider
from keyforge.simulator.replies import RequestError, reply_to
from keyforge.simulator.script import Behaviour, digest, requested

BODY_BYTES_MAX: Final = 32 * 1024 * 1024
"""Chosen: eight times what an edge forwards by default (KEYFORGE_BODY_BYTES_MAX, 4 MiB)."""
_NO_LINGER: Final = struct.pack("ii", 1, 0)
"""Closing with this resets the connection (socket(7), SO_LINGER)."""
REASONS: Final = {200: b"OK", 307: b"Temporary Redirect", 429: b"Too Many Requests"}


class Connection(asyncio.Protocol):
    """One client; one request at a time."""

    def __init__(self, provider: Provider, loop: asyncio.AbstractEventLoop) -> None:
        self._provider = provider
        self._loop = loop
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._entry: BookEntry | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._end: Literal["reset", "close", "idle"] | None = (
            None  # how the connection ends, once its answer is written
        )
        self._end_s = 0.0
        self._books = provider.books

    # Called by asyncio and httptools.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # the name that asyncio uses
        for timer in (self._timer, self._idle):
            if timer is not None:
                timer.cancel()
        if self._entry is not None:
            self._books.end(self._entry, "gone")
        self._parser = None  # type: ignore[assignment]  # it refers to us

    def data_received(self, data: bytes) -> None:
        if self._idle is not None:
            self._idle.cancel()
        if self._end in ("reset", "close"):
            self._refuse_next()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._transport.abort()

    def on_message_begin(self) -> None:
        self._url = b""
        self._authorization = b""
        self._request_id = ""
        self._body: list[bytes] = []
        self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"authorization":
            self._authorization = value
        elif name == b"x-request-id":
            self._request_id = value.decode("latin-1")

    def on_body(self, piece: bytes) -> None:
        self._body_bytes += len(piece)
        if self._body_bytes > BODY_BYTES_MAX:
            self._transport.abort()
        else:
            self._body.append(piece)

    def on_message_complete(self) -> None:
        url = urlsplit(self._url.decode("latin-1"))
        method, body = self._parser.get_method().decode(), b"".join(self._body)
        self._body = []
        if url.path.startswith("/_sim/"):
            status, answer = self._provider.control(method, url.path, url.query, body)
            self._write(status, answer, Behaviour())
        elif method == "GET" and url.path.endswith("/models"):
            self._write(200, answers.models(), Behaviour())
        elif method == "POST" and url.path.endswith(("/chat/completions", "/embeddings")):
            self._serve(url.path, body)
        else:
            self._write(404, answers.error(404, "Unknown route."), Behaviour())

    # One request.

    def _serve(self, path: str, body: bytes) -> None:
        """Enter a request into the books and answer it as scripted."""
        books = self._books = self._provider.books
        try:
            request = msgspec.json.decode(body, type=dict[str, Any])
        except msgspec.MsgspecError:
            request = {}
        model = str(request.get("model"))
        entry = self._entry = BookEntry(
            number=0,
            path=path,
            model=model,
            stream=request.get("stream") is True,
            request_id=self._request_id,
            authorization=digest(self._authorization) if self._authorization else "",
            body_sha256=hashlib.sha256(body).hexdigest(),
            body_bytes=len(body),
            max_tokens=answers.max_tokens(request),
        )
        books.receive(entry)
        chosen: NumberedFault | None = None
        try:
            behaviour = self._provider.rules.choose(path, model, entry.authorization, requested(request))
            chosen = None if behaviour.fault is None else find(behaviour.fault)
        except msgspec.MsgspecError as error:
            request, behaviour = {}, Behaviour(status=400, body=str(error))
        except UnknownFaultError as error:
            behaviour = Behaviour(status=404, body=answers.error(404, str(error), "model").decode())
        if not request and behaviour.status == 200:
            behaviour, chosen = Behaviour(status=400), None
        if behaviour.hang:
            return
        delay_s = behaviour.first_byte_delay_s + (chosen.number if chosen and chosen.fault.waits else 0)
        answer = partial(self._answer, entry, request, behaviour)
        if chosen is not None:
            answer = partial(self._replay, entry, request, behaviour, chosen)
        if delay_s:
            self._later(delay_s, answer)
        else:
            answer()

    def _answer(self, entry: BookEntry, request: dict[str, Any], behaviour: Behaviour) -> None:
        self._timer = None
        entry.status = behaviour.status
        if behaviour.cut_before_head:
            self._cut(entry)
            return
        if behaviour.status != 200:
            body = behaviour.body.encode() if behaviour.body else answers.error(behaviour.status, "Scripted error.")
            self._write(behaviour.status, body, behaviour, entry)
            return
        embeddings = entry.path.endswith("/embeddings")
        try:
            reply = None if embeddings else reply_to(request, behaviour, answers.tokens_max(request))
        except RequestError as error:
            entry.status = 400
            self._write(400, answers.error(400, str(error), error.param), Behaviour(), entry)
            return
        cached = 0 if embeddings else self._provider.prompts.read(entry.authorization, request, entry.body_bytes)
        billed = answers.bill(request, entry.body_bytes, behaviour, reply, embeddings=embeddings, cached=cached)
        self._books.bill(entry, billed.prompt, 0, billed.cached, billed.reasoning)
        if entry.stream and not embeddings and behaviour.body is None:
            self._transport.write(_head(200, behaviour, "text/event-stream") + b"transfer-encoding: chunked\r\n\r\n")
            self._pump(answers.stream(entry.number, request, behaviour, billed, reply), entry, behaviour, 0)
            return
        if behaviour.body is not None:
            body = behaviour.body.encode()
        elif embeddings:
            body = answers.embeddings(request, behaviour, billed)
        else:
            body = answers.completion(entry.number, request, behaviour, billed, reply)
        self._books.bill(entry, 0, billed.completion)
        self._write(200, body, behaviour, entry)

    def _replay(self, entry: BookEntry, request: dict[str, Any], behaviour: Behaviour, chosen: NumberedFault) -> None:
        """Answer with a fault."""
        self._timer = None
        inputs = request.get("input")
        embeddings = (len(inputs) if isinstance(inputs, list) else 1) if entry.path.endswith("/embeddings") else None
        try:
            sent = replay(chosen, stream=entry.stream, embeddings=embeddings, now=self._provider.clock())
        except UnknownFaultError as error:
            entry.status = 400
            self._write(400, answers.error(400, str(error), "model"), behaviour, entry)
            return
        fault = chosen.fault
        entry.status = fault.status
        prompt, completion = fault.billed
        self._books.bill(entry, *((prompt + completion, 0) if embeddings is not None else (prompt, completion)))
        head = Behaviour(headers={**sent.headers, **behaviour.headers}, content_type=sent.content_type)
        self._end, self._end_s = fault.after, chosen.number
        if sent.body is not None:
            self._write(fault.status, sent.body, head, entry)
            return
        self._transport.write(_head(200, head, sent.content_type) + b"transfer-encoding: chunked\r\n\r\n")
        self._play(sent.events, entry, head)

    def _play(self, events: Iterator[bytes | float], entry: BookEntry, head: Behaviour) -> None:
        """Write the events of a fault up to the next pause."""
        self._timer = None
        for event in events:
            if isinstance(event, float):
                self._later(event, self._play, events, entry, head)
                return
            self._transport.write(b"%x\r\n%s\r\n" % (len(event), event))
        self._transport.write(b"0\r\n\r\n")
        self._finish(entry, head)

    def _pump(self, pieces: Iterator[answers.Piece], entry: BookEntry, behaviour: Behaviour, written: int) -> None:
        """Write the events of a stream, all at once or one at a time with pauses."""
        self._timer = None
        pending: list[bytes] = []
        for piece in pieces:
            pending.append(b"%x\r\n%s\r\n" % (len(piece.data), piece.data))
            self._books.bill(entry, 0, piece.tokens)
            written += piece.tokens > 0
            if behaviour.cut_after_chunks is not None and written >= behaviour.cut_after_chunks:
                self._transport.writelines(pending)
                self._cut(entry)
                return
            if behaviour.hang_after_chunks is not None and written >= behaviour.hang_after_chunks:
                self._transport.writelines(pending)
                return
            if behaviour.chunk_delay_s and piece.tokens:
                self._transport.writelines(pending)
                self._later(behaviour.chunk_delay_s, self._pump, pieces, entry, behaviour, written)
                return
        self._transport.writelines([*pending, b"0\r\n\r\n"])
        self._finish(entry, behaviour)

    def _write(self, status: int, body: bytes, behaviour: Behaviour, entry: BookEntry | None = None) -> None:
        """Write a complete answer, or less than its content-length."""
        head = _head(status, behaviour, "application/json") + b"content-length: %d\r\n\r\n" % len(body)
        if behaviour.cut_body_at is not None and entry is not None:
            self._transport.write(head + body[: behaviour.cut_body_at])
            self._cut(entry)
            return
        self._transport.write(head + body)
        self._finish(entry, behaviour)

    def _finish(self, entry: BookEntry | None, behaviour: Behaviour) -> None:
        if entry is not None:
            self._books.end(entry, "finished")
        if behaviour.close:
            self._transport.close()
        elif self._end == "idle":
            self._idle = self._loop.call_later(self._end_s, self._transport.close)

    def _refuse_next(self) -> None:
        """End the connection under a request that came when it was about to be closed: nothing of it is read."""
        if self._end == "reset":
            client = self._transport.get_extra_info("socket")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._transport.abort()

    def _cut(self, entry: BookEntry) -> None:
        """End the connection in the middle of an answer; what was written is still delivered."""
        self._books.end(entry, "cut")
        self._transport.close()

    def _later(self, delay_s: float, call: Any, *args: Any) -> None:
        self._timer = self._loop.call_later(delay_s, call, *args)


def _head(status: int, behaviour: Behaviour, content_type: str) -> bytes:
    lines = [b"HTTP/1.1 %d %s" % (status, REASONS.get(status, b"Scripted"))]
    given = {"content-type": behaviour.content_type or content_type, "x-request-id": "req-sim", **behaviour.headers}
    if behaviour.retry_after is not None:
        given["retry-after"] = behaviour.retry_after
    if behaviour.location is not None:
        given["location"] = behaviour.location
    if behaviour.huge_header_bytes:
        given["x-huge"] = "h" * behaviour.huge_header_bytes
    lines += [f"{name}: {value}".encode("latin-1") for name, value in given.items()]
    return b"\r\n".join(lines) + b"\r\n"
