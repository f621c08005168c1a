"""Decodes the bodies that providers send compressed though nobody asked: step by step, so that a bomb takes no memory.

gzip (also under its old name `x-gzip`), deflate and zstd. A body is decoded when it is taken, at most `STEP_BYTES` at a
time, and all of it counts against the request's bound. Both implementations of `Upstream` use it.
"""

import sys
import zlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol, Self

from keyforge.edge.application.provider_call import UpstreamResponse
from keyforge.edge.application.provider_errors import UpstreamBodyTooLarge, UpstreamError, UpstreamMalformed

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

STEP_BYTES: Final = 64 * 1024
"""Decoded at once. Precedent: as much as an exchange buffers (`exchange.BUFFERED_BYTES_MAX`)."""
ZSTD_WINDOW_LOG_MAX: Final = 23
"""What a decoder of zstd may be made to hold: 8 MiB, the standard's bound for HTTP (RFC 9659 section 3)."""
_RAW: Final = -zlib.MAX_WBITS
_GZIP: Final = zlib.MAX_WBITS + 16
_HEADER_BYTES: Final = 2
"""As many decide which deflate it is; no member of any coding is so short."""
_NAMED: Final = frozenset((b"br", b"compress", b"dcb", b"dcz", b"exi", b"x-compress", b"aes128gcm"))
"""Codings of IANA's registry that are not decoded, and may be named in our log: a value that is none could be any
text."""
_OF_THE_BODY_SENT: Final = frozenset((b"content-encoding", b"content-length"))

DecodingError: Final = (zlib.error, zstd.ZstdError, EOFError)


class _Decompressor(Protocol):
    """One member of a body: the standard library's interface for decompressing within a bound."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Coding(NamedTuple):
    """`begin` makes what decodes a member from its first bytes on; `members`: another one may follow."""

    begin: Callable[[bytes], _Decompressor]
    members: bool


def _gzip(_first: bytes) -> _Decompressor:
    return zlib.decompressobj(_GZIP)


def _deflate(first: bytes) -> _Decompressor:
    """Deflate is zlib's format (RFC 9110 section 8.4.1.2); some send it without the header, as the RFC notes."""
    with_header = first[0] & 0x0F == zlib.DEFLATED and int.from_bytes(first[:2], "big") % 31 == 0
    return zlib.decompressobj(zlib.MAX_WBITS if with_header else _RAW)


def _zstd(_first: bytes) -> _Decompressor:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG_MAX})


_CODINGS: Final[Mapping[bytes, _Coding]] = {
    b"gzip": _Coding(_gzip, members=True),
    b"x-gzip": _Coding(_gzip, members=True),
    b"deflate": _Coding(_deflate, members=False),
    b"zstd": _Coding(_zstd, members=True),
}


class BodyDecoder:
    """A body without I/O: `feed` takes what came, `take` returns the next step of what it means.

    Raises one of `DecodingError`. The input that it holds is what the last `feed` brought.
    """

    __slots__ = ("_coding", "_input", "_member", "_more", "_touched")

    def __init__(self, coding: _Coding) -> None:
        self._coding = coding
        self._input = b""
        self._member: _Decompressor | None = None
        self._more = self._touched = False

    def feed(self, data: bytes) -> None:
        """Take a piece; only once `take` has returned nothing."""
        self._touched = True
        self._input += data

    def take(self) -> bytes:
        """Return the next bytes, `STEP_BYTES` at most; nothing: it needs another piece."""
        while self._input or self._more:
            member = self._member
            if member is None or member.eof:
                if member is not None and not self._coding.members:
                    raise EOFError("bytes after the end")
                if len(self._input) < _HEADER_BYTES:
                    break
                member = self._member = self._coding.begin(self._input)
            decoded = member.decompress(self._input, STEP_BYTES)
            # zlib leaves what it did not come to, zstd keeps it; after the end both leave what follows.
            self._input = member.unused_data or getattr(member, "unconsumed_tail", b"")
            self._more = len(decoded) == STEP_BYTES and not member.eof
            if decoded:
                return decoded
        return b""

    @property
    def whole(self) -> bool:
        """Whether the body may end here: all members have, or there is none, as where a head says what no body has."""
        return not self._touched or (self._member is not None and self._member.eof and not self._input)


class DecodedResponse:
    """`UpstreamResponse` over one whose body is encoded; its headers are those of the decoded body.

    An encoding that cannot be decoded fails the body, not the head: a status of 429 means the same without its words.
    """

    __slots__ = ("_answer", "_bytes_left", "_coding", "_decoder", "_error", "_pieces", "_report", "headers", "status")

    def __init__(self, answer: UpstreamResponse, coding: bytes, bytes_max: int, report: Callable[[str], None]) -> None:
        known = _CODINGS.get(coding)
        self.status = answer.status
        self.headers: Sequence[tuple[bytes, bytes]] = [
            (name, value) for name, value in answer.headers if name not in _OF_THE_BODY_SENT
        ]
        self._answer = answer
        self._pieces: AsyncIterator[bytes] = aiter(answer)
        self._bytes_left = bytes_max
        self._coding = coding.decode("ascii") if known or coding in _NAMED else "unknown"
        self._decoder = BodyDecoder(known) if known else None
        self._error: UpstreamError | None = None
        self._report = report

    def header(self, name: bytes) -> bytes | None:
        """See `UpstreamResponse`."""
        for known, value in self.headers:
            if known == name:
                return value
        return None

    async def read(self) -> bytes:
        """See `UpstreamResponse`."""
        return b"".join([piece async for piece in self])

    def abandon(self) -> None:
        """See `UpstreamResponse`."""
        self._answer.abandon()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._error is not None:
            raise self._error
        decoder = self._decoder
        if decoder is None:
            raise self._failed(UpstreamMalformed, f"the content encoding is {self._coding}, which is not decoded")
        while True:
            try:
                piece = decoder.take()
            except DecodingError as error:
                detail = f"a body that is not {self._coding}, though its head says so"
                raise self._failed(UpstreamMalformed, detail) from error
            if piece:
                self._bytes_left -= len(piece)
                if self._bytes_left < 0:
                    raise self._failed(UpstreamBodyTooLarge, f"a body over the bound, once decoded from {self._coding}")
                return piece
            try:
                decoder.feed(await anext(self._pieces))
            except StopAsyncIteration:
                if not decoder.whole:
                    raise self._failed(UpstreamMalformed, f"a {self._coding} body that ends early") from None
                raise

    def _failed(self, error: type[UpstreamError], detail: str) -> UpstreamError:
        self._answer.abandon()
        self._report(detail)
        self._error = error(detail, sent=True, status=self.status)
        return self._error
