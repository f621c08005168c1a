"""The port to providers: one request goes out, one answer or one `UpstreamError` comes back.

An implementation follows no redirect, keeps no cookie, reads no proxy from the environment and never sends a request
twice: its caller may, where an error is `unread`. It asks for bodies as they are, and decodes those that are
encoded all the same. Two pass the same conformance tests: `outbound.provider_http` (our own HTTP/1.1 client) and one
on httpx in the tests.
"""

import re
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final, Literal, Protocol, Self

import msgspec

from keyforge.edge.core.routing.origin import Origin

_HEADER_NAME: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_HEADER_VALUE: Final = re.compile(rb"[\t -~\x80-\xff]{0,8192}")
_OWN_HEADERS: Final = frozenset(
    (
        b"accept-encoding",
        b"connection",
        b"content-length",
        b"expect",
        b"host",
        b"keep-alive",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)


class HeaderBlock(msgspec.Struct, frozen=True):
    """Header lines, checked once so that one block can serve many requests. Holds credentials: never shown."""

    pairs: tuple[tuple[bytes, bytes], ...] = ()
    raw: bytes = b""

    @classmethod
    def of(cls, pairs: Iterable[tuple[bytes, bytes]]) -> Self:
        """Check and encode. Raises ValueError for what would break the framing or is the client's own to write."""
        checked = tuple(pairs)
        for name, value in checked:
            if not _HEADER_NAME.fullmatch(name) or name.lower() in _OWN_HEADERS:
                raise ValueError("a header name that may not be sent")
            if not _HEADER_VALUE.fullmatch(value):
                raise ValueError("a header value that may not be sent")
        return cls(checked, b"".join(b"%s: %s\r\n" % pair for pair in checked))

    def __repr__(self) -> str:
        return f"HeaderBlock({len(self.pairs)} lines)"


class TimeLimits(msgspec.Struct, frozen=True):
    """How long to wait for each step. The total is the request's own deadline."""

    connect_s: float = 5.0
    first_byte_s: float = 120.0
    idle_s: float = 60.0

    def at_least(self, silence_s: float) -> "TimeLimits":
        """Return limits that let a provider be silent for as long as this, before its answer and within it."""
        if silence_s <= self.first_byte_s and silence_s <= self.idle_s:
            return self
        return TimeLimits(self.connect_s, max(self.first_byte_s, silence_s), max(self.idle_s, silence_s))


DEFAULT_TIME_LIMITS: Final = TimeLimits()
AFTER_END_S: Final = 1.0
"""How long it is waited for what comes after a stream has said that it ends, or after an error in it: of that only a
usage counts, and some providers keep the connection open. Chosen: halved, a usage in a packet of its own is missed
where the network is slow; doubled, an agent waits longer for the end of an answer that it has."""
BODY_BYTES_MAX: Final = 16 * 1024 * 1024
"""Of an answer that is held in memory: doubled, each request may hold twice as much."""


class UpstreamRequest(msgspec.Struct, frozen=True):
    """One request. `deadline` is on the clock of the implementation, for all of it; `target` starts with a slash.

    `fresh`: on a connection that has served nothing before. `body_bytes_max` is of the body as it is read, decoded.
    """

    origin: Origin
    target: str
    headers: HeaderBlock
    body: bytes
    deadline: float
    method: Literal["POST", "GET"] = "POST"
    limits: TimeLimits = DEFAULT_TIME_LIMITS
    body_bytes_max: int = BODY_BYTES_MAX
    fresh: bool = False

    def __repr__(self) -> str:
        return f"UpstreamRequest({self.method} {self.origin.authority}, {len(self.body)} bytes)"


class UpstreamResponse(Protocol):
    """An answer whose head has come. Take the body once: whole with `read`, or in pieces with `async for`.

    Either raises `UpstreamError`. An answer that is not taken to its end must be abandoned.
    """

    @property
    def status(self) -> int:
        """The provider's status: 200-299 or 400-599."""
        ...

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """Header lines in order, names in lower case."""
        ...

    def header(self, name: bytes) -> bytes | None:
        """Return the first value of a header; `name` in lower case."""
        ...

    async def read(self) -> bytes:
        """Return the whole body."""
        ...

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes; no piece is empty. The upstream is held back while pieces are not taken, and one
        may stop between two pieces and go on later with another `async for`."""
        ...

    def abandon(self) -> None:
        """Give the rest up: the connection is dropped at once. Nothing if the answer is complete."""
        ...


class Upstream(Protocol):
    """Sends requests to providers."""

    async def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """Write the request once and return when the answer's head has come. Raises `UpstreamError`; if cancelled, the
        connection is dropped."""
        ...
