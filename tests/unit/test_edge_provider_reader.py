"""The reader of answers: the same result however the bytes are cut, a named outcome for everything else."""

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyforge.edge.application.provider_errors import (
    UpstreamBodyTooLarge,
    UpstreamCut,
    UpstreamHeaderTooLarge,
    UpstreamMalformed,
    UpstreamRedirect,
)
from keyforge.edge.outbound.provider_http.reader import HEAD_BYTES_MAX, HEADERS_MAX, SILENT_BYTES_MAX, ResponseReader

OK = b"HTTP/1.1 200 OK\r\n"
BODY_BYTES_MAX = 1000


def read(data: bytes, cuts: tuple[int, ...] = (), *, ended: bool = False) -> ResponseReader:
    reader = ResponseReader()
    reader.begin(BODY_BYTES_MAX)
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in pairwise(edges):
        reader.feed(data[start:end])
    if ended:
        reader.end()
    return reader


def outcome(reader: ResponseReader) -> tuple[Any, ...]:
    kind = reader.fault.error if reader.fault else None
    return reader.status, reader.headers, b"".join(reader.pieces), reader.complete, reader.reusable, kind


VALID = [
    pytest.param(OK + b"content-length: 3\r\n\r\nabc", (200, b"abc", True), id="length"),
    pytest.param(OK + b"Content-Length: 0\r\nX: y\r\n\r\n", (200, b"", True), id="empty"),
    pytest.param(
        OK + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", (200, b"abc", True), id="chunked"
    ),
    pytest.param(
        OK + b"Transfer-Encoding: Chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\ntrailer: x\r\n\r\n",
        (200, b"abc", True),
        id="trailer",
    ),
    pytest.param(OK + b"connection: close\r\ncontent-length: 3\r\n\r\nabc", (200, b"abc", False), id="close"),
    pytest.param(b"HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nabc", (200, b"abc", False), id="HTTP/1.0"),
    pytest.param(b"HTTP/1.1 429 Too Many\r\ncontent-length: 1\r\n\r\nx", (429, b"x", True), id="429"),
    pytest.param(b"HTTP/1.1 204 No\r\n\r\n", (204, b"", True), id="no content"),
    pytest.param(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nlink: x\r\n\r\n" + OK + b"content-length: 1\r\n\r\nx",
        (200, b"x", True),
        id="informational",
    ),
    pytest.param(OK + b"content-encoding: identity\r\ncontent-length: 1\r\n\r\nx", (200, b"x", True), id="identity"),
]
cuts = st.lists(st.integers(0, 10_000), max_size=20).map(tuple)


@pytest.mark.parametrize(("data", "expected"), VALID)
def test_answers(data: bytes, expected: tuple[int, bytes, bool]) -> None:
    reader = read(data)
    assert reader.fault is None
    assert reader.complete
    assert (reader.status, b"".join(reader.pieces), reader.reusable) == expected
    assert read(data, ended=True).fault is None


@pytest.mark.parametrize("data", [param.values[0] for param in VALID])
@given(at=cuts)
def test_an_answer_is_the_same_however_it_is_cut(data: bytes, at: tuple[int, ...]) -> None:
    assert outcome(read(data, at)) == outcome(read(data))


@pytest.mark.parametrize("data", [param.values[0] for param in VALID])
@given(at=st.integers(0, 10_000))
def test_an_answer_that_ends_early_is_cut(data: bytes, at: int) -> None:
    reader = read(data[: at % len(data)], ended=True)
    assert not reader.complete
    assert reader.fault is not None
    assert reader.fault.error is UpstreamCut


def test_an_answer_may_end_with_its_connection() -> None:
    data = OK + b"content-type: text/plain\r\n\r\nabc"
    assert not read(data).complete
    reader = read(data, ended=True)
    assert outcome(reader) == (200, [(b"content-type", b"text/plain")], b"abc", True, False, None)


