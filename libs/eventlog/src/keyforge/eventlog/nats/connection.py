"""One connection to a NATS server, from connecting to its end. `client.py` keeps one, and makes the next.

server: INFO ──▶ (TLS, if either side requires it) ──▶ us: CONNECT, PING ──▶ server: PONG ──▶ messages both ways
"""

import asyncio
import secrets
import socket
import ssl
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final, cast
from urllib.parse import unquote

import msgspec

from keyforge.contracts import urls
from keyforge.eventlog.nats import protocol
from keyforge.eventlog.nats.errors import (
    AccessRefused,
    BufferFull,
    ConnectionLost,
    Disconnected,
    NatsClientError,
    TlsRefused,
)
from keyforge.eventlog.nats.protocol import Delivery, Info, Parser, Ping, Pong, ProtocolError, ServerError

PORT: Final = 4222
"""The port that IANA has for NATS, and its server's default."""
_LANG: Final = "python"
_REFUSED: Final = ("authorization violation", "authentication expired", "authentication revoked")
_NOT_FATAL: Final = "permissions violation"


class ClientBounds(msgspec.Struct, frozen=True):
    """Times and sizes. A server that is silent for `pings_outstanding_max` pings, sent every `ping_interval_s`, is
    given up."""

    connect_s: float = 2.0
    """For one address: to connect, TLS included. Chosen: the default of nats-py and of nats.go."""
    reconnect_pause_s: float = 0.25
    """Between two attempts, up to half as much again: a thousand clients must not reconnect at the same moment."""
    ping_interval_s: float = 5.0
    pings_outstanding_max: int = 2
    """Chosen: a dead server is noticed within 15 s; the server's own defaults are 2 minutes and 2."""
    pending_bytes_max: int = 64 * 1024 * 1024
    """What may wait to be sent. Chosen: the server's own default for a slow consumer (`max_pending`)."""
    close_s: float = 1.0
    """How long `close` waits until everything is sent."""


class Server(msgspec.Struct, frozen=True):
    """The address of a server, and our user there. `secure`: only over TLS."""

    host: str
    port: int = PORT
    secure: bool = False
    user: str = ""
    password: str = ""

    @classmethod
    def parse(cls, url: str, *, user: str = "", password: str = "") -> "Server":
        """Read `nats://host:port` or `tls://host:port`, or the same without a scheme; a user in it takes precedence.

        Raises ValueError, whose text shows nothing of it.
        """
        try:
            parts = urls.split(url if "://" in url else f"nats://{url}")
        except ValueError as why:
            raise ValueError(f"not the address of a NATS server: {why}") from None
        if parts.scheme not in {"nats", "tls"}:
            raise ValueError("not the address of a NATS server: its scheme is not nats or tls")
        if parts.username:
            user, password = unquote(parts.username), unquote(parts.password or "")
        port = PORT if parts.port is None else parts.port
        return cls(parts.hostname or "", port, parts.scheme == "tls", user, password)

    def __str__(self) -> str:
        """Return the address, without user and password."""
        return f"{self.host}:{self.port}"

    __repr__ = __str__


def check_setting(value: str) -> None:
    """Raise ValueError unless these are addresses without a user, separated by commas; the text does not show them.

    A user has two settings of its own: subjects of replies are made of it, so one in an address would get none.
    """
    for url in value.split(","):
        try:
            Server.parse(url.strip())
        except ValueError:
            allowed = "must be nats://host:port or tls://host:port, or several, separated by commas"
            raise ValueError(f"KEYFORGE_NATS_URL {allowed}") from None
    if "@" in value:
        instead = "KEYFORGE_NATS_USER and KEYFORGE_NATS_PASSWORD are for that"
        raise ValueError(f"KEYFORGE_NATS_URL must not contain a user or a password: {instead}")


