"""The HTTP that every service speaks: bounded against who sends too much, and against who does not read."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from keyforge.runtime import closing, protocol
from keyforge.runtime.protocol import PIPELINED_MAX
from tests.integration.runtime_served import GET, Served, answer, refusal, serving, until


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as running:
        yield running


async def test_a_few_requests_in_a_row_wait_and_many_end_the_connection(served: Served) -> None:
    served.app.go.clear()
    async with served.connected() as (reader, writer):
        writer.write(GET * (PIPELINED_MAX + 1))
        await until(lambda: any(one.pipeline for one in served.connections))
        served.app.go.set()
        for _ in range(PIPELINED_MAX + 1):
            assert (await answer(reader))[0] == 200
        asked = len(served.app.asked)
        writer.write(GET * 5_000)
        for _ in range(PIPELINED_MAX + 1):
            assert (await answer(reader))[0] == 200
        assert await refusal(reader) == (400, "pipeline_too_long")
        assert len(served.app.asked) == asked + PIPELINED_MAX + 1
    assert not any(len(one.pipeline) > PIPELINED_MAX for one in served.connections)


CHUNKED = b"POST /%b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
GZIPPED = CHUNKED.replace(b"chunked", b"gzip, chunked")
WRONG: list[Any] = [
    pytest.param(b"\0\1garbage\r\n\r\n", 400, "http_invalid", id="no HTTP"),
    pytest.param(b"GET / HTTP/1.1\r\n\r\n", 400, "request_invalid", id="no host"),
    pytest.param(b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "http_invalid", id="a tunnel"),
    pytest.param(b"GET http://x:99999/ HTTP/1.1\r\nHost: x\r\n\r\n", 400, "http_invalid", id="no port"),
    pytest.param(CHUNKED % b"broken" + b"nonsense\r\n", 400, "http_invalid", id="chunks that are none"),
    pytest.param(GZIPPED % b"" + b"0\r\n\r\n", 501, "transfer_coding_unsupported", id="another coding"),
]


@pytest.mark.parametrize(("data", "status", "type_"), WRONG)
@pytest.mark.parametrize("before", [0, 1, 3])
async def test_what_is_no_request_is_answered_after_the_requests_before_it(
    served: Served, before: int, data: bytes, status: int, type_: str
) -> None:
    served.app.go.clear()
    async with served.connected() as (reader, writer):
        writer.write(GET * before + data)
        await until(lambda: len(served.app.asked) == min(before, 1) + (before == 0 and b"/broken" in data))
        writer.write(GET)  # is not read any more
        served.app.go.set()
        for _ in range(before):
            assert await answer(reader) == (200, b"")
        assert await refusal(reader) == (status, type_)
    assert [scope["path"] for scope in served.app.asked if scope["path"] == "/"] == ["/"] * before


async def test_what_follows_is_not_read_while_an_answer_is_due(served: Served) -> None:
    served.app.go.clear()
    async with served.connected() as (reader, writer):
        writer.write(GET + b"nonsense\r\n\r\n" + b"x" * 32_000_000)
        await until(lambda: len(served.app.asked) == 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(writer.drain(), 0.5)  # a server that reads takes 0.1 s for all of it
        served.app.go.set()
        assert (await answer(reader), await refusal(reader)) == ((200, b""), (400, "http_invalid"))


async def test_who_sends_a_large_body_after_a_head_that_is_refused_gets_the_answer(served: Served) -> None:
    """A connection that were closed at once would be reset while the body comes, and the answer with it."""
    async with served.connected() as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nContent-Length: 4000000\r\n\r\n")
        for _ in range(40):
            writer.write(b"x" * 100_000)
            await writer.drain()
            await asyncio.sleep(0.002)  # so that most of it comes after the answer
        assert await refusal(reader) == (400, "request_invalid")


async def test_who_does_not_close_after_a_refusal_is_left(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closing, "LINGER_S_MAX", 0.1)
    async with served.connected() as (reader, writer):
        writer.write(b"nonsense\r\n\r\n")
        assert await refusal(reader) == (400, "http_invalid")
        await until(lambda: not served.connections)


async def test_a_trailer_is_no_header(served: Served) -> None:
    async with served.connected() as (reader, writer):
        head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head + b"2\r\n{}\r\n0\r\nAuthorization: Bearer x\r\n\r\n")
        assert await answer(reader) == (200, b"{}")
    assert b"authorization" not in dict(served.app.asked[0]["headers"])


@pytest.mark.parametrize("together", [True, False])
async def test_a_request_that_offers_an_upgrade_keeps_its_body(served: Served, together: bool) -> None:
    head = (
        b"POST /x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: A\r\n"
    )
    body = GET  # so that it would be a request if it were taken for one
    async with served.connected() as (reader, writer):
        for _ in range(2):
            writer.write(head + b"Content-Length: %d\r\n\r\n" % len(body))
            if not together:
                await writer.drain()
                await asyncio.sleep(0.02)  # so that the body travels apart
            writer.write(body + GET)
            assert await answer(reader) == (200, body)
            assert await answer(reader) == (200, b"")
    assert [scope["path"] for scope in served.app.asked] == ["/x", "/"] * 2


async def test_nobody_gets_a_tunnel(served: Served) -> None:
    async with served.connected() as (reader, writer):
        writer.write(b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n" + GET)
        assert (await answer(reader))[0] == 400
    assert served.app.asked == []


async def test_the_head_behind_a_large_body_is_not_counted_with_it(served: Served) -> None:
    body = b"x" * 60_000
    async with served.connected() as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body + GET[:10])
        assert await answer(reader) == (200, body)
        writer.write(GET[10:])
        assert await answer(reader) == (200, b"")


async def test_a_head_that_the_server_does_not_read_on_is_not_too_slow(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_S_MAX", 0.1)
    served.app.go.clear()
    async with served.connected() as (reader, writer):
        writer.write(GET + GET + GET[:10])
        await asyncio.sleep(0.3)  # longer than a head may take
        writer.write(GET[10:])
        served.app.go.set()
        for _ in range(3):
            assert (await answer(reader))[0] == 200


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"GET / HTTP/1.1\r\nX: " + b"a" * 700_000, id="a line without end"),
        pytest.param(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"a" * 700_000, id="an extension"),
    ],
)
async def test_what_does_not_end_is_not_kept(served: Served, data: bytes) -> None:
    async with served.connected() as (_, writer):
        await until(lambda: len(served.connections) == 1)
        writer.write(data)
        await until(lambda: not served.connections)


async def test_who_hangs_up_with_another_request_behind_is_noticed(served: Served) -> None:
    async with served.connected() as (_, writer):
        writer.write(GET.replace(b"/ ", b"/gone ") + GET)
        await until(lambda: any(one.pipeline for one in served.connections))
    await until(lambda: served.app.gone == 1)


async def test_who_does_not_read_is_left(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closing, "UNREAD_S_MAX", 0.2)
    served.app.answer = b"x" * 8_000_000
    async with served.connected(buffer_bytes=4096) as (_, writer):
        writer.write(GET)
        await until(lambda: len(served.app.asked) == 1)
        await until(lambda: not served.connections)


@pytest.mark.parametrize("sent", [GET.replace(b"Host", b"Connection: close\r\nHost"), GET + b"nonsense\r\n\r\n"])
async def test_who_reads_slowly_is_not(served: Served, monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(closing, "UNREAD_S_MAX", 0.2)
    monkeypatch.setattr(closing, "LINGER_S_MAX", 0.05)
    served.app.answer = b"x" * 8_000_000
    async with served.connected(buffer_bytes=65536) as (reader, writer):
        writer.write(sent)
        size = 0
        while piece := await reader.read(400_000):
            size += len(piece)
            if size % 3 == 0:
                await asyncio.sleep(0.005)  # slowly
    assert size > 8_000_000


async def test_a_connection_that_closes_is_left_where_its_end_is_not_read(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "UNREAD_S_MAX", 0.2)
    served.app.answer = b"x" * 50_000
    async with served.connected(buffer_bytes=4096) as (_, writer):
        for _ in range(400):  # until the kernel takes no more, and no answer is on its way
            writer.write(GET)
            await asyncio.sleep(0.002)  # one by one
        await until(lambda: not served.connections)
