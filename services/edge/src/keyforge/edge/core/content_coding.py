"""Decodes bodies that are sent compressed, step by step, so that a bomb takes neither memory nor time.

gzip (also under its old name `x-gzip`), deflate, br and zstd: requests of agents, and answers of providers that
compress though nobody asked. Sans I/O; the caller takes the steps and holds them to a bound.
"""

import sys
import zlib
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Protocol

import brotli  # type: ignore[import-untyped]

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

STEP_BYTES: Final = 64 * 1024
"""Decoded at once. Precedent: as much as an exchange buffers (`exchange.BUFFERED_BYTES_MAX`)."""
MEMBERS_MAX: Final = 1024
"""Of a body that consists of several: each begins another decoder. Measured: 5 us for one of no content, so 5 ms.
Precedent: bgzip, which makes the smallest known, has one in 64 KiB."""
ZSTD_WINDOW_LOG_MAX: Final = 23
"""What a decoder of zstd may be made to hold: 8 MiB, the standard's bound for HTTP (RFC 9659 section 3)."""
_RAW: Final = -zlib.MAX_WBITS
_GZIP: Final = zlib.MAX_WBITS + 16
_BROTLI_STEP_BYTES: Final = 16 * 1024
"""What brotli is asked for at once. It returns whole buffers of its own, of which the first has just under 32 KiB and
the next 64: with this it stops after the first. It holds 16 MiB at most, the largest window (RFC 7932)."""
DecodingError: Final = (zlib.error, zstd.ZstdError, brotli.error, EOFError)


class _Decompressor(Protocol):
    """One member of a body: the standard library's interface for decompressing within a bound."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class Coding(NamedTuple):
    """`begin` makes what decodes a member from its first bytes on, `header_bytes` at least; no member has fewer.
    `members`: another one may follow."""

    begin: Callable[[bytes], _Decompressor]
    members: bool
    header_bytes: int = 2


def _gzip(_first: bytes) -> _Decompressor:
    return zlib.decompressobj(_GZIP)


def _deflate(first: bytes) -> _Decompressor:
    """Deflate is zlib's format (RFC 9110 section 8.4.1.2); some send it without the header, as the RFC notes."""
    with_header = first[0] & 0x0F == zlib.DEFLATED and int.from_bytes(first[:2], "big") % 31 == 0
    return zlib.decompressobj(zlib.MAX_WBITS if with_header else _RAW)


def _zstd(_first: bytes) -> _Decompressor:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG_MAX})


class _Brotli:
    """brotli's decoder with the interface of the others. It takes no input while it has output. `held`: it may have
    more than it gave."""

    __slots__ = ("_decoder", "held", "unconsumed_tail")

    unused_data = b""
    """What follows the end fails."""

    def __init__(self) -> None:
        self._decoder = brotli.Decompressor()
        self.held = False
        self.unconsumed_tail = b""

    @property
    def eof(self) -> bool:
        """Whether the body has ended."""
        return bool(self._decoder.is_finished())

    def decompress(self, data: bytes, _max_length: int, /) -> bytes:
        """Return the next bytes, one buffer at most."""
        given = data if self._decoder.can_accept_more_data() else b""
        self.unconsumed_tail = data[len(given) :]
        decoded: bytes = self._decoder.process(given, output_buffer_limit=_BROTLI_STEP_BYTES)
        self.held = bool(decoded)
        return decoded


def _brotli(_first: bytes) -> _Decompressor:
    return _Brotli()


CODINGS: Final[Mapping[bytes, Coding]] = {
    b"gzip": Coding(_gzip, members=True),
    b"x-gzip": Coding(_gzip, members=True),
    b"deflate": Coding(_deflate, members=False),
    b"br": Coding(_brotli, members=False, header_bytes=1),
    b"zstd": Coding(_zstd, members=True),
}
"""By name, in lower case."""
ACCEPTED: Final = b"gzip, deflate, br, zstd"
"""What is decoded, as an `Accept-Encoding`."""


class BodyDecoder:
    """A body without I/O: `feed` takes what came, `take` returns the next step of what it means.

    Raises one of `DecodingError`. The input that it holds is what the last `feed` brought.
    """

    __slots__ = ("_coding", "_input", "_member", "_members", "_more", "_touched")

    def __init__(self, coding: Coding) -> None:
        self._coding = coding
        self._input = b""
        self._member: _Decompressor | None = None
        self._members = 0
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
                if len(self._input) < self._coding.header_bytes:
                    break
                self._members += 1
                if self._members > MEMBERS_MAX:
                    raise EOFError("too many members")
                member = self._member = self._coding.begin(self._input)
            decoded = member.decompress(self._input, STEP_BYTES)
            # zlib leaves what it did not come to, zstd keeps it; after the end both leave what follows.
            self._input = member.unused_data or getattr(member, "unconsumed_tail", b"")
            self._more = not member.eof and (len(decoded) == STEP_BYTES or getattr(member, "held", False))
            if decoded:
                return decoded
        return b""

    @property
    def whole(self) -> bool:
        """Whether the body may end here: all members have, or there is none, as where a head says what no body has."""
        return not self._touched or (self._member is not None and self._member.eof and not self._input)
