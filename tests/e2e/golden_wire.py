"""The edge's two neighbours on raw sockets: a provider and an agent that keep the bytes they receive."""

import itertools
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO, Final, Literal, NamedTuple, Self

Delivery = Literal["whole", "split", "bytewise"]
"""How a provider's body arrives: in one piece, in uneven pieces that cut lines and characters, byte by byte."""

TIME_LIMIT_S: Final = 30.0
PIECES: Final = (1, 7, 40, 3, 250, 11, 1000)
"""Sizes of the pieces of a split body, over and over."""
PAUSE_S: Final = 0.0005
JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"
FURTHER_HEADERS: Final = (
    b"server: provider\r\nset-cookie: session=fixture\r\nx-request-id: req-of-the-provider\r\n"
    b"x-ratelimit-remaining-requests: 42\r\nopenai-processing-ms: 7\r\n"
)
"""What providers send beside an answer, and the edge does not pass on."""


class Reply(NamedTuple):
    """What the provider answers with. `cut`: it hangs up where the end of the body belongs."""

    body: bytes
    status: int = 200
    content_type: str = JSON
    delivery: Delivery = "whole"
    cut: bool = False
    headers: bytes = b""

    def parts(self) -> Iterator[bytes]:
        """Yield what is written to the socket, a part at a time; a stream is chunked, all else has its length."""
        chunked = self.content_type.startswith(EVENTS)
        framing = b"transfer-encoding: chunked" if chunked else b"content-length: %d" % len(self.body)
        head = b"HTTP/1.1 %d Reason\r\ncontent-type: %s\r\n" % (self.status, self.content_type.encode())
        yield head + FURTHER_HEADERS + self.headers + framing + b"\r\n\r\n"
        for piece in self._pieces():
            yield b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece
        if chunked and not self.cut:
            yield b"0\r\n\r\n"

    def _pieces(self) -> Iterator[bytes]:
        sizes = {"whole": itertools.repeat(len(self.body)), "split": itertools.cycle(PIECES)}
        rest = self.body
        for size in sizes.get(self.delivery, itertools.repeat(1)):
            if not rest:
                return
            yield rest[:size]
            rest = rest[size:]


class Provider:
    """A server on loopback that gives every request the reply set last, and keeps the request's exact bytes."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._received: list[bytes] = []
        self._reply = Reply(b"{}")
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, name="provider", daemon=True)]

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    def answer_with(self, reply: Reply) -> None:
        """Set the reply from now on, and forget what was received."""
        with self._lock:
            self._reply = reply
            self._received.clear()

    def received(self) -> bytes:
        """Return every byte received since `answer_with`; none if nobody called."""
        with self._lock:
            return b"".join(self._received)

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self._listener, *self._connections):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(TIME_LIMIT_S)

    def _accept(self) -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                connection, _ = self._listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                thread = threading.Thread(target=self._serve, args=(connection,), name="provider", daemon=True)
                self._connections.append(connection)
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection, connection.makefile("rb") as stream:
            while request := _read_request(stream):
                with self._lock:
                    self._received.append(request)
                    reply = self._reply
                for part in reply.parts():
                    connection.sendall(part)
                    if reply.delivery != "whole":
                        time.sleep(PAUSE_S)  # else the pieces may arrive as one
                if reply.cut:
                    connection.shutdown(socket.SHUT_RDWR)
                    return


class Received(NamedTuple):
    """An answer as it came: its head with the empty line, its body without the framing of chunks."""

    head: bytes
    body: bytes

    @property
    def status(self) -> int:
        """The status of the answer."""
        return int(self.head.split(b" ", 2)[1])


class Agent:
    """A client that writes the bytes it is given, on one connection for as long as the edge keeps it."""

    def __init__(self, url: str) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        self._address = host, int(port)
        self._socket: socket.socket | None = None
        self._stream: BinaryIO | None = None

    def close(self) -> None:
        """Hang up."""
        for one in (self._stream, self._socket):
            if one is not None:
                one.close()
        self._stream = self._socket = None

    def ask(self, request: bytes) -> Received:
        """Send a request and return the whole answer. Raises AssertionError if the answer ends early."""
        if self._socket is None:
            self._socket = socket.create_connection(self._address, TIME_LIMIT_S)
            self._stream = self._socket.makefile("rb")
        assert self._stream is not None
        self._socket.sendall(request)
        head = _read_head(self._stream)
        assert head.endswith(b"\r\n\r\n"), f"the edge hung up: {head!r}"
        lines = head.lower().split(b"\r\n")
        if b"transfer-encoding: chunked" in lines:
            body = b"".join(_read_chunks(self._stream))
        else:
            length = _length(head)
            body = self._stream.read(length)
            assert len(body) == length, "the edge hung up inside the body"
        if b"connection: close" in lines:
            assert self._stream.read(1) == b"", "the edge said more than its last answer"
            self.close()
        return Received(head, body)


def _read_request(stream: BinaryIO) -> bytes:
    head = _read_head(stream)
    return head + stream.read(_length(head)) if head else b""


def _read_head(stream: BinaryIO) -> bytes:
    lines: list[bytes] = []
    while line := stream.readline():
        lines.append(line)
        if line == b"\r\n":
            break
    return b"".join(lines)


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def _read_chunks(stream: BinaryIO) -> Iterator[bytes]:
    while True:
        size = int(stream.readline(), 16)
        chunk = stream.read(size + 2)
        assert len(chunk) == size + 2, "the edge hung up inside a chunk"
        assert chunk.endswith(b"\r\n"), "a chunk without its end"
        if size == 0:
            return
        yield chunk[:-2]
