"""One connection to a NATS server, from the dial to its end. `link.py` keeps one, and makes the next.

server: INFO ──▶ (TLS, if either side wants it) ──▶ us: CONNECT, PING ──▶ server: PONG ──▶ messages both ways
"""

import asyncio
import secrets
import socket
import ssl
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final, cast
from urllib.parse import unquote, urlsplit

import msgspec

from keyforge.eventlog.nats import protocol
from keyforge.eventlog.nats.errors import LinkDown, LinkError, LinkFull, LinkLost, LinkRefused
from keyforge.eventlog.nats.protocol import Delivery, Fault, Info, NotNats, Parser, Ping, Pong

PORT: Final = 4222
_LANG: Final = "python"
_REFUSED: Final = ("authorization violation", "authentication expired", "authentication revoked")
_GOES_ON: Final = "permissions violation"


class LinkBounds(msgspec.Struct, frozen=True):
    """How long and how much. A server that says nothing to `knocks_max` pings, `knock_s` apart, is given up."""

    connect_s: float = 2.0
    pause_s: float = 0.25
    """Between two dials, up to half as much again: a thousand links must not come back in one moment."""
    knock_s: float = 5.0
    knocks_max: int = 2
    waiting_bytes_max: int = 64 * 1024 * 1024
    close_s: float = 1.0
    """What was said and not yet sent has so long at the end."""


class Server(msgspec.Struct, frozen=True):
    """Where a server listens, and who we are there. `secure`: only over TLS."""

    host: str
    port: int = PORT
    secure: bool = False
    user: str = ""
    password: str = ""

    @classmethod
    def parse(cls, url: str, *, user: str = "", password: str = "") -> "Server":
        """`nats://` or `tls://host:port`, or without a scheme; a user in it counts more. Raises ValueError."""
        parts = urlsplit(url if "://" in url else f"nats://{url}")
        try:
            port = parts.port
        except ValueError:  # its text would show a part of a password with a / in it
            raise ValueError("not the address of a NATS server: its port is no number") from None
        if parts.scheme not in {"nats", "tls"} or not parts.hostname:
            raise ValueError(f"not the address of a NATS server: {parts.scheme}://{parts.hostname or ''}")
        if parts.username:
            user, password = unquote(parts.username), unquote(parts.password or "")
        return cls(parts.hostname, port or PORT, parts.scheme == "tls", user, password)

    def __str__(self) -> str:
        """The address; never who we are there."""
        return f"{self.host}:{self.port}"

    __repr__ = __str__


