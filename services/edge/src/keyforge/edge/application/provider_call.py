"""The seam between the edge and a provider: one request goes out, one answer or one `UpstreamError` comes back.

Two implementations pass the same conformance tests: `HttpUpstream` (our own HTTP/1.1 client, the fast one) and
`HttpxUpstream`. Neither follows a redirect, decodes a body, keeps a cookie, reads a proxy from the environment, or
sends a request twice.
"""

import re
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final, Literal, Protocol, Self
from urllib.parse import urlsplit

import msgspec

_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|[0-9a-fA-F:.]{2,45}")
_TARGET: Final = re.compile(r"/[!-~]{0,2047}")
_HEADER_NAME: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_HEADER_VALUE: Final = re.compile(rb"[\t -~\x80-\xff]{0,8192}")
_OWN_HEADERS: Final = frozenset(
    (
        b"accept-encoding", b"connection", b"content-length", b"expect", b"host", b"keep-alive", b"proxy-authorization",
        b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
    )
)  # fmt: skip


class Origin(msgspec.Struct, frozen=True, cache_hash=True):
    """Where a provider listens.

    `allow_insecure` permits plain http and private addresses; TLS, where spoken, is always verified.
    """

    scheme: Literal["https", "http"]
    host: str
    port: int
    allow_insecure: bool = False

    def __post_init__(self) -> None:
        if self.scheme not in ("https", "http") or not _HOST.fullmatch(self.host) or not 0 < self.port < 65536:
            raise ValueError("not an origin")
        if self.scheme == "http" and not self.allow_insecure:
            raise ValueError("an http origin needs allow_insecure")

    @property
    def authority(self) -> str:
        """What the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


_PORTS: Final = {"https": 443, "http": 80}


def parse_base_url(url: str, *, allow_insecure: bool = False) -> tuple[Origin, str]:
    """Split an operator's base URL into origin and path prefix (no slash at its end). Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("a base URL is scheme, host, port and path only")
    scheme: Literal["https", "http"] = "https" if parts.scheme == "https" else "http"
    prefix = parts.path.rstrip("/")
    check_target(prefix + "/")
    port = _PORTS[scheme] if parts.port is None else parts.port
    return Origin(scheme, parts.hostname, port, allow_insecure), prefix


def check_target(target: str) -> None:
    """Raise ValueError unless `target` is a path (with query) that can stand in a request line."""
    if not _TARGET.fullmatch(target):
        raise ValueError("not a request target")


class HeaderBlock(msgspec.Struct, frozen=True):
    """Header lines, checked once so that one block can serve many requests. Holds credentials: never shown."""

    pairs: tuple[tuple[bytes, bytes], ...] = ()
    raw: bytes = b""

    @classmethod
    def of(cls, pairs: Iterable[tuple[bytes, bytes]]) -> Self:
        """Check and encode. Raises ValueError for what would break the framing or is the client's own to say."""
        checked = tuple(pairs)
        for name, value in checked:
            if not _HEADER_NAME.fullmatch(name) or name.lower() in _OWN_HEADERS:
                raise ValueError("a header name that may not be sent")
            if not _HEADER_VALUE.fullmatch(value):
                raise ValueError("a header value that may not be sent")
        return cls(checked, b"".join(b"%s: %s\r\n" % pair for pair in checked))

    def plus(self, name: bytes, value: bytes) -> "HeaderBlock":
        """Return this block and one more line."""
        one = HeaderBlock.of(((name, value),))
        return HeaderBlock((*self.pairs, *one.pairs), self.raw + one.raw)

    def __repr__(self) -> str:
        return f"HeaderBlock({len(self.pairs)} lines)"


class TimeLimits(msgspec.Struct, frozen=True):
    """How long to wait for each step. The total is the request's own deadline."""

    connect_s: float = 5.0
    first_byte_s: float = 120.0
    idle_s: float = 60.0


DEFAULT_TIME_LIMITS: Final = TimeLimits()
BODY_BYTES_MAX: Final = 16 * 1024 * 1024


class UpstreamRequest(msgspec.Struct, frozen=True):
    """One request. `deadline` is `time.monotonic()` seconds, for all of it; `target` starts with a slash."""

    origin: Origin
    target: str
    headers: HeaderBlock
    body: bytes
    deadline: float
    method: Literal["POST", "GET"] = "POST"
    limits: TimeLimits = DEFAULT_TIME_LIMITS
    body_bytes_max: int = BODY_BYTES_MAX

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
