"""Bodies of requests that are compressed: read within the bound, however they are made; refused by what is wrong."""

import gzip
import time
import zlib
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyforge.contracts.errors import Problem
from keyforge.edge.application import request_body
from keyforge.edge.application.call import RequestHead
from keyforge.edge.core.content_coding import ACCEPTED, CODINGS
from tests.unit.compressed import Encode, br, raw_deflate, zstandard
from tests.unit.edge_twins import Agent

BOUND = 1 << 20
TEXT = b'{"model":"m","messages":[{"role":"user","content":"' + b"hello " * 1000 + b'"}]}'
ENCODED: list[Any] = [
    pytest.param(b"gzip", gzip.compress, id="gzip: httpx and requests with a hook, Go's and Java's clients"),
    pytest.param(b"GZip", gzip.compress, id="gzip in other letters"),
    pytest.param(b"x-gzip", gzip.compress, id="x-gzip"),
    pytest.param(b"deflate", zlib.compress, id="deflate"),
    pytest.param(b"deflate", raw_deflate, id="deflate without its header"),
    pytest.param(b"br", br, id="br: Node's zlib"),
    pytest.param(b"zstd", zstandard, id="zstd: codex, curl, Rust's clients"),
    pytest.param(b"identity", bytes, id="identity"),
    pytest.param(b"", bytes, id="nothing"),
]
COMPRESSED = ENCODED[:-2]


async def read(body: bytes, coding: bytes, bound: int = BOUND) -> bytes | Problem:
    agent = Agent(body)
    agent.head = RequestHead(b"vk", b"", len(body), expects=False, content_encoding=coding.lower())
    return await request_body.read_body(agent, bound, 1.0)


def problem_of(found: bytes | Problem) -> Problem:
    assert isinstance(found, Problem)
    return found


@pytest.mark.parametrize(("coding", "encode"), ENCODED)
async def test_a_body_is_read_as_it_was_meant(coding: bytes, encode: Encode) -> None:
    assert await read(encode(TEXT), coding) == TEXT


@pytest.mark.parametrize(("coding", "encode"), COMPRESSED)
@given(data=st.binary(max_size=400_000))
async def test_any_body_is(coding: bytes, encode: Encode, data: bytes) -> None:
    assert await read(encode(data), coding) == data


@pytest.mark.parametrize(("coding", "encode"), COMPRESSED)
@pytest.mark.parametrize(("size", "fits"), [(BOUND, True), (BOUND + 1, False)])
async def test_the_bound_is_on_what_it_means(coding: bytes, encode: Encode, size: int, fits: bool) -> None:
    found = await read(encode(bytes(size)), coding)
    if fits:
        assert found == bytes(size)
    else:
        wrong = problem_of(found)
        assert (wrong.kind.type, wrong.kind.status) == ("body_too_large", 413)
        assert wrong.metadata == {"body_bytes_max": BOUND}
        assert f"larger than {BOUND} bytes" in wrong.message


@cache
def bomb_of(encode: Encode) -> bytes:
    """Made once for codings of the same form: to make it takes a second of CPU."""
    return encode(bytes(256 << 20))


@pytest.mark.parametrize(("coding", "encode"), COMPRESSED)
async def test_a_bomb_is_decoded_no_further_than_the_bound(coding: bytes, encode: Encode) -> None:
    """256 MiB of zeros in well under one: decoding all of it would take ten times as long as this may."""
    bomb = bomb_of(encode)
    assert len(bomb) <= BOUND
    begun = time.process_time()
    assert problem_of(await read(bomb, coding)).kind.type == "body_too_large"
    assert time.process_time() - begun < 0.5


@pytest.mark.parametrize(
    "coding", [b"compress", b"exi", b"dcz", b"aes128gcm", b"gzip, gzip", b"gzip,br", b"utf-8", b"base64", b"\xff"]
)
async def test_an_unknown_coding_is_refused_with_those_that_are_known(coding: bytes) -> None:
    wrong = problem_of(await read(TEXT, coding))
    assert (wrong.kind.type, wrong.kind.status, wrong.param) == (
        "encoding_unsupported",
        415,
        "header.content-encoding",
    )
    assert request_body.headers_beside(wrong) == [(b"accept-encoding", ACCEPTED)]
    assert set(ACCEPTED.split(b", ")) == set(CODINGS) - {b"x-gzip"}


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        pytest.param(b"gzip", TEXT, id="not compressed"),
        pytest.param(b"gzip", b"", id="nothing"),
        pytest.param(b"gzip", gzip.compress(TEXT)[:-1], id="gzip, cut"),
        pytest.param(b"gzip", gzip.compress(TEXT)[:-8] + bytes(8), id="gzip, a wrong checksum"),
        pytest.param(b"gzip", gzip.compress(TEXT) + b"{}", id="gzip and more"),
        pytest.param(b"deflate", gzip.compress(TEXT), id="gzip as deflate"),
        pytest.param(b"deflate", zlib.compress(TEXT)[:-2], id="deflate, cut"),
        pytest.param(b"br", TEXT, id="not brotli"),
        pytest.param(b"br", br(TEXT)[:-1], id="brotli, cut"),
        pytest.param(b"br", br(TEXT) + b"{}", id="brotli and more"),
        pytest.param(b"zstd", zstandard(TEXT)[:-1], id="zstd, cut"),
        pytest.param(b"zstd", br(TEXT), id="brotli as zstd"),
        pytest.param(b"gzip", gzip.compress(b"", mtime=0) * 50_000, id="a million bytes of members without content"),
    ],
)
async def test_a_body_that_is_not_what_its_head_says_is_named(coding: bytes, body: bytes) -> None:
    begun = time.process_time()
    found = await read(body, coding)
    if found == b"":  # as short as a body can be
        assert body == b""
        return
    wrong = problem_of(found)
    assert (wrong.kind.type, wrong.kind.status, wrong.param) == ("encoding_invalid", 400, "header.content-encoding")
    assert request_body.headers_beside(wrong) == []
    assert time.process_time() - begun < 0.5


async def test_the_bound_is_on_what_is_sent_as_well() -> None:
    noise = gzip.compress(bytes(range(256)) * 40, compresslevel=0)
    assert problem_of(await read(noise, b"gzip", bound=len(noise) - 1)).kind.type == "body_too_large"
