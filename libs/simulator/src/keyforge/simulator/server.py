"""A provider to test against: OpenAI's API on loopback, scripted faults, and books of what it received and billed.

    python -m keyforge.simulator --port 8100

    POST /v1/chat/completions, /v1/embeddings; GET /v1/models     (any prefix before /v1 is ignored)
    POST /_sim/script   {"rules": [{"model"?, "path"?, "credential"?, "times"?, "behaviour": {...}}]}   adds rules
    POST /_sim/reset    forgets rules and books
    GET  /_sim/books    ?after=NUMBER&limit=COUNT: totals and entries; see `simulator_books`

Knobs of a behaviour, and how a request or a model's name chooses one: `simulator_script`. The prompt is billed when the
answer's head is written, tokens of a stream as their chunks are; an error status bills nothing.
"""

import argparse
import asyncio
import hashlib
import signal
from collections.abc import Iterator
from typing import Any, Final, cast
from urllib.parse import parse_qs, urlsplit

import httptools
import msgspec
import uvloop

from keyforge.simulator import answers
from keyforge.simulator.books import PAGE_MAX, Books, Entry
from keyforge.simulator.script import Behaviour, Rules, Script, digest, wish

BODY_BYTES_MAX: Final = 32 * 1024 * 1024
REASONS: Final = {200: b"OK", 307: b"Temporary Redirect", 429: b"Too Many Requests"}


class Provider:
    """What all connections share."""

    def __init__(self) -> None:
        self.rules = Rules()
        self.books = Books()

    def control(self, method: str, path: str, query: str, body: bytes) -> tuple[int, bytes]:
        """Answer the control API."""
        match method, path:
            case "GET", "/_sim/books":
                asked = parse_qs(query)
                page = self.books.page(int(asked.get("after", ["0"])[0]), int(asked.get("limit", [str(PAGE_MAX)])[0]))
                return 200, msgspec.json.encode(page)
            case "POST", "/_sim/reset":
                self.rules, self.books = Rules(), Books()  # what is still open goes on in the old ones
            case "POST", "/_sim/script":
                try:
                    self.rules.add(msgspec.json.decode(body, type=Script))
                except ValueError as error:
                    return 400, answers.error(400, str(error))
            case _:
                return 404, answers.error(404, "No such control.")
        return 200, b"{}"


