"""Providers that are odd, and agents that make use of it: what one request brings about, no other one pays for."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio

from keyforge.contracts.ids import CredentialId, ProviderId
from keyforge.contracts.usage import Usage
from keyforge.edge.core.dialects.additions import OUTPUT_TOKENS_DEFAULT
from tests.integration.edge_stack import EdgeStack

ODD = ProviderId("odd")
COUNTED = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
USED = Usage(input_tokens=3, output_tokens=1)
ANSWER = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "a"}}], "usage": COUNTED}
CHUNK = {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]}
SHOWN = f"data: {json.dumps(CHUNK)}\n\n"
STREAM = f"{SHOWN}data: {json.dumps({'choices': [], 'usage': COUNTED})}\n\ndata: [DONE]\n\n"
WINDOW = 33_000
"""Of the model `window`, in characters of its one message and in tokens of its answer."""

pytestmark = pytest.mark.asyncio(loop_scope="module")


def head(status: int, type_: str, framing: str) -> str:
    return f"HTTP/1.1 {status} X\r\ncontent-type: {type_}\r\n{framing}\r\n\r\n"


def answer(status: int, document: Any, type_: str = "application/json") -> str:
    text = document if isinstance(document, str) else json.dumps(document)
    return head(status, type_, f"content-length: {len(text.encode())}") + text


def strict(body: dict[str, Any]) -> str:
    """Quotes the name of a schema that it does not take."""
    if "response_format" not in body:
        return answer(200, ANSWER)
    name = body["response_format"]["json_schema"]["name"]
    message = f"Invalid schema for response_format '{name}': schema must be a JSON Schema of 'type: \"object\"'"
    return answer(400, {"error": {"message": message, "type": "invalid_request_error", "code": None}})


def window(body: dict[str, Any]) -> str:
    cap, given = body["max_completion_tokens"], len(body["messages"][0]["content"])
    if given + cap <= WINDOW:
        return answer(200, ANSWER)
    text = f"`inputs` tokens + `max_new_tokens` must be <= {WINDOW}. Given: {given} `inputs` tokens and {cap} others"
    return answer(422, {"error": text, "error_type": "validation"})


def named_json(_: dict[str, Any]) -> str:
    return answer(200, STREAM, "application/json")


def open_end(_: dict[str, Any]) -> str:
    """Does not end its answer, nor its connection."""
    return head(200, "text/event-stream", "transfer-encoding: chunked") + f"{len(STREAM):x}\r\n{STREAM}\r\n"


def odd_code(_: dict[str, Any]) -> str:
    return answer(200, {"error": {"code": "²²²", "message": "x" + "[" * 99}})


MODELS: dict[str, Callable[[dict[str, Any]], str]] = {
    "strict": strict, "window": window, "named-json": named_json, "open-end": open_end, "odd-code": odd_code,
}  # fmt: skip


@asynccontextmanager
async def odd_provider() -> AsyncIterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
                length = next(line for line in lines if line.startswith(b"content-length:")).partition(b":")[2]
                body = json.loads(await reader.readexactly(int(length)))
                writer.write(MODELS[body["model"]](body).encode())
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EdgeStack]:
    async with odd_provider() as url, EdgeStack(tmp_path_factory.mktemp("odd")) as running:
        await running.provider(ODD, MODELS, url=url, kind="cerebras")
        for name in ("one", "two"):
            await running.credential(ODD, CredentialId(f"odd-{name}"), f"fixture-secret-{name}", url=url)
        await running.knows("odd-code")
        yield running


async def test_words_that_one_agent_has_quoted_take_no_credential_from_others(stack: EdgeStack) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "insufficient_quota", "schema": {"type": "string"}}}
    hostile, other = await stack.key(), await stack.key()
    refused = await stack.chat(hostile, model="odd/strict", response_format=schema)
    assert (refused.status_code, refused.headers["x-should-retry"]) == (400, "false")
    ended = await stack.ending(refused.headers["x-request-id"])
    assert (ended.outcome, len(ended.attempts), ended.usage) == ("upstream_error", 1, Usage())
    assert (await stack.chat(other, model="odd/strict")).status_code == 200


async def test_a_prompt_that_fills_the_window_cuts_no_other_answer(stack: EdgeStack) -> None:
    long, other = await stack.key(), await stack.key()
    prompt = "x" * (WINDOW - 5)
    told = await stack.chat(long, model="odd/window", messages=[{"role": "user", "content": prompt}])
    assert (told.status_code, told.headers["x-keyforge-max-output-tokens"]) == (200, "5")
    told = await stack.chat(other, model="odd/window")
    assert (told.status_code, told.headers["x-keyforge-max-output-tokens"]) == (200, str(OUTPUT_TOKENS_DEFAULT))


@pytest.mark.parametrize("model", ["named-json", "open-end"])
async def test_a_stream_is_served_whatever_it_is_called_and_however_it_ends(stack: EdgeStack, model: str) -> None:
    told = await stack.chat(await stack.key(), model=f"odd/{model}", stream=True)
    assert (told.status_code, told.text) == (200, f"{SHOWN}data: [DONE]\n\n")
    ended = await stack.ending(told.headers["x-request-id"])
    assert (ended.outcome, ended.usage) == ("ok", USED)


async def test_an_odd_error_is_the_providers_and_not_ours(stack: EdgeStack) -> None:
    told = await stack.chat(await stack.key(), model="odd/odd-code")
    assert told.status_code == 502
    ended = await stack.ending(told.headers["x-request-id"])
    assert (ended.outcome, ended.usage) == ("upstream_error", Usage())
