"""Bodies that come compressed though nobody asked: the same however they are cut, bounded, and never half of one."""

import gzip
import sys
import zlib
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyforge.edge.application.provider_errors import (
    UpstreamBodyTooLarge,
    UpstreamCut,
    UpstreamError,
    UpstreamMalformed,
)
from keyforge.edge.core.content_coding import CODINGS, MEMBERS_MAX, STEP_BYTES, BodyDecoder, DecodingError
from keyforge.edge.outbound.provider_http.content_coding import DecodedResponse
from tests.unit.compressed import br, raw_deflate
from tests.unit.edge_twins import Response

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TEXT = b'{"error":{"message":"Rate limit reached","type":"requests","code":"rate_limit_exceeded"}}' * 20
BOUND = 1 << 20


def members(data: bytes) -> bytes:
    return gzip.compress(data[:100]) + gzip.compress(b"") + gzip.compress(data[100:])


ENCODED: list[Any] = [
    pytest.param(b"gzip", gzip.compress, id="gzip: Python's servers, nginx, Cloudflare"),
    pytest.param(b"x-gzip", gzip.compress, id="x-gzip: old proxies"),
    pytest.param(b"gzip", members, id="gzip in members: pigz, a stream flushed by the event"),
    pytest.param(b"deflate", zlib.compress, id="deflate as RFC 9110 has it"),
    pytest.param(b"deflate", raw_deflate, id="deflate without its header: old IIS"),
    pytest.param(b"br", br, id="br: Cloudflare, Vercel"),
    pytest.param(b"zstd", zstd.compress, id="zstd: Cloudflare, Caddy"),
    pytest.param(b"zstd", lambda data: zstd.compress(data[:9]) + zstd.compress(data[9:]), id="zstd in frames"),
]


async def read(coding: bytes, *pieces: bytes, status: int = 200, bound: int = BOUND, told: Any = None) -> bytes:
    report: Callable[[str], None] = told.append if told is not None else lambda _: None
    return await DecodedResponse(Response(status, *pieces), coding, bound, report).read()


def cut(data: bytes, at: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(one % (len(data) + 1) for one in at)})
    return [data[start:end] for start, end in pairwise(edges)]


@pytest.mark.parametrize(("coding", "encode"), ENCODED)
async def test_a_body_is_decoded_however_it_comes(coding: bytes, encode: Callable[[bytes], bytes]) -> None:
    body = encode(TEXT)
    assert await read(coding, body) == TEXT
    assert await read(coding, *[body[at : at + 1] for at in range(len(body))]) == TEXT


@pytest.mark.parametrize(("coding", "encode"), ENCODED)
@given(at=st.lists(st.integers(0, 10_000), max_size=12), data=st.binary(min_size=101, max_size=400))
def test_cuts_change_nothing(coding: bytes, encode: Callable[[bytes], bytes], at: list[int], data: bytes) -> None:
    decoder, found = BodyDecoder(CODINGS[coding]), b""
    for piece in cut(encode(data), at):
        decoder.feed(piece)
        while step := decoder.take():
            found += step
    assert (found, decoder.whole) == (data, True)


@pytest.mark.parametrize(("coding", "encode"), ENCODED)
async def test_a_body_that_ends_early_is_no_body(coding: bytes, encode: Callable[[bytes], bytes]) -> None:
    body = encode(TEXT)
    for end in (1, 2, 9, len(body) // 2, len(body) - 1):
        told: list[str] = []
        with pytest.raises(UpstreamMalformed) as caught:
            await read(coding, body[:end], status=429, told=told)
        assert (caught.value.sent, caught.value.status) == (True, 429)
        assert told == [f"a {coding.decode()} body that ends early"]


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        pytest.param(b"gzip", TEXT, id="not compressed at all"),
        pytest.param(b"gzip", gzip.compress(TEXT)[:-8] + bytes(8), id="a wrong checksum"),
        pytest.param(b"gzip", gzip.compress(TEXT) + b"rest of something", id="bytes after it"),
        pytest.param(b"deflate", zlib.compress(TEXT) + b"{}", id="bytes after deflate"),
        pytest.param(b"deflate", b"\xff" * 40, id="no deflate"),
        pytest.param(b"zstd", gzip.compress(TEXT), id="another coding"),
        pytest.param(b"br", gzip.compress(TEXT), id="no brotli"),
        pytest.param(b"br", br(TEXT) + b"{}", id="bytes after brotli"),
    ],
)
async def test_a_body_that_is_broken_is_named(coding: bytes, body: bytes) -> None:
    told: list[str] = []
    with pytest.raises(UpstreamMalformed):
        await read(coding, body, told=told)
    assert told == [f"a body that is not {coding.decode()}, though its head says so"]


