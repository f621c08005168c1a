"""Pages of other origins: preflights, and the headers of every answer on both ways, as browsers need them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.integration.edge_facts import MODEL
from tests.integration.edge_stack import EdgeStack
from tests.integration.edge_wire import Connection, body, request

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE = "https://app.example.com"
ORIGINS = f"http://localhost:3000,{PAGE}"
TARGETS = ["/v1/chat/completions", "/v1/chat/completions?way=long"]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["one of a list", "all"])
async def origin(request: pytest.FixtureRequest) -> str:
    """What an answer to PAGE names."""
    return PAGE if request.param == "one of a list" else "*"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(origin: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EdgeStack]:
    settings = {"KEYFORGE_BODY_TIME_LIMIT_S": "0.5", "KEYFORGE_CORS_ORIGINS": ORIGINS if origin == PAGE else "*"}
    async with EdgeStack(tmp_path_factory.mktemp("edge"), **settings) as running:
        yield running


def shared(headers: dict[str, str], origin: str) -> None:
    assert headers["access-control-allow-origin"] == origin
    assert headers["vary"] == "origin"
    assert "access-control-allow-credentials" not in headers
    exposed = headers["access-control-expose-headers"].split(", ")
    assert {"x-request-id", "retry-after", "x-should-retry", "x-keyforge-max-output-tokens"} <= set(exposed)


@pytest.mark.parametrize(
    "path",
    ["/v1/chat/completions", "/api/v1/embeddings", "/v1/models", f"/v1/models/{MODEL}", "/v1/v1/models", "/nothing"],
)
async def test_a_preflight_is_answered_wherever_it_is(stack: EdgeStack, origin: str, path: str) -> None:
    asked = {
        "origin": PAGE,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,cookie,x-stainless-os,x-unknown",
    }
    answer = await stack.edge.options(path, headers=asked)
    assert (answer.status_code, answer.content) == (204, b"")
    shared(dict(answer.headers), origin)
    assert answer.headers["access-control-allow-headers"] == "authorization, content-type, x-stainless-os"
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert int(answer.headers["access-control-max-age"]) > 0


async def test_another_origin_is_told_nothing(stack: EdgeStack, origin: str) -> None:
    if origin == "*":
        return
    for other in ("https://evil.example", "null", "https://app.example.com.evil.example", ""):
        asked = {"origin": other, "access-control-request-method": "POST"}
        preflight = await stack.edge.options("/v1/chat/completions", headers=asked)
        key = await stack.key()
        answer = await stack.edge.get("/v1/models", headers=stack.auth(key) | {"origin": other})
        assert (preflight.status_code, answer.status_code) == (204, 200)
        for headers in (preflight.headers, answer.headers):
            assert [name for name in headers if name.startswith("access-control")] == []
            assert headers["vary"] == "origin"


async def test_probes_and_metrics_are_for_no_page(stack: EdgeStack) -> None:
    for path in ("/healthz", "/readyz", "/metrics", "/openapi.json"):
        asked = {"origin": PAGE, "access-control-request-method": "GET"}
        for answer in (await stack.edge.options(path, headers=asked), await stack.edge.get(path, headers=asked)):
            assert "access-control-allow-origin" not in answer.headers


ANSWERS: list[Any] = [
    pytest.param({}, 200, id="answer"),
    pytest.param({"stream": True}, 200, id="stream"),
    pytest.param({"model": "nothing"}, 404, id="error"),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("fields", "status"), ANSWERS)
async def test_every_answer_may_be_read(
    stack: EdgeStack, origin: str, target: str, fields: dict[str, Any], status: int
) -> None:
    key = await stack.key()
    async with Connection(stack) as connection:
        connection.writer.write(request(key, body(**fields), f"Origin: {PAGE}", target=target))
        answered, headers, _ = await connection.answer()
    assert answered == status
    shared(headers, origin)


@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_answers_that_are_no_call_may_be_read(stack: EdgeStack, origin: str, version: str) -> None:
    key = await stack.key()
    page = f"Origin: {PAGE}"
    for sent, status in (
        (request(None, body(), page, version=version), 401),
        (request(key, body(), page, target="/v1/v1/chat/completions", version=version), 404),
        (request(key, body(), page, target="/v1/models", version=version), 405),
        (request(key, body(), page, version=version)[:-3], 400),  # the rest of the body never comes
    ):
        async with Connection(stack) as connection:
            connection.writer.write(sent)
            async with asyncio.timeout(60):
                answered, headers, _ = await connection.answer()
        assert answered == status
        shared(headers, origin)


async def test_a_stream_over_http_1_0_ends_with_its_connection(stack: EdgeStack, origin: str) -> None:
    key = await stack.key()
    async with Connection(stack) as connection:
        connection.writer.write(request(key, body(stream=True), f"Origin: {PAGE}", version="1.0"))
        status, headers = await connection.head()
        assert (status, "transfer-encoding" in headers) == (200, False)
        assert (await connection.reader.read()).endswith(b"data: [DONE]\n\n")
    shared(headers, origin)


async def test_without_an_origin_caches_are_told_all_the_same(stack: EdgeStack, origin: str) -> None:
    key = await stack.key()
    for target in TARGETS:
        async with Connection(stack) as connection:
            connection.writer.write(request(key, body(), target=target))
            _, headers, _ = await connection.answer()
        assert headers["vary"] == "origin"
        assert headers.get("access-control-allow-origin") == ("*" if origin == "*" else None)