class Connection(asyncio.Protocol):
    """Sends and receives on one connection. `lost` is done once it has ended, `why` is the reason as far as known."""

    def __init__(
        self, deliver: Callable[[Delivery], None], report: Callable[[str], None], pending_bytes_max: int
    ) -> None:
        loop = asyncio.get_running_loop()
        self.info: asyncio.Future[Info] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()
        self.why = ""
        self.max_payload = Info().max_payload
        self.silent = 0
        self.transport: asyncio.Transport | None = None
        self._loop = loop
        self._deliver: Callable[[Delivery], None] = self._too_early
        self._deliver_once_accepted = deliver
        self._report = report
        self._pending_bytes_max = pending_bytes_max
        self._parser = Parser()
        self._pongs: deque[asyncio.Future[None] | None] = deque()
        self._pending: list[bytes] = []
        self._pending_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's has its methods, but not its type

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self.silent = 0
        try:
            received = self._parser.feed(data)
        except ProtocolError as fault:
            self.drop(str(fault))
            return
        for message in received:
            if isinstance(message, Delivery):
                self._deliver(message)
            else:
                self._control(message)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self.why = self.why or (str(exc) if exc else "the server closed the connection")
        while self._pongs:
            if (waiting := self._pongs.popleft()) is not None and not waiting.done():
                waiting.set_exception(ConnectionLost(self.why))
        if not self.info.done():
            self.info.set_result(Info())
        self.lost.set_result(None)

    def send(self, data: bytes) -> None:
        """Send; what is sent in one turn of the loop is written together. Raises Disconnected, BufferFull."""
        transport = self.transport
        if transport is None or transport.is_closing():
            raise Disconnected(self.why or "not connected")
        if self._pending_bytes + transport.get_write_buffer_size() > self._pending_bytes_max:
            raise BufferFull(f"more than {self._pending_bytes_max} bytes wait to be sent")
        if not self._pending:
            self._loop.call_soon(self._write)
        self._pending.append(data)
        self._pending_bytes += len(data)

    def _write(self) -> None:
        pending, self._pending, self._pending_bytes = self._pending, [], 0
        if pending and self.transport is not None and not self.transport.is_closing():
            self.transport.write(pending[0] if len(pending) == 1 else b"".join(pending))

    def round_trip(self) -> "asyncio.Future[None]":
        """Send PING; done when the server has read everything sent before, or ConnectionLost."""
        self.send(protocol.PING)
        pong: asyncio.Future[None] = self._loop.create_future()
        self._pongs.append(pong)
        return pong

    def ping(self) -> None:
        """Send PING as a keep-alive: anything received resets `silent`."""
        self.silent += 1
        with suppress(Disconnected, BufferFull):
            self.send(protocol.PING)
            self._pongs.append(None)

    def accept_messages(self) -> None:
        """Deliver messages from now on: none was requested before the server accepted us, perhaps in clear text."""
        self._deliver = self._deliver_once_accepted

    def close(self) -> None:
        """End the connection once everything is sent; `lost` follows."""
        self._write()
        if self.transport is not None:
            self.transport.close()

    def drop(self, why: str) -> None:
        """End the connection at once; `lost` follows."""
        self.why = self.why or why
        if self.transport is not None and not self.lost.done():  # asyncio's cannot abort what it closed itself
            self.transport.abort()

    async def secure(self, context: ssl.SSLContext, host: str) -> None:
        """Switch to TLS. Raises OSError, TlsRefused; ConnectionLost if bytes follow INFO in clear text."""
        if not self._parser.empty or self.transport is None or self.transport.is_closing():
            raise ConnectionLost("the server sent data before TLS")
        try:
            self.transport = await self._loop.start_tls(self.transport, self, context, server_hostname=host)
        except ssl.SSLCertVerificationError as error:
            raise TlsRefused(error.verify_message or str(error)) from error

    def _too_early(self, _delivery: Delivery) -> None:
        self.drop("a message before the server accepted us")

    def _control(self, message: Info | Ping | Pong | ServerError) -> None:
        if isinstance(message, Ping):
            with suppress(Disconnected, BufferFull):
                self.send(protocol.PONG)
        elif isinstance(message, Pong):
            if self._pongs and (waiting := self._pongs.popleft()) is not None and not waiting.done():
                waiting.set_result(None)
        elif isinstance(message, ServerError):
            if not message.text.lower().startswith(_NOT_FATAL):
                self.why = message.text
            if not _is_refusal(message.text):  # that is raised
                self._report(message.text)
        else:
            self.max_payload = message.max_payload
            if not self.info.done():
                self.info.set_result(message)


async def connect(
    server: Server, create: Callable[[], Connection], *, name: str, context: ssl.SSLContext | None, connect_s: float
) -> Connection:
    """Connect to the first address of `server` that accepts us.

    Raises AccessRefused, TlsRefused, ConnectionLost, OSError, TimeoutError.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(connect_s):
        found = await loop.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
    secrets.SystemRandom().shuffle(addresses)  # one name may stand for all servers of a cluster
    fault: Exception = ConnectionLost(f"{server} has no address")
    for address in addresses:
        made: Connection | None = None
        try:
            async with asyncio.timeout(connect_s):
                _, made = await loop.create_connection(create, address, server.port)
                await _greet(made, server, name, context)
        except AccessRefused:
            raise
        except (NatsClientError, OSError, TimeoutError) as failed:
            fault = failed
        else:
            made.accept_messages()
            ready, made = made, None
            return ready
        finally:
            if made is not None:
                made.drop("not accepted")
    raise fault


def _is_refusal(text: str) -> bool:
    return any(word in text.lower() for word in _REFUSED)


async def _greet(connection: Connection, server: Server, name: str, context: ssl.SSLContext | None) -> None:
    info = await connection.info
    if connection.lost.done():
        raise ConnectionLost(connection.why)
    if server.secure and not (info.tls_required or info.tls_available):
        raise TlsRefused("the server speaks no TLS")
    if server.secure or info.tls_required:
        await connection.secure(context or ssl.create_default_context(), server.host)
    options = {
        "verbose": False,
        "pedantic": False,
        "lang": _LANG,
        "version": "1",
        "protocol": 1,
        "headers": True,
        "no_responders": True,
        "tls_required": server.secure,
        "name": name,
    }
    if server.user:
        options |= {"user": server.user, "pass": server.password}
    connection.send(protocol.connect(options))
    try:
        await connection.round_trip()
    except ConnectionLost as lost:
        if _is_refusal(str(lost)):
            raise AccessRefused(str(lost)) from lost
        raise
