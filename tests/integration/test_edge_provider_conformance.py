"""One suite for both implementations of the upstream seam, over real sockets: answers, and every way to fail."""

import asyncio
import gzip
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from keyforge.edge.application.provider_call import HeaderBlock, TimeLimits, UpstreamRequest, UpstreamResponse
from keyforge.edge.application.provider_errors import (
    UpstreamAddressForbidden,
    UpstreamBodyTooLarge,
    UpstreamCut,
    UpstreamError,
    UpstreamHeaderTooLarge,
    UpstreamMalformed,
    UpstreamRedirect,
    UpstreamRefused,
    UpstreamTimeout,
)
from keyforge.edge.core.routing.origin import Origin
from keyforge.edge.outbound.provider_http.client import HttpUpstream
from tests.integration.edge_provider_origin import CLOSE, HANG, RESET, RawOrigin, Step, answer, chunked, listening
from tests.integration.httpx_upstream import HttpxUpstream
from tests.pace import within

HEADERS = HeaderBlock.of([(b"authorization", b"Bearer fixture-secret"), (b"content-type", b"application/json")])
LIMITS = TimeLimits(connect_s=2.0, first_byte_s=2.0, idle_s=2.0)


@pytest.fixture(params=[HttpUpstream, HttpxUpstream])
async def upstream(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    made = request.param(time.monotonic)
    yield made
    await made.close()


def ask(origin: RawOrigin | int, **more: Any) -> UpstreamRequest:
    port = origin if isinstance(origin, int) else origin.port
    fields: dict[str, Any] = {"deadline": time.monotonic() + 60, "limits": LIMITS, **more}
    return UpstreamRequest(
        Origin("http", "127.0.0.1", port, allow_insecure=True), "/v1/chat/completions", HEADERS, b'{"a":1}', **fields
    )


async def pieces(response: UpstreamResponse) -> list[bytes]:
    return [piece async for piece in response]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  # what is waited for happens at the other end of a socket
            await asyncio.sleep(0.01)


async def test_a_request_is_written_as_it_was_given(upstream: Any) -> None:
    async with listening([answer(b'{"ok":true}')]) as origin:
        response = await upstream.send(ask(origin))
        assert (response.status, await response.read()) == (200, b'{"ok":true}')
        assert response.header(b"content-type") == b"application/json"
        assert response.header(b"x-none") is None
        (request,) = origin.requests
        head, _, body = request.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        assert first == b"POST /v1/chat/completions HTTP/1.1"
        assert body == b'{"a":1}'
        assert {line.lower() for line in lines} == {
            b"host: 127.0.0.1:%d" % origin.port,
            b"accept-encoding: identity",
            b"authorization: bearer fixture-secret",
            b"content-type: application/json",
            b"content-length: 7",
        }


async def test_connections_are_kept_and_used_again(upstream: Any) -> None:
    async with listening([answer(b"{}")]) as origin:
        for _ in range(5):
            assert await (await upstream.send(ask(origin))).read() == b"{}"
        assert (origin.connections, len(origin.requests)) == (1, 5)


async def test_requests_at_once_have_connections_of_their_own(upstream: Any) -> None:
    async with listening([0.05, answer(b"{}")]) as origin:
        answers = await asyncio.gather(*(upstream.send(ask(origin)) for _ in range(20)))
        assert [await one.read() for one in answers] == [b"{}"] * 20
        assert origin.connections == 20


@pytest.mark.parametrize("status", [b"201 Made", b"400 Bad", b"401 No", b"429 Slow", b"500 Oh", b"503 Busy"])
async def test_any_status_but_a_redirect_is_an_answer(upstream: Any, status: bytes) -> None:
    async with listening([answer(b'{"error":1}', status, b"retry-after: 7")]) as origin:
        response = await upstream.send(ask(origin))
        assert response.status == int(status[:3])
        assert response.header(b"retry-after") == b"7"
        assert await response.read() == b'{"error":1}'


async def test_a_stream_comes_piece_by_piece(upstream: Any) -> None:
    head, _, rest = chunked(b"data: 1\n\n", b"data: 2\n\n").partition(b"\r\n\r\n")
    first, second, end = rest[:14], rest[14:28], rest[28:]
    async with listening([head + b"\r\n\r\n", 0.1, first, 0.1, second, 0.1, end]) as origin:
        response = await upstream.send(ask(origin))
        started = time.monotonic()
        came = [(piece, time.monotonic() - started) async for piece in response]
        assert [piece for piece, _ in came] == [b"data: 1\n\n", b"data: 2\n\n"]
        assert came[0][1] < came[1][1]
        assert (await (await upstream.send(ask(origin))).read()) == b"data: 1\n\ndata: 2\n\n"
        assert origin.connections == 1


async def test_a_stream_can_be_taken_up_again(upstream: Any) -> None:
    head, rest = chunked(b"data: 1\n\n", end=False), chunked(b"data: 2\n\n").partition(b"\r\n\r\n")[2]
    async with listening([head, 0.05, rest]) as origin:
        response = await upstream.send(ask(origin))
        async for piece in response:
            assert piece == b"data: 1\n\n"
            break
        assert await pieces(response) == [b"data: 2\n\n"]


async def test_an_answer_may_end_with_its_connection(upstream: Any) -> None:
    async with listening([b"HTTP/1.1 200 OK\r\n\r\nabc", 0.02, b"def", CLOSE]) as origin:
        assert await (await upstream.send(ask(origin))).read() == b"abcdef"


async def test_informational_answers_are_passed_over(upstream: Any) -> None:
    async with listening([b"HTTP/1.1 103 Hints\r\nlink: x\r\n\r\n", answer(b"{}")]) as origin:
        assert await (await upstream.send(ask(origin))).read() == b"{}"


@pytest.mark.parametrize("close", [answer(b"{}", b"200 OK", b"connection: close"), b"HTTP/1.0" + answer(b"{}")[8:]])
async def test_a_connection_that_says_it_closes_is_not_used_again(upstream: Any, close: bytes) -> None:
    async with listening([close]) as origin:
        for _ in range(2):
            assert await (await upstream.send(ask(origin))).read() == b"{}"
        assert origin.connections == 2


async def test_a_connection_closed_between_requests_is_not_used_again(upstream: Any) -> None:
    async with listening([answer(b"{}"), CLOSE], [answer(b"{}")]) as origin:
        assert await (await upstream.send(ask(origin))).read() == b"{}"
        await until(lambda: origin.open == 0)
        assert await (await upstream.send(ask(origin))).read() == b"{}"
        assert len(origin.requests) == 2


OK = b"200 OK"
PLAIN = b'{"error":{"message":"Rate limit reached for requests","code":"rate_limit_exceeded"}}'
ZIPPED = gzip.compress(PLAIN)
GZIP = b"content-encoding: gzip"
LAST = b"connection: close"
LENGTH = b"HTTP/1.1 200 OK\r\ncontent-length: "
UPGRADE = b"HTTP/1.1 101 Up\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"
FAILURES: list[Any] = [
    pytest.param([CLOSE], UpstreamCut, None, id="no answer"),
    pytest.param([RESET], UpstreamCut, None, id="reset"),
    pytest.param([b"HTTP/1.1 200 OK\r\ncont", CLOSE], UpstreamCut, None, id="cut in the head"),
    pytest.param([answer(b"x" * 100)[:-50], CLOSE], UpstreamCut, 200, id="cut in the body"),
    pytest.param([answer(b"x" * 100)[:-50], 0.02, RESET], UpstreamCut, 200, id="reset in the body"),
    pytest.param([chunked(b"data: 1\n\n", end=False), CLOSE], UpstreamCut, 200, id="cut in a stream"),
    pytest.param([chunked(b"data: 1\n\n", end=False) + b"5\r\nda", 0.02, CLOSE], UpstreamCut, 200, id="cut in a chunk"),
    pytest.param([b"220 smtp ready\r\n\r\n", HANG], UpstreamMalformed, None, id="another protocol"),
    pytest.param([b"\x00" * 100 + b"\r\n\r\n", HANG], UpstreamMalformed, None, id="binary"),
    pytest.param([chunked(end=False) + b"zz\r\n", HANG], UpstreamMalformed, 200, id="bad chunk size"),
    pytest.param([answer(b"{}", OK, GZIP, LAST), HANG], UpstreamMalformed, 200, id="not gzip"),
    pytest.param([answer(ZIPPED[:-9], OK, GZIP, LAST), HANG], UpstreamMalformed, 200, id="cut gzip"),
    pytest.param([answer(b"{}", OK, b"content-encoding: br", LAST), HANG], UpstreamMalformed, 200, id="unknown coding"),
    pytest.param([answer(gzip.compress(bytes(1001)), OK, GZIP, LAST), HANG], UpstreamBodyTooLarge, 200, id="a bomb"),
    pytest.param([answer(b"{}", OK, b"transfer-encoding: chunked"), HANG], UpstreamMalformed, ..., id="two framings"),
    pytest.param([answer(b"{}", OK, b"content-length: 3"), HANG], UpstreamMalformed, ..., id="two lengths"),
    pytest.param([LENGTH + b"-5\r\n\r\n", HANG], UpstreamMalformed, ..., id="negative length"),
    pytest.param([answer(b"{}", b"302 Found", b"location: /"), HANG], UpstreamRedirect, 302, id="redirect"),
    pytest.param([answer(b"", b"308 Moved", b"location: /v1/"), HANG], UpstreamRedirect, 308, id="redirect of a POST"),
    pytest.param([answer(ZIPPED, b"301 Moved", GZIP), HANG], UpstreamRedirect, 301, id="redirect with a body"),
    pytest.param([UPGRADE, HANG], UpstreamMalformed, ..., id="upgrade"),
    pytest.param([b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000, HANG], UpstreamHeaderTooLarge, None, id="endless head"),
    pytest.param([answer(b"{}", OK, b"x: " + b"y" * 60_000), HANG], UpstreamHeaderTooLarge, ..., id="huge header"),
    pytest.param([answer(b"{}", OK, *[b"x: y"] * 200), HANG], UpstreamHeaderTooLarge, ..., id="many headers"),
    pytest.param([answer(b"x" * 2000), HANG], UpstreamBodyTooLarge, 200, id="length over the bound"),
    pytest.param([chunked(b"x" * 800, b"x" * 800), HANG], UpstreamBodyTooLarge, 200, id="chunks over the bound"),
    pytest.param([b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2000, HANG], UpstreamBodyTooLarge, 200, id="no end"),
]  # fmt: skip


@pytest.mark.parametrize(("script", "error", "status"), FAILURES)
async def test_every_failure_has_its_name(upstream: Any, script: list[Any], error: type, status: Any) -> None:
    async with listening(script) as origin:
        with pytest.raises(UpstreamError) as caught:
            await (await upstream.send(ask(origin, body_bytes_max=1000))).read()
        assert type(caught.value) is error
        assert caught.value.sent
        if status is not ...:
            assert caught.value.status == status
        assert len(origin.requests) == 1, "a request is never sent twice"
        await until(lambda: origin.open == 0)


async def test_a_cut_stream_gives_what_came_before(upstream: Any) -> None:
    async with listening([chunked(b"data: 1\n\n", end=False), 0.05, CLOSE]) as origin:
        response = await upstream.send(ask(origin))
        stream = aiter(response)
        assert await anext(stream) == b"data: 1\n\n"
        with pytest.raises(UpstreamCut):
            await anext(stream)


@pytest.mark.parametrize(
    ("script", "limits", "status"),
    [
        pytest.param([HANG], TimeLimits(first_byte_s=0.1), None, id="first byte"),
        pytest.param([answer(b"x" * 9)[:-5], HANG], TimeLimits(idle_s=0.1), 200, id="idle in a body"),
        pytest.param([chunked(b"data: 1\n\n", end=False), HANG], TimeLimits(idle_s=0.1), 200, id="idle in a stream"),
    ],
)
async def test_a_silent_provider_is_given_up(upstream: Any, script: list[Any], limits: TimeLimits, status: Any) -> None:
    async with listening(script) as origin:
        with pytest.raises(UpstreamTimeout) as caught:
            await (await upstream.send(ask(origin, limits=limits))).read()
        assert (caught.value.sent, caught.value.status) == (True, status)
        await until(lambda: origin.open == 0)


async def test_the_deadline_ends_a_stream_that_goes_on(upstream: Any) -> None:
    drip: list[Step] = [b"1\r\nx\r\n", 0.05]
    async with listening([chunked(end=False), *drip * 100]) as origin:
        started = time.monotonic()
        with pytest.raises(UpstreamTimeout) as caught:
            await pieces(await upstream.send(ask(origin, deadline=started + 0.3)))
        assert time.monotonic() - started > 0.2
        assert within(time.monotonic() - started, 1.0)  # it would go on for five
        assert caught.value.sent
        await until(lambda: origin.open == 0)


async def test_nobody_listens(upstream: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused for certain
        with pytest.raises(UpstreamRefused) as caught:
            await upstream.send(ask(taken.getsockname()[1]))
    assert not caught.value.sent


async def test_a_name_that_does_not_exist(upstream: Any) -> None:
    request = UpstreamRequest(Origin("https", "nobody.invalid", 443), "/", HEADERS, b"", time.monotonic() + 60)
    with pytest.raises(UpstreamRefused) as caught:
        await upstream.send(request)
    assert not caught.value.sent


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "10.0.0.1", "169.254.169.254"])
async def test_private_addresses_need_the_operators_word(upstream: Any, host: str) -> None:
    async with listening([answer(b"{}")]) as origin:
        request = UpstreamRequest(Origin("https", host, origin.port), "/", HEADERS, b"", time.monotonic() + 60)
        with pytest.raises(UpstreamAddressForbidden) as caught:
            await upstream.send(request)
        assert not caught.value.sent
        assert origin.connections == 0


