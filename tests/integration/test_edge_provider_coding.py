"""Compressed answers that nobody asked for, over real sockets; both implementations of the seam."""

import time
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from keyforge.edge.application.provider_errors import UpstreamError
from keyforge.edge.outbound.provider_http.client import HttpUpstream
from tests.integration.edge_provider_origin import Step, answer, chunked, listening
from tests.integration.httpx_upstream import HttpxUpstream
from tests.integration.test_edge_provider_conformance import GZIP, PLAIN, ZIPPED, ask, pieces


@pytest.fixture(params=[HttpUpstream, HttpxUpstream])
async def upstream(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    made = request.param(time.monotonic)
    yield made
    await made.close()


@pytest.mark.parametrize("status", [b"200 OK", b"400 Bad", b"401 No", b"429 Slow", b"503 Busy"])
async def test_a_compressed_answer_that_nobody_asked_for_is_read(upstream: Any, status: bytes) -> None:
    async with listening([answer(ZIPPED, status, GZIP, b"retry-after: 7")]) as origin:
        for _ in range(2):
            response = await upstream.send(ask(origin))
            assert (response.status, response.header(b"retry-after")) == (int(status[:3]), b"7")
            assert await response.read() == PLAIN
        assert origin.connections == 1


async def test_a_compressed_stream_comes_piece_by_piece(upstream: Any) -> None:
    encoder, events = zlib.compressobj(wbits=zlib.MAX_WBITS + 16), [b"data: 1\n\n", b"data: 2\n\n"]
    parts = [encoder.compress(event) + encoder.flush(zlib.Z_SYNC_FLUSH) for event in events] + [encoder.flush()]
    head = chunked(end=False)[:-2] + GZIP + b"\r\n\r\n"
    steps: list[Step] = [head]
    for part in parts:
        steps += [b"%x\r\n%s\r\n" % (len(part), part), 0.1]
    async with listening([*steps, b"0\r\n\r\n"]) as origin:
        assert await pieces(await upstream.send(ask(origin))) == events


async def test_what_cannot_be_decoded_is_logged_now_and_then(capsys: Any) -> None:
    upstream = HttpUpstream(time.monotonic)
    async with listening([answer(b"{}", b"200 OK", b"content-encoding: compress")]) as origin:
        for _ in range(3):
            with pytest.raises(UpstreamError):
                await (await upstream.send(ask(origin))).read()
    await upstream.close()
    written = capsys.readouterr()
    assert (written.out + written.err).count("the content encoding is compress, which is not decoded") == 1