@pytest.mark.parametrize(
    "extra", [b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nz", b"garbage", b"HTTP/1.1 500 No\r\n", b"\x00"]
)
def test_bytes_after_an_answer_spoil_the_connection_not_the_answer(extra: bytes) -> None:
    reader = read(OK + b"content-length: 3\r\n\r\nabc" + extra)
    assert outcome(reader) == (200, [(b"content-length", b"3")], b"abc", True, False, None)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        pytest.param(OK + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", UpstreamMalformed, id="both"),
        pytest.param(
            OK + b"transfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n", UpstreamMalformed, id="both again"
        ),
        pytest.param(OK + b"content-length: 1\r\ncontent-length: 1\r\n\r\nx", UpstreamMalformed, id="two lengths"),
        pytest.param(OK + b"content-length: 1, 1\r\n\r\nx", UpstreamMalformed, id="length list"),
        pytest.param(OK + b"content-length: -1\r\n\r\nx", UpstreamMalformed, id="negative"),
        pytest.param(OK + b"content-length: +1\r\n\r\nx", UpstreamMalformed, id="plus"),
        pytest.param(OK + b"content-length: 0x1\r\n\r\nx", UpstreamMalformed, id="hex"),
        pytest.param(OK + b"content-length: \r\n\r\nx", UpstreamMalformed, id="empty length"),
        pytest.param(OK + b"content-length: 9999999999999999999999\r\n\r\n", UpstreamMalformed, id="absurd"),
        pytest.param(OK + b"content-length: 1001\r\n\r\n", UpstreamBodyTooLarge, id="length over the bound"),
        pytest.param(
            OK + b"transfer-encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1001,
            UpstreamBodyTooLarge,
            id="chunks over the bound",
        ),
        pytest.param(OK + b"\r\n" + b"x" * 1001, UpstreamBodyTooLarge, id="no end over the bound"),
        pytest.param(OK + b"transfer-encoding: gzip, chunked\r\n\r\n", UpstreamMalformed, id="coding"),
        pytest.param(OK + b"transfer-encoding: chunked, gzip\r\n\r\n", UpstreamMalformed, id="coding last"),
        pytest.param(
            OK + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
            UpstreamMalformed,
            id="twice chunked",
        ),
        pytest.param(
            b"HTTP/1.1 101 Switch\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", UpstreamMalformed, id="upgrade"
        ),
        pytest.param(b"HTTP/1.1 302 Found\r\nlocation: /\r\n\r\n", UpstreamRedirect, id="redirect"),
        pytest.param(b"HTTP/1.1 304 Same\r\n\r\n", UpstreamRedirect, id="not modified"),
        pytest.param(b"HTTP/1.1 600 Odd\r\n\r\n", UpstreamMalformed, id="status 600"),
        pytest.param(b"HTTP/1.1 099 Odd\r\n\r\n", UpstreamMalformed, id="status 099"),
        pytest.param(b"HTTP/1.1 100 Go\r\n\r\n" * 9, UpstreamMalformed, id="informational without end"),
        pytest.param(OK + b"x: y\r\n" * (HEADERS_MAX + 1) + b"\r\n", UpstreamHeaderTooLarge, id="many headers"),
        pytest.param(OK + b"x: " + b"y" * HEAD_BYTES_MAX, UpstreamHeaderTooLarge, id="head without end"),
        pytest.param(OK + b"x: " + b"y" * HEAD_BYTES_MAX + b"\r\n\r\n", UpstreamHeaderTooLarge, id="huge header"),
        pytest.param(b"HTTP/1.1 200 " + b"y" * HEAD_BYTES_MAX, UpstreamHeaderTooLarge, id="huge reason"),
        pytest.param(OK + b"x : y\r\n\r\n", UpstreamMalformed, id="space before colon"),
        pytest.param(OK + b"x: y\r\n z\r\n\r\n", UpstreamMalformed, id="folded"),
        pytest.param(OK + b"x: y\nz: 1\r\n\r\n", UpstreamMalformed, id="bare LF"),
        pytest.param(OK + b"x: a\x00b\r\n\r\n", UpstreamMalformed, id="NUL"),
        pytest.param(b"SSH-2.0-x\r\n", UpstreamMalformed, id="another protocol"),
        pytest.param(b"\x16\x03\x01\x02\x00", UpstreamMalformed, id="TLS"),
        pytest.param(OK + b"transfer-encoding: chunked\r\n\r\nzz\r\n", UpstreamMalformed, id="chunk size"),
        pytest.param(OK + b"transfer-encoding: chunked\r\n\r\n1\r\nabc", UpstreamMalformed, id="chunk too long"),
    ],
)
def test_what_is_no_answer_is_named(data: bytes, error: type) -> None:
    for step in (len(data), 7, 1):
        reader = ResponseReader()
        reader.begin(BODY_BYTES_MAX)
        for start in range(0, len(data), step):
            reader.feed(data[start : start + step])
        assert not reader.complete
        assert reader.fault is not None
        assert reader.fault.error is error