class Line(asyncio.Protocol):
    """What is said and heard on one connection. `lost` is done when it is gone, `why` says why, as far as is known."""

    def __init__(self, hear: Callable[[Delivery], None], tell: Callable[[str], None], waiting_bytes_max: int) -> None:
        loop = asyncio.get_running_loop()
        self.info: asyncio.Future[Info] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()
        self.why = ""
        self.max_payload = Info().max_payload
        self.silent = 0
        self.transport: asyncio.Transport | None = None
        self._loop = loop
        self._hear: Callable[[Delivery], None] = self._too_early
        self._hearer = hear
        self._tell = tell
        self._waiting_bytes_max = waiting_bytes_max
        self._parser = Parser()
        self._pongs: deque[asyncio.Future[None] | None] = deque()
        self._said: list[bytes] = []
        self._said_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one without saying so

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self.silent = 0
        try:
            heard = self._parser.feed(data)
        except NotNats as fault:
            self.drop(str(fault))
            return
        for said in heard:
            if isinstance(said, Delivery):
                self._hear(said)
            else:
                self._control(said)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self.why = self.why or (str(exc) if exc else "the server hung up")
        while self._pongs:
            if (waiting := self._pongs.popleft()) is not None and not waiting.done():
                waiting.set_exception(LinkLost(self.why))
        if not self.info.done():
            self.info.set_result(Info())
        self.lost.set_result(None)

    def say(self, data: bytes) -> None:
        """Say something; what is said in one turn of the loop goes out together. Raises LinkDown, LinkFull."""
        transport = self.transport
        if transport is None or transport.is_closing():
            raise LinkDown(self.why or "not connected")
        if self._said_bytes + transport.get_write_buffer_size() > self._waiting_bytes_max:
            raise LinkFull(f"more than {self._waiting_bytes_max} bytes wait to be sent")
        if not self._said:
            self._loop.call_soon(self._send)
        self._said.append(data)
        self._said_bytes += len(data)

    def _send(self) -> None:
        said, self._said, self._said_bytes = self._said, [], 0
        if said and self.transport is not None and not self.transport.is_closing():
            self.transport.write(said[0] if len(said) == 1 else b"".join(said))

    def ping(self) -> "asyncio.Future[None]":
        """Ping; done when the server has read all that was said before, LinkLost if the connection ends first."""
        self.say(protocol.PING)
        pong: asyncio.Future[None] = self._loop.create_future()
        self._pongs.append(pong)
        return pong

    def knock(self) -> None:
        """Ping, for the sake of being answered with anything at all: see `silent`."""
        self.silent += 1
        with suppress(LinkDown, LinkFull):
            self.say(protocol.PING)
            self._pongs.append(None)

    def let_in(self) -> None:
        """Hand messages over from now on: nobody was asked for one that came before, perhaps in the clear."""
        self._hear = self._hearer

    def close(self) -> None:
        """End the connection once all that was said is sent; `lost` follows."""
        self._send()
        if self.transport is not None:
            self.transport.close()

    def drop(self, why: str) -> None:
        """End the connection at once; `lost` follows."""
        self.why = self.why or why
        if self.transport is not None and not self.lost.done():  # asyncio's fails to abort what it closed itself
            self.transport.abort()

    async def secure(self, context: ssl.SSLContext, host: str) -> None:
        """Go on over TLS. Raises OSError, ssl.SSLError; LinkLost if something was said in the clear already."""
        if not self._parser.empty or self.transport is None or self.transport.is_closing():
            raise LinkLost("a server that speaks before TLS")
        self.transport = await self._loop.start_tls(self.transport, self, context, server_hostname=host)

    def _too_early(self, _delivery: Delivery) -> None:
        self.drop("a message before we were let in")

    def _control(self, said: Info | Ping | Pong | Fault) -> None:
        if isinstance(said, Ping):
            with suppress(LinkDown, LinkFull):
                self.say(protocol.PONG)
        elif isinstance(said, Pong):
            if self._pongs and (waiting := self._pongs.popleft()) is not None and not waiting.done():
                waiting.set_result(None)
        elif isinstance(said, Fault):
            if not said.text.lower().startswith(_GOES_ON):
                self.why = said.text
            self._tell(said.text)
        else:
            self.max_payload = said.max_payload
            if not self.info.done():
                self.info.set_result(said)


async def dial(
    server: Server, line: Callable[[], Line], *, name: str, context: ssl.SSLContext | None, connect_s: float
) -> Line:
    """Connect to the first address of `server` that lets us in. Raises LinkRefused, LinkLost, OSError, TimeoutError."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(connect_s):
        found = await loop.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
    secrets.SystemRandom().shuffle(addresses)  # one name may stand for all servers of a cluster
    fault: Exception = LinkLost(f"{server} has no address")
    for address in addresses:
        made: Line | None = None
        try:
            async with asyncio.timeout(connect_s):
                _, made = await loop.create_connection(line, address, server.port)
                await _greet(made, server, name, context)
        except LinkRefused:
            raise
        except (LinkError, OSError, TimeoutError) as failed:
            fault = failed
        else:
            made.let_in()
            ready, made = made, None
            return ready
        finally:
            if made is not None:
                made.drop("not let in")
    raise fault


async def _greet(line: Line, server: Server, name: str, context: ssl.SSLContext | None) -> None:
    info = await line.info
    if line.lost.done():
        raise LinkLost(line.why)
    if server.secure or info.tls_required:
        await line.secure(context or ssl.create_default_context(), server.host)
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
    line.say(protocol.connect(options))
    try:
        await line.ping()
    except LinkLost as lost:
        if any(word in str(lost).lower() for word in _REFUSED):
            raise LinkRefused(str(lost)) from lost
        raise