async def test_an_abandoned_stream_closes_its_connection(upstream: Any) -> None:
    async with listening([chunked(b"data: 1\n\n", end=False), HANG]) as origin:
        response = await upstream.send(ask(origin))
        stream = aiter(response)
        assert await anext(stream) == b"data: 1\n\n"
        response.abandon()
        response.abandon()
        await until(lambda: origin.open == 0)


async def test_a_cancelled_request_closes_its_connection(upstream: Any) -> None:
    async with listening([HANG]) as origin:
        task = asyncio.create_task(upstream.send(ask(origin)))
        await until(lambda: len(origin.requests) == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: origin.open == 0)


async def test_a_large_body_goes_out_and_comes_back(upstream: Any) -> None:
    body = bytes(range(256)) * 8192  # 2 MiB
    async with listening([chunked(*[body[start : start + 70_000] for start in range(0, len(body), 70_000)])]) as origin:
        origin_, target = Origin("http", "127.0.0.1", origin.port, allow_insecure=True), "/v1/embeddings"
        request = UpstreamRequest(origin_, target, HEADERS, body, time.monotonic() + 60)
        assert await (await upstream.send(request)).read() == body
        assert origin.requests[0].partition(b"\r\n\r\n")[2] == body


async def test_errors_show_no_secret(upstream: Any) -> None:
    async with listening([b"HTTP/1.1 200 fixture-secret\r\nbroken fixture-secret\r\n\r\n", HANG]) as origin:
        with pytest.raises(UpstreamError) as caught:
            await upstream.send(ask(origin))
        assert "fixture" not in str(caught.value) + repr(caught.value) + caught.value.detail
