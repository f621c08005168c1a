"""The edge's HTTP on the wire: both ways of a request give the same; heads are bounded, slow agents are left."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.integration.edge_stack import EdgeStack
from tests.integration.edge_wire import Connection, body, request

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EdgeStack]:
    settings = {"KEYFORGE_BODY_BYTES_MAX": "200000", "KEYFORGE_BODY_TIME_LIMIT_S": "0.5"}
    async with EdgeStack(tmp_path_factory.mktemp("edge"), **settings) as running:
        yield running


TARGETS = ["/v1/chat/completions", "/v1/chat/completions?way=long"]
WAYS: list[Any] = [
    pytest.param({}, id="fast path"),
    pytest.param({"target": "/v1/chat/completions?way=long"}, id="with a query"),
    pytest.param({"more": ["Expect: 100-continue"]}, id="with an expectation"),
    pytest.param({"big": True}, id="with a large body"),
    pytest.param({"chunked": True}, id="with a body in chunks"),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stream", [False, True])
async def test_both_ways_give_the_same(stack: EdgeStack, way: dict[str, Any], stream: bool) -> None:
    key = await stack.key()
    data = body("x" * 100_000 if way.get("big") else "hello", stream=stream)
    more = list(way.get("more", []))
    if way.get("chunked"):
        sent = request(key, b"", *more, "Transfer-Encoding: chunked", length=False)
        sent += b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data)
    else:
        sent = request(key, data, *more, target=way.get("target", "/v1/chat/completions"))
    async with Connection(stack) as connection:
        for _ in range(2):
            connection.writer.write(sent)
            if "Expect: 100-continue" in more:
                assert (await connection.head())[0] == 100
            status, headers, answer = await connection.answer()
            assert status == 200
            assert headers["x-request-id"] == headers["request-id"]
            if stream:
                assert headers["content-type"].startswith("text/event-stream")
                assert answer.rstrip().endswith(b"data: [DONE]")
            else:
                assert headers["content-type"] == "application/json"
                assert json.loads(answer)["object"] == "chat.completion"
            assert (await stack.ending(headers["x-request-id"])).outcome == "ok"


@pytest.mark.parametrize("target", TARGETS)
async def test_refusals_are_the_same_on_both_ways(stack: EdgeStack, target: str) -> None:
    key = await stack.key()
    async with Connection(stack) as connection:
        for sent, expected in (
            (request(None, body(), target=target), "key_missing"),
            (request(key, b"{}", target=target), "request_invalid"),
            (request(key, b"", target=target), "json_invalid"),
            (request(key, body(), target=target), None),
        ):
            connection.writer.write(sent)
            status, _, answer = await connection.answer()
            assert (json.loads(answer)["error"]["type"] if status != 200 else None) == expected


async def test_requests_in_a_row_are_answered_in_order(stack: EdgeStack) -> None:
    key = await stack.key()
    slow = body(metadata={"sim": '{"first_byte_delay_s": 0.2, "content": "first"}'})
    fast = body(metadata={"sim": '{"content": "second"}'})
    async with Connection(stack) as connection:
        connection.writer.write(request(key, slow) + request(key, fast) + request(key, b"{}"))
        first, second, third = [await connection.answer() for _ in range(3)]
    assert (b"first" in first[2], b"second" in second[2], third[0]) == (True, True, 400)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_no_http_is_answered_after_the_request_before_it(
    stack: EdgeStack, target: str, stream: bool
) -> None:
    key = await stack.key()
    async with Connection(stack) as connection:
        connection.writer.write(request(key, body(stream=stream), target=target) + b"\0\1garbage\r\n\r\n")
        status, headers, answer = await connection.answer()
        assert (status, (b"data: [DONE]" if stream else b"chat.completion") in answer) == (200, True)
        assert (await stack.ending(headers["x-request-id"])).outcome == "ok"
        status, headers, answer = await connection.answer()
        assert (status, json.loads(answer)["error"]["type"], headers["connection"]) == (400, "http_invalid", "close")
        assert await connection.ended()


WRONG_HEADS: list[Any] = [
    pytest.param(["Authorization: Bearer x"], 400, "authorization", id="two keys"),
    pytest.param(["Idempotency-Key: a", "Idempotency-Key: b"], 400, "idempotency-key", id="two idempotency keys"),
    pytest.param(["x-api-key: a", "X-Api-Key: b"], 400, "x-api-key", id="two API keys"),
    pytest.param(["Host: y"], 400, "host", id="two hosts"),
    pytest.param(["Transfer-Encoding: gzip, chunked"], 501, "transfer-encoding", id="another coding"),
]


@pytest.mark.parametrize(("more", "status", "name"), WRONG_HEADS)
@pytest.mark.parametrize("target", TARGETS)
async def test_a_head_that_says_two_things_is_refused_and_costs_nothing(
    stack: EdgeStack, target: str, more: list[str], status: int, name: str
) -> None:
    key, before = await stack.key(), (await stack.books())["requests"]
    async with Connection(stack) as connection:
        connection.writer.write(request(key, body(), *more, target=target, length=status != 501))
        answered, headers, answer = await connection.answer()
        assert (answered, json.loads(answer)["error"]["param"]) == (status, f"header.{name}")
        assert headers["x-request-id"] == headers["request-id"]
        assert await connection.ended()
    assert (await stack.books())["requests"] == before


async def test_a_length_and_chunks_are_refused_on_both_ways(stack: EdgeStack) -> None:
    key, before = await stack.key(), (await stack.books())["requests"]
    for target in TARGETS:
        async with Connection(stack) as connection:
            connection.writer.write(request(key, body(), "Transfer-Encoding: chunked", target=target))
            assert (await connection.answer())[0] == 400
    assert (await stack.books())["requests"] == before


async def test_a_connection_that_is_to_be_closed_is(stack: EdgeStack) -> None:
    key = await stack.key()
    for more, version in ((["Connection: close"], "1.1"), ([], "1.0")):
        async with Connection(stack) as connection:
            connection.writer.write(request(key, body(), *more, version=version))
            status, headers, _ = await connection.answer()
            assert (status, headers["connection"]) == (200, "close")
            assert await connection.ended()


async def test_a_body_in_pieces_is_put_together(stack: EdgeStack) -> None:
    sent = request(await stack.key(), body())
    async with Connection(stack) as connection:
        for at in range(0, len(sent), 40):
            connection.writer.write(sent[at : at + 40])
            await asyncio.sleep(0.001)  # so that pieces travel apart
        assert (await connection.answer())[0] == 200


@pytest.mark.parametrize("target", TARGETS)
async def test_a_body_that_does_not_come_is_not_waited_for(stack: EdgeStack, target: str) -> None:
    async with Connection(stack) as connection:
        connection.writer.write(request(await stack.key(), body(), target=target)[:-5])
        status, _, answer = await connection.answer()
    assert (status, json.loads(answer)["error"]["type"]) == (400, "body_incomplete")


BAD_HEADS: list[Any] = [
    pytest.param(b"GET / HTTP/1.1\r\nX: " + b"a" * 500_000, id="a line without end"),
    pytest.param(b"GET /" + b"a" * 500_000, id="a target without end"),
    pytest.param(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 500 + b"\r\n", id="too many lines"),
    pytest.param(b"nonsense\r\n\r\n", id="no HTTP"),
    pytest.param(
        b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", id="two lengths"
    ),
]


@pytest.mark.parametrize("head", BAD_HEADS)
async def test_bad_heads_end_the_connection(stack: EdgeStack, head: bytes) -> None:
    async with Connection(stack) as connection:
        connection.writer.write(head)
        async with asyncio.timeout(60):
            try:
                answer = await connection.reader.read()
            except ConnectionResetError:
                answer = b""
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")
    assert (await stack.edge.get("/healthz")).status_code == 200


CHUNK = b"1\r\n{\r\n"
ENDLESS: list[Any] = [
    pytest.param(CHUNK + b"0\r\nX: " + b"a" * 3_000_000, id="a trailer without end"),
    pytest.param(CHUNK + b"0\r\n" + b"X: y\r\n" * 500_000, id="trailers without end"),
    pytest.param(CHUNK + b"1;" + b"a" * 3_000_000, id="a chunk extension without end"),
]


@pytest.mark.parametrize("framing", ENDLESS)
async def test_what_frames_a_body_is_bounded(stack: EdgeStack, framing: bytes) -> None:
    """The server neither keeps it nor waits for more: it ends the connection before all of it is taken."""
    key, began = await stack.key(), asyncio.get_running_loop().time()
    async with Connection(stack) as connection:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: edge\r\nAuthorization: Bearer {key.text}\r\n"
        connection.writer.write(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + framing)
        async with asyncio.timeout(60):
            try:
                answer = await connection.reader.read()
            except ConnectionResetError:
                answer = b""
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")
    assert asyncio.get_running_loop().time() - began < 5, "it was the time limit of the body that ended it"


async def test_a_body_in_many_small_chunks_with_a_trailer_is_read(stack: EdgeStack) -> None:
    chunks = b"".join(b"1;x=y\r\n%c\r\n" % byte for byte in body("a" * 20_000))
    key = await stack.key()
    async with Connection(stack) as connection:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: edge\r\nAuthorization: Bearer {key.text}\r\n"
        sent = head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\nX: y\r\n\r\n"
        connection.writer.write(sent)
        status, _, _ = await connection.answer()
    assert status == 200


@pytest.mark.parametrize(
    "target", ["POST /v1/chat/completions", "POST /v1/chat/completions?way=long", "GET /v1/models"]
)
async def test_a_length_behind_zeros_is_no_fault(stack: EdgeStack, target: str) -> None:
    key = await stack.key()
    async with Connection(stack) as connection:
        head = (
            f"{target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key.text}\r\nContent-Length: {'0' * 5000}2\r\n\r\n"
        )
        connection.writer.write(head.encode() + b"{}")
        status, _, answer = await connection.answer()
    assert (status, b'"request_invalid"' in answer) == ((200, False) if "models" in target else (400, True))


async def test_a_key_in_a_trailer_is_none(stack: EdgeStack) -> None:
    key, data = await stack.key(), body()
    async with Connection(stack) as connection:
        sent = request(None, b"", "Transfer-Encoding: chunked", length=False) + b"%x\r\n%s\r\n0\r\n" % (len(data), data)
        connection.writer.write(sent + f"Authorization: Bearer {key.text}\r\n\r\n".encode())
        status, _, answer = await connection.answer()
    assert (status, json.loads(answer)["error"]["type"]) == (401, "key_missing")


@pytest.mark.parametrize("stream", [False, True])
async def test_an_offer_of_http2_changes_nothing(stack: EdgeStack, stream: bool) -> None:
    key, offer = await stack.key(), ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
    async with Connection(stack) as connection:
        for _ in range(2):
            connection.writer.write(request(key, body(stream=stream), *offer))
            assert (await connection.answer())[0] == 200


async def test_answers_that_nobody_reads_do_not_pile_up(stack: EdgeStack) -> None:
    """One by one, so all could take the fast path: one must wait until the agent reads what came before."""
    sent = request(await stack.key(), body(metadata={"sim": json.dumps({"content": "y" * 60_000})}))

    async def carried() -> float:
        lines = (await stack.edge.get("/metrics")).text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("keyforge_edge_requests_total"))

    async def ask_and_ask() -> None:
        for _ in range(200):
            before = await carried()
            connection.writer.write(sent)
            async with asyncio.timeout(1):  # ends when the edge reads no more, as it must
                while await carried() == before:
                    pass

    async with Connection(stack) as connection:
        with pytest.raises(TimeoutError):
            await ask_and_ask()


async def test_an_agent_that_hangs_up_before_its_answer_is_settled(stack: EdgeStack) -> None:
    key = await stack.key()
    before = (await stack.books())["requests"]
    async with Connection(stack) as connection:
        connection.writer.write(request(key, body(metadata={"sim": '{"first_byte_delay_s": 0.3}'})))
        await connection.writer.drain()
        await stack.until(lambda: stack.sim.get("/_sim/books"), lambda answer: answer.json()["requests"] > before)
    metrics = await stack.until(
        lambda: stack.edge.get("/metrics"), lambda answer: "keyforge_edge_running_requests 0.0" in answer.text
    )
    assert metrics.status_code == 200


@pytest.mark.parametrize("target", TARGETS)
async def test_an_agent_that_still_sends_gets_the_answer_that_ends_its_connection(
    stack: EdgeStack, target: str
) -> None:
    slow = body(metadata={"sim": '{"first_byte_delay_s": 0.3}'})
    async with Connection(stack) as connection:
        connection.writer.write(request(await stack.key(), slow, "Connection: close", target=target))
        connection.writer.write(b"\0\1garbage\r\n\r\n" + b"x" * 3_000_000)
        assert (await connection.answer())[0] == 200
        assert await connection.reader.read() == b"", "closed, not reset"
