"""The front of the edge: methods of routes, paths that are nearly right, and the headers that a key may come in."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio
from openai import AzureOpenAI

from tests.integration.edge_facts import MODEL
from tests.integration.edge_stack import EdgeStack
from tests.integration.edge_wire import Connection, body, request

pytestmark = pytest.mark.asyncio(loop_scope="module")

TARGETS = ["/v1/chat/completions", "/v1/chat/completions?way=long"]
ROUTES = {
    "/v1/chat/completions": "POST, OPTIONS",
    "/api/v1/chat/completions": "POST, OPTIONS",
    "/v1/embeddings": "POST, OPTIONS",
    "/api/v1/embeddings": "POST, OPTIONS",
    "/v1/models": "GET, HEAD, OPTIONS",
    "/api/v1/models": "GET, HEAD, OPTIONS",
    f"/v1/models/sim/{MODEL}": "GET, HEAD, OPTIONS",
    f"/api/v1/models/{MODEL}": "GET, HEAD, OPTIONS",
    "/healthz": "GET, HEAD",
    "/readyz": "GET, HEAD",
    "/metrics": "GET, HEAD",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EdgeStack]:
    async with EdgeStack(tmp_path_factory.mktemp("edge")) as running:
        yield running


@pytest.mark.parametrize(("path", "allow"), ROUTES.items())
async def test_each_route_says_what_it_takes(stack: EdgeStack, path: str, allow: str) -> None:
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
        answer = await stack.edge.request(method, path)
        if method == "OPTIONS" and "OPTIONS" in allow:
            assert (answer.status_code, answer.content, answer.headers["allow"]) == (204, b"", allow)
            assert "content-length" not in answer.headers
            assert "transfer-encoding" not in answer.headers
        elif method in allow.split(", "):
            assert answer.status_code in {200, 401}
        else:
            assert (answer.status_code, answer.headers["allow"]) == (405, allow)
            if method != "HEAD":
                error = answer.json()["error"]
                assert error["type"] == "method_not_allowed"
                accepted = [name for name in allow.split(", ") if name != "OPTIONS"]
                assert "OPTIONS" not in allow or error["message"].split("`")[1::2] == accepted
        assert answer.headers["x-request-id"] == answer.headers["request-id"]
        assert not [name for name in answer.headers if name.startswith("access-control-")]


async def test_reading_by_head_is_reading_by_get(stack: EdgeStack) -> None:
    key = await stack.key()
    for path in ("/v1/models", "/api/v1/models", f"/v1/models/{MODEL}", "/v1/models/nothing"):
        head, get = [await stack.edge.request(method, path, headers=stack.auth(key)) for method in ("HEAD", "GET")]
        assert (head.status_code, head.content) == (get.status_code, b"")
        assert head.headers["content-length"] == str(len(get.content))


MISSES: list[Any] = [
    ("//v1/chat/completions", "/v1/chat/completions"),
    ("/v1/v1/chat/completions", "/v1/chat/completions"),
    ("/chat/completions", "/v1/chat/completions"),
    ("/v1/chat/completions/", "/v1/chat/completions"),
    ("/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21", "/v1/chat/completions"),
    ("/api/v1//chat/completions", "/api/v1/chat/completions"),
    ("/v1/v1/embeddings", "/v1/embeddings"),
    ("/v1/v1/models", "/v1/models"),
]


@pytest.mark.parametrize(("target", "right"), MISSES)
async def test_a_path_that_is_nearly_right_is_refused_with_the_right_one(
    stack: EdgeStack, target: str, right: str
) -> None:
    key, before = await stack.key(), (await stack.books())["requests"]
    async with Connection(stack) as connection:
        for data in (body(), b"not JSON", body("x" * 100_000)):
            connection.writer.write(request(key, data, target=target))
            status, headers, answer = await connection.answer()
            assert (status, headers["x-should-retry"], "location" in headers) == (404, "false", False)
            assert b'"route_unknown"' in answer
            assert f"`{right}`".encode() in answer
        connection.writer.write(request(key, body()))  # the connection goes on
        assert (await connection.answer())[0] == 200
    assert (await stack.books())["requests"] == before + 1


@pytest.mark.parametrize("target", TARGETS)
async def test_the_headers_that_a_key_may_come_in(stack: EdgeStack, target: str) -> None:
    """A bearer token comes first, then x-api-key, then api-key; the first decides, whatever it is."""
    text, none = (await stack.key()).text, "vk_fixture"
    for lines, status in (
        ([f"api-key: {text}"], 200),
        ([f"Api-Key:  {text} "], 200),
        ([f"x-api-key: {text}"], 200),
        ([f"x-api-key: {text}", f"api-key: {none}"], 200),
        ([f"x-api-key: {none}", f"api-key: {text}"], 401),
        ([f"Authorization: Bearer {text}", f"x-api-key: {none}", f"api-key: {none}"], 200),
        ([f"Authorization: Bearer {none}", f"api-key: {text}"], 401),
        (["Authorization: Basic Zml4dHVyZQ==", f"api-key: {text}"], 200),
        (["Authorization: Bearer ", "x-api-key: ", f"api-key: {text}"], 200),
        ([f"api-key: {text}", f"api-key: {text}"], 200),
        ([f"api-key: {text}", f"api-key: {none}"], 400),
        (["api-key: "], 401),
    ):
        async with Connection(stack) as connection:
            connection.writer.write(request(None, body(), *lines, target=target))
            assert (await connection.answer())[0] == status, lines


async def test_azures_client_shows_its_key_and_is_shown_what_it_does_wrong(stack: EdgeStack) -> None:
    """It puts `/deployments/` after any base URL, but not before `/models`."""
    key = await stack.key()

    def ask() -> None:
        base_url = f"http://127.0.0.1:{stack.edge_port}/v1"
        with AzureOpenAI(base_url=base_url, api_key=key.text, api_version="2024-10-21", max_retries=0) as client:
            assert f"sim/{MODEL}" in [model.id for model in client.models.list()]
            assert client.models.retrieve(f"sim/{MODEL}").owned_by == "sim"
            with pytest.raises(openai.NotFoundError, match="`OpenAI` in place of `AzureOpenAI`") as wrong:
                client.chat.completions.create(model=f"sim/{MODEL}", messages=[{"role": "user", "content": "hello"}])
            assert wrong.value.type == "route_unknown"

    await asyncio.to_thread(ask)


@pytest.mark.parametrize("target", ["*", "http://x/v1/chat/completions", "?", "/%"])
async def test_an_odd_target_is_answered(stack: EdgeStack, target: str) -> None:
    async with Connection(stack) as connection:
        connection.writer.write(f"OPTIONS {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        async with asyncio.timeout(60):
            assert (await connection.head())[0] in {204, 400, 404}
