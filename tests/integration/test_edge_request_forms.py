"""What clients send, through a real edge: compressed bodies on both ways, marks, and what is taken out and named."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from keyforge.contracts.events import RequestAdmitted
from tests.integration.edge_facts import MODEL, PRICES
from tests.integration.edge_stack import EdgeStack
from tests.unit.compressed import BY_NAME, Encode, stored

pytestmark = pytest.mark.asyncio(loop_scope="module")

BOUND = 262_144
SHORT, LONG = "hello", "hello " * 20_000
"""On the fast path, and beyond it even when compressed at level 0."""
PATHS = ["/v1/chat/completions", "/v1/chat/completions?way=long"]


CODINGS: list[Any] = [*BY_NAME.items(), pytest.param("gzip", stored, id="stored"), ("identity", bytes)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EdgeStack]:
    async with EdgeStack(tmp_path_factory.mktemp("edge"), KEYFORGE_BODY_BYTES_MAX=str(BOUND)) as running:
        yield running


def chat(text: str = SHORT, **fields: Any) -> bytes:
    return json.dumps({"model": MODEL, "messages": [{"role": "user", "content": text}], **fields}).encode()


async def post(stack: EdgeStack, body: bytes, path: str = PATHS[0], **headers: str) -> httpx.Response:
    auth = stack.auth(await stack.key())
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return await stack.edge.post(path, content=body, headers={**auth, "content-type": "application/json", **sent})


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("text", [SHORT, LONG], ids=["short", "long"])
@pytest.mark.parametrize(("coding", "encode"), CODINGS)
async def test_a_compressed_request_is_served_as_any_other(
    stack: EdgeStack, coding: str, encode: Encode, text: str, path: str
) -> None:
    plain = await post(stack, chat(text, max_tokens=5), path)
    answer = await post(stack, encode(chat(text, max_tokens=5)), path, content_encoding=coding)
    assert (plain.status_code, answer.status_code) == (200, 200), answer.text
    assert answer.json()["usage"]["prompt_tokens"] == plain.json()["usage"]["prompt_tokens"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("coding", "encode"), CODINGS[:-2])
async def test_a_bomb_is_too_large(stack: EdgeStack, coding: str, encode: Encode, path: str) -> None:
    before = (await stack.books())["requests"]
    answer = await post(stack, encode(chat("x" * (8 << 20))), path, content_encoding=coding)
    assert (answer.status_code, answer.json()["error"]["type"]) == (413, "body_too_large")
    assert answer.json()["error"]["metadata"] == {"body_bytes_max": BOUND}
    assert (await stack.books())["requests"] == before


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("coding", ["compress", "gzip, gzip", "utf-8", "x"])
async def test_an_unknown_coding_says_which_are_known(stack: EdgeStack, coding: str, path: str) -> None:
    answer = await post(stack, chat(), path, content_encoding=coding)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["code"]) == (415, "encoding_unsupported", 415)
    assert answer.headers["accept-encoding"] == "gzip, deflate, br, zstd"
    assert answer.headers["x-should-retry"] == "false"
    again = await post(stack, chat(), path)  # on the same connection, if it is kept
    assert again.status_code == 200


async def test_a_body_that_is_not_what_it_says(stack: EdgeStack) -> None:
    answer = await post(stack, chat(), content_encoding="gzip")
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "encoding_invalid")


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"\xef\xbb\xbf" + chat(), 200, ""),
        (chat().replace(b"hello", b"se\xf1or"), 400, "not UTF-8 at byte 65 (0xf1), in `messages[0].content`"),
        (chat().replace(b"hello", rb"cut \ud83d"), 400, r"`\ud83d` at byte 67, in `messages[0].content`"),
        (chat().decode().encode("utf-16"), 400, "in UTF-16"),
    ],
)
async def test_what_is_no_utf8(stack: EdgeStack, body: bytes, status: int, words: str) -> None:
    answer = await post(stack, body)
    assert answer.status_code == status, answer.text
    if status != 200:
        error = answer.json()["error"]
        assert error["type"] == "json_invalid"
        assert words in error["message"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_taken_out_is_named_in_every_answer(stack: EdgeStack, path: str, stream: bool) -> None:
    given_back: dict[str, Any] = {
        "role": "assistant",
        "content": "x",
        "refusal": None,
        "annotations": [],
        "parsed": {"a": 1},
    }
    user = {"role": "user", "content": SHORT}
    body = chat(messages=[user, given_back, user], n=1, stream=stream, unknown=None)
    answer = await post(stack, body, path)
    assert answer.status_code == 200, answer.text
    names = answer.headers["x-keyforge-ignored"].split(", ")
    assert set(names) == {"messages[1].annotations", "messages[1].parsed", "n", "unknown"}
    plain = await post(stack, chat(stream=stream), path)
    assert "x-keyforge-ignored" not in plain.headers


async def test_an_error_of_the_provider_names_it_too(stack: EdgeStack) -> None:
    error = '{"error": {"message": "too long", "code": "context_length_exceeded", "type": "invalid_request_error"}}'
    await stack.script(model=MODEL, times=1, behaviour={"status": 400, "body": error})
    answer = await post(stack, chat(n=1))
    assert (answer.status_code, answer.headers["x-keyforge-ignored"]) == (400, "n")
    assert answer.headers["x-keyforge-error"] == "upstream"


@pytest.mark.parametrize("ttl", [{}, {"ttl": "5m"}, {"ttl": "1h"}])
async def test_a_cache_of_an_hour_is_reserved_at_its_own_price(stack: EdgeStack, ttl: dict[str, str]) -> None:
    marked = [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral", **ttl}}]
    answer = await post(stack, chat(messages=[{"role": "user", "content": marked}], max_tokens=1))
    assert answer.status_code == 200, answer.text
    (admitted,) = [
        event for event in await stack.events(answer.headers["x-request-id"]) if isinstance(event, RequestAdmitted)
    ]
    written_nusd = PRICES.cache_write_1h_nusd if ttl.get("ttl") == "1h" else PRICES.cache_write_nusd
    given_tokens = admitted.reserved.tokens - 1
    assert admitted.reserved.nusd == -(-(given_tokens * written_nusd + PRICES.output_nusd) // 1_000_000)
