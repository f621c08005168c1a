"""A client of HTTP/1.0 knows no chunks: what has no length ends with its connection (RFC 9112 section 6.1)."""

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.integration.edge_stack import EdgeStack
from tests.integration.edge_wire import Connection, body, request

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EdgeStack]:
    async with EdgeStack(tmp_path_factory.mktemp("edge")) as running:
        yield running


@pytest.mark.parametrize("more", [[], ["Connection: keep-alive"]])
async def test_a_client_of_http_1_0_is_sent_no_chunks(stack: EdgeStack, more: list[str]) -> None:
    """It would read their sizes among the events. The end of the stream is that of the connection."""
    key = await stack.key()
    async with Connection(stack) as connection:
        connection.writer.write(request(key, body(stream=True), *more, version="1.0"))
        status, headers = await connection.head()
        answer = await connection.reader.read()
    assert (status, headers["connection"]) == (200, "close")
    assert "transfer-encoding" not in headers
    assert headers["content-type"].startswith("text/event-stream")
    *events, end = [line for line in answer.decode().splitlines() if line]
    assert end == "data: [DONE]"
    assert events
    assert all(json.loads(event.removeprefix("data: "))["object"] == "chat.completion.chunk" for event in events)
    assert (await stack.ending(headers["x-request-id"])).outcome == "ok"
    async with Connection(stack) as connection:
        connection.writer.write(request(key, body(), *more, version="1.0"))
        status, headers, whole = await connection.answer()
        assert (status, headers["connection"]) == (200, "close")
        assert json.loads(whole)["object"] == "chat.completion"
        assert await connection.ended()
