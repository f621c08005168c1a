"""Encoders of bodies: each coding that is decoded, as the senders that are known make it."""

import gzip
import sys
import zlib
from collections.abc import Callable
from typing import Final

import brotli  # type: ignore[import-untyped]

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Encode = Callable[[bytes], bytes]


def raw_deflate(data: bytes) -> bytes:
    encoder = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return encoder.compress(data) + encoder.flush()


def br(data: bytes) -> bytes:
    encoded: bytes = brotli.compress(data, quality=1)
    return encoded


def zstandard(data: bytes) -> bytes:
    return zstd.compress(data)


def stored(data: bytes) -> bytes:
    """gzip that saves nothing."""
    return gzip.compress(data, compresslevel=0)


BY_NAME: Final[dict[str, Encode]] = {"gzip": gzip.compress, "deflate": zlib.compress, "br": br, "zstd": zstandard}