@pytest.mark.parametrize("coding", [b"compress", b"dcz", b"exi", b"gzip, gzip", b"fixture-secret", b"\xff"])
async def test_a_coding_that_is_not_known_fails_the_body_and_not_the_head(coding: bytes) -> None:
    told: list[str] = []
    response = DecodedResponse(Response(429, b"whatever"), coding, BOUND, told.append)
    assert response.status == 429
    for _ in range(2):
        with pytest.raises(UpstreamMalformed):
            await response.read()
    name = coding.decode() if coding in (b"compress", b"dcz", b"exi") else "unknown"
    assert told == [f"the content encoding is {name}, which is not decoded"]


async def test_a_body_of_no_bytes_is_empty_whatever_its_head_says() -> None:
    assert await read(b"gzip") == b""


@pytest.mark.parametrize(("coding", "encode"), [(b"gzip", gzip.compress), (b"zstd", zstd.compress), (b"br", br)])
async def test_a_bomb_is_decoded_no_further_than_the_bound(coding: bytes, encode: Callable[[bytes], bytes]) -> None:
    bomb = encode(bytes(64 << 20))
    assert len(bomb) < 100_000
    sizes: list[int] = []
    answer = Response(200, bomb)
    response = DecodedResponse(answer, coding, BOUND, lambda _: None)

    async def take() -> None:
        while True:
            sizes.append(len(await anext(response)))

    with pytest.raises(UpstreamBodyTooLarge) as caught:
        await take()
    assert max(sizes) <= STEP_BYTES
    assert sum(sizes) <= BOUND
    assert answer.abandoned
    assert caught.value.sent


@pytest.mark.parametrize(
    ("coding", "encode"), [(b"gzip", gzip.compress), (b"x-gzip", gzip.compress), (b"zstd", zstd.compress)]
)
def test_a_body_has_so_many_members_at_most(coding: bytes, encode: Callable[[bytes], bytes]) -> None:
    """Each begins a decoder anew, for some 20 bytes and without any content that a bound on bytes would see."""
    decoder, empty = BodyDecoder(CODINGS[coding]), encode(b"")
    decoder.feed(empty * MEMBERS_MAX)
    assert (decoder.take(), decoder.whole) == (b"", True)
    decoder.feed(empty)
    with pytest.raises(DecodingError):
        decoder.take()


def test_an_empty_body_in_brotli_has_one_byte() -> None:
    decoder = BodyDecoder(CODINGS[b"br"])
    decoder.feed(br(b""))
    assert (decoder.take(), decoder.whole) == (b"", True)


async def test_a_wide_window_of_zstd_is_refused() -> None:
    wide = zstd.CompressionParameter
    options: dict[int, int] = {wide.window_log: 27, wide.content_size_flag: 0}
    encoder = zstd.ZstdCompressor(options=options)
    body = encoder.compress(b"x" * 1000) + encoder.flush()
    with pytest.raises(UpstreamMalformed):
        await read(b"zstd", body)


async def test_a_cut_connection_is_one_whatever_the_coding() -> None:
    body = gzip.compress(TEXT)
    answer = Response(200, body[:40], error=UpstreamCut("the connection ended", sent=True))
    with pytest.raises(UpstreamError) as caught:
        await DecodedResponse(answer, b"gzip", BOUND, lambda _: None).read()
    assert type(caught.value) is UpstreamCut


async def test_an_event_that_was_flushed_does_not_wait_for_the_next() -> None:
    encoder = zlib.compressobj(wbits=zlib.MAX_WBITS + 16)
    events = [b"data: %d\n\n" % number for number in range(3)]
    pieces = [encoder.compress(event) + encoder.flush(zlib.Z_SYNC_FLUSH) for event in events] + [encoder.flush()]
    found = [one async for one in DecodedResponse(Response(200, *pieces), b"gzip", BOUND, lambda _: None)]
    assert found == events


async def test_headers_are_those_of_the_decoded_body() -> None:
    answer = Response(429, gzip.compress(b"{}"))
    answer.headers = [(b"content-encoding", b"gzip"), (b"content-length", b"22"), (b"retry-after", b"7")]
    response = DecodedResponse(answer, b"gzip", BOUND, lambda _: None)
    assert response.headers == [(b"retry-after", b"7")]
    assert (response.header(b"retry-after"), response.header(b"content-encoding")) == (b"7", None)
    response.abandon()
    assert answer.abandoned