class Connection(asyncio.Protocol):
    """One client; one request at a time."""

    def __init__(self, provider: Provider, loop: asyncio.AbstractEventLoop) -> None:
        self._provider = provider
        self._loop = loop
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._entry: Entry | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._books = provider.books

    # What asyncio and httptools call.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio calls it so
        if self._timer is not None:
            self._timer.cancel()
        if self._entry is not None and self._entry.outcome == "open":
            self._entry.outcome = "gone"
        self._parser = None  # type: ignore[assignment]  # it holds us

    def data_received(self, data: bytes) -> None:
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
            self._write(404, answers.error(404, "No such route."), Behaviour())

    # One request.

    def _serve(self, path: str, body: bytes) -> None:
        """Enter a request into the books and answer it as the script says."""
        books = self._books = self._provider.books
        try:
            request = msgspec.json.decode(body, type=dict[str, Any])
        except msgspec.MsgspecError:
            request = {}
        model = str(request.get("model"))
        entry = self._entry = Entry(
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
        try:
            behaviour = self._provider.rules.choose(path, model, entry.authorization, wish(request))
        except msgspec.MsgspecError as error:
            request, behaviour = {}, Behaviour(status=400, body=str(error))
        if not request and behaviour.status == 200:
            behaviour = Behaviour(status=400)
        if behaviour.hang:
            return
        if behaviour.first_byte_delay_s:
            self._later(behaviour.first_byte_delay_s, self._answer, entry, request, behaviour)
        else:
            self._answer(entry, request, behaviour)

    def _answer(self, entry: Entry, request: dict[str, Any], behaviour: Behaviour) -> None:
        self._timer = None
        entry.status = behaviour.status
        if behaviour.cut_before_head:
            self._cut(entry)
            return
        if behaviour.status != 200:
            body = behaviour.body.encode() if behaviour.body else answers.error(behaviour.status, "As the script says.")
            self._write(behaviour.status, body, behaviour, entry)
            return
        embeddings = entry.path.endswith("/embeddings")
        billed = answers.bill(request, entry.body_bytes, behaviour, embeddings=embeddings)
        entry.cached_tokens, entry.reasoning_tokens = behaviour.cached_tokens, behaviour.reasoning_tokens
        self._books.bill(entry, billed.prompt, 0)
        if entry.stream and not embeddings and behaviour.body is None:
            self._transport.write(_head(200, behaviour, "text/event-stream") + b"transfer-encoding: chunked\r\n\r\n")
            self._pump(answers.stream(entry.number, request, behaviour, billed), entry, behaviour, 0)
            return
        if behaviour.body is not None:
            body = behaviour.body.encode()
        elif embeddings:
            body = answers.embeddings(request, behaviour, billed)
        else:
            body = answers.completion(entry.number, request, behaviour, billed)
        self._books.bill(entry, 0, billed.completion)
        self._write(200, body, behaviour, entry)

    def _pump(self, pieces: Iterator[answers.Piece], entry: Entry, behaviour: Behaviour, written: int) -> None:
        """Write the events of a stream, all at once or one at a time with a pause between."""
        self._timer = None
        gathered: list[bytes] = []
        for piece in pieces:
            gathered.append(b"%x\r\n%s\r\n" % (len(piece.data), piece.data))
            self._books.bill(entry, 0, piece.tokens)
            written += piece.tokens > 0
            if behaviour.cut_after_chunks is not None and written >= behaviour.cut_after_chunks:
                self._transport.writelines(gathered)
                self._cut(entry)
                return
            if behaviour.hang_after_chunks is not None and written >= behaviour.hang_after_chunks:
                self._transport.writelines(gathered)
                return
            if behaviour.chunk_delay_s and piece.tokens:
                self._transport.writelines(gathered)
                self._later(behaviour.chunk_delay_s, self._pump, pieces, entry, behaviour, written)
                return
        self._transport.writelines([*gathered, b"0\r\n\r\n"])
        self._finish(entry, behaviour)

    def _write(self, status: int, body: bytes, behaviour: Behaviour, entry: Entry | None = None) -> None:
        """Write a whole answer, or less of it than was promised."""
        head = _head(status, behaviour, "application/json") + b"content-length: %d\r\n\r\n" % len(body)
        if behaviour.cut_body_at is not None and entry is not None:
            self._transport.write(head + body[: behaviour.cut_body_at])
            self._cut(entry)
            return
        self._transport.write(head + body)
        self._finish(entry, behaviour)

    def _finish(self, entry: Entry | None, behaviour: Behaviour) -> None:
        if entry is not None:
            entry.outcome = "finished"
        if behaviour.close:
            self._transport.close()

    def _cut(self, entry: Entry) -> None:
        """End the connection in the middle of an answer; what was written is still delivered."""
        entry.outcome = "cut"
        self._transport.close()

    def _later(self, delay_s: float, call: Any, *args: Any) -> None:
        self._timer = self._loop.call_later(delay_s, call, *args)


def _head(status: int, behaviour: Behaviour, content_type: str) -> bytes:
    lines = [b"HTTP/1.1 %d %s" % (status, REASONS.get(status, b"Whatever"))]
    given = {"content-type": behaviour.content_type or content_type, "x-request-id": "req-sim", **behaviour.headers}
    if behaviour.retry_after is not None:
        given["retry-after"] = behaviour.retry_after
    if behaviour.location is not None:
        given["location"] = behaviour.location
    if behaviour.huge_header_bytes:
        given["x-huge"] = "h" * behaviour.huge_header_bytes
    lines += [f"{name}: {value}".encode("latin-1") for name, value in given.items()]
    return b"\r\n".join(lines) + b"\r\n"


async def start(host: str = "127.0.0.1", port: int = 0) -> tuple[asyncio.Server, int]:
    """Listen in the running loop; return the server and its port (0 picks a free one)."""
    loop = asyncio.get_running_loop()
    provider = Provider()
    server = await loop.create_server(lambda: Connection(provider, loop), host, port, backlog=2048)
    return server, int(server.sockets[0].getsockname()[1])


async def serve(host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT; print one line when listening."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    server, port = await start(host, port)
    print(f"simulator listening on http://{host}:{port}", flush=True)  # noqa: T201  # its one line of output
    await stopped.wait()
    server.close()


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m keyforge.simulator", description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    chosen = parser.parse_args()
    uvloop.run(serve(chosen.host, chosen.port))