@pytest.mark.parametrize("framing", [b"1;" + b"x" * 2 * SILENT_BYTES_MAX, b"0\r\n" + b"x: y\r\n" * SILENT_BYTES_MAX])
@pytest.mark.parametrize("step", [1, 1000, SILENT_BYTES_MAX])
def test_framing_without_a_body_is_bounded(framing: bytes, step: int) -> None:
    reader = read(OK + b"transfer-encoding: chunked\r\n\r\n")
    for start in range(0, len(framing), step):
        reader.feed(framing[start : start + step])
    assert reader.fault is not None
    assert reader.fault.error is UpstreamMalformed


def test_one_reader_reads_answer_after_answer() -> None:
    reader = ResponseReader()
    for text in (b"a", b"bc", b""):
        reader.begin(BODY_BYTES_MAX)
        reader.feed(OK + b"content-length: %d\r\n\r\n%s" % (len(text), text))
        assert (b"".join(reader.pieces), reader.complete, reader.reusable) == (text, True, True)


@pytest.mark.parametrize(
    ("line", "coding", "keep_s"),
    [
        pytest.param(b"x: y", b"", math.inf, id="neither"),
        pytest.param(b"Content-Encoding: GZIP", b"gzip", math.inf, id="in capitals"),
        pytest.param(b"content-encoding: identity", b"", math.inf, id="as it is"),
        pytest.param(b"content-encoding: identity\r\ncontent-encoding: gzip", b"gzip", math.inf, id="as it is, zipped"),
        pytest.param(b"content-encoding: gzip\r\ncontent-encoding: br", b"gzip, br", math.inf, id="two lines"),
        pytest.param(b"content-encoding: gzip, br", b"gzip, br", math.inf, id="two in a line"),
        pytest.param(b"keep-alive: timeout=5", b"", 4.0, id="Node, uvicorn behind a proxy"),
        pytest.param(b"Keep-Alive: timeout=5, max=100", b"", 4.0, id="Apache"),
        pytest.param(b"Keep-Alive: max=99;timeout=60", b"", 59.0, id="with a semicolon"),
        pytest.param(b'keep-alive: Timeout="30"', b"", 29.0, id="quoted"),
        pytest.param(b"keep-alive: timeout=1", b"", 0.5, id="shorter than twice the margin"),
        pytest.param(b"keep-alive: timeout=0", b"", 0.0, id="at once"),
        pytest.param(b"keep-alive: timeout=%s" % (b"9" * 5000), b"", math.inf, id="absurd"),
        pytest.param(b"keep-alive: idletimeout=3", b"", math.inf, id="another word"),
        pytest.param(b"keep-alive: timeout=-1", b"", math.inf, id="negative"),
    ],
)
def test_what_a_head_says_of_its_body_and_connection(line: bytes, coding: bytes, keep_s: float) -> None:
    reader = read(OK + line + b"\r\ncontent-length: 0\r\n\r\n")
    assert reader.fault is None
    assert reader.notes == (coding, keep_s)
    reader.begin(BODY_BYTES_MAX)
    reader.feed(OK + b"content-length: 0\r\n\r\n")
    assert reader.notes == (b"", math.inf)


lines = st.sampled_from(
    [
        OK, b"HTTP/1.1 100 C\r\n", b"content-length: 3\r\n", b"transfer-encoding: chunked\r\n",
        b"connection: close\r\n",
        b"\r\n", b"\n", b"3\r\nabc\r\n", b"0\r\n\r\n", b"abc", b"x: y\r\n", b"\x00", b"HTTP/1.1 304 S\r\n",
    ]
)  # fmt: skip


@given(st.lists(lines | st.binary(max_size=6), max_size=14), cuts)
def test_garbage_has_a_named_outcome(parts: list[bytes], at: tuple[int, ...]) -> None:
    data = b"".join(parts)
    reader = read(data, at, ended=True)
    assert reader.complete != (reader.fault is not None)
    if reader.complete:
        assert 200 <= reader.status <= 599
    whole = read(data, ended=True)
    assert (whole.status, whole.complete, b"".join(whole.pieces)) == (
        reader.status,
        reader.complete,
        b"".join(reader.pieces),
    )
