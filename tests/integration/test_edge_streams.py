"""Streams through the edge: passed on as they come, settled whatever becomes of either side."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import httpx
import pytest
import pytest_asyncio

from keyforge.contracts.ids import ProviderId
from tests.integration.edge_facts import MODEL
from tests.integration.edge_stack import EdgeStack
from tests.pace import within

pytestmark = pytest.mark.asyncio(loop_scope="module")

SPECIAL = (
    "sim-slow-chunks", "sim-hang-stream", "sim-cut-stream", "sim-malformed", "sim-error-stream", "sim-no-usage",
    "sim-no-done", "sim-cut", "sim-500",
)  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EdgeStack]:
    settings = {"KEYFORGE_REQUEST_TIME_LIMIT_S": "3"}
    async with EdgeStack(tmp_path_factory.mktemp("edge"), **settings) as running:
        await running.provider(ProviderId("sim"), [MODEL, *SPECIAL])
        await running.knows("sim-no-done")
        yield running


async def events(answer: httpx.Response) -> list[Any]:
    """Return the data of every event, decoded; "[DONE]" as it is."""
    data = [line[6:] async for line in answer.aiter_lines() if line.startswith("data: ")]
    return [one if one == "[DONE]" else json.loads(one) for one in data]


async def test_a_stream_comes_whole_and_keeps_its_usage_to_itself(stack: EdgeStack) -> None:
    async with stack.streamed(await stack.key()) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-request-id"] == answer.headers["request-id"]
        seen = await events(answer)
    assert seen[-1] == "[DONE]"
    assert all("usage" not in event or event["usage"] is None for event in seen[:-1])
    completed = await stack.ending(answer.headers["x-request-id"])
    assert (completed.outcome, completed.usage_source) == ("ok", "provider")
    assert completed.usage.output_tokens > 0


async def test_usage_is_shown_to_who_asked(stack: EdgeStack) -> None:
    async with stack.streamed(await stack.key(), stream_options={"include_usage": True}) as answer:
        seen = await events(answer)
    assert seen[-2]["usage"]["total_tokens"] > 0


BROKEN: list[Any] = [
    pytest.param("sim-cut-stream", "upstream_cut", id="cut"),
    pytest.param("sim-malformed", "upstream_malformed", id="malformed"),
    pytest.param("sim-error-stream", "upstream_error", id="the provider's own error"),
    pytest.param("sim-hang-stream", "stream_over_deadline", id="past the deadline"),
]


@pytest.mark.parametrize(("model", "type_"), BROKEN)
async def test_a_stream_that_breaks_says_so_and_is_settled(stack: EdgeStack, model: str, type_: str) -> None:
    async with stack.streamed(await stack.key(), model=model) as answer:
        assert answer.status_code == 200
        seen = await events(answer)
    assert "[DONE]" not in seen
    shown = {"upstream_error": "server_error"}.get(type_, type_)  # the provider's own words reach the agent
    assert seen[-1]["error"]["type"] == shown
    assert len(seen) > 1
    completed = await stack.ending(answer.headers["x-request-id"])
    assert (completed.outcome, completed.usage, completed.usage_source) == (type_, None, "bound")
    assert completed.response_commitment


async def test_a_stream_that_fails_at_once_is_no_stream(stack: EdgeStack) -> None:
    for model, status, type_ in (("sim-cut", 502, "upstream_cut"), ("sim-500", 500, "server_error")):
        async with stack.streamed(await stack.key(), model=model) as answer:
            await answer.aread()
        assert (answer.status_code, answer.json()["error"]["type"]) == (status, type_)


async def test_no_usage_counts_as_the_reservation(stack: EdgeStack) -> None:
    async with stack.streamed(await stack.key(), model="sim-no-usage") as answer:
        assert (await events(answer))[-1] == "[DONE]"
    completed = await stack.ending(answer.headers["x-request-id"])
    assert (completed.outcome, completed.usage) == ("ok", None)


async def test_an_agent_that_hangs_up_is_settled_at_what_was_used(stack: EdgeStack) -> None:
    async with stack.streamed(await stack.key(), metadata={"sim": '{"chunk_delay_s": 0.05}'}) as answer:
        async for _ in answer.aiter_lines():
            break
    completed = await stack.ending(answer.headers["x-request-id"])
    assert (completed.outcome, completed.usage_source) == ("agent_gone", "provider")
    booked = [entry for entry in (await stack.books())["entries"] if entry["stream"]][-1]
    assert completed.usage.tokens == booked["prompt_tokens"] + booked["completion_tokens"]
    assert booked["outcome"] == "finished"


async def test_a_stream_past_its_reservation_is_cut(stack: EdgeStack) -> None:
    behaviour = json.dumps({"completion_tokens": 20_000, "chunks": 200, "chunk_delay_s": 0.01})
    async with stack.streamed(await stack.key(), max_tokens=8, metadata={"sim": behaviour}) as answer:
        seen = await events(answer)
    assert seen[-1]["error"]["type"] == "stream_over_reservation"
    assert len(seen) < 150


async def test_a_revocation_cuts_a_running_stream_within_a_second(stack: EdgeStack) -> None:
    key = await stack.key()
    async with stack.streamed(key, model="sim-slow-chunks") as answer:
        lines = answer.aiter_lines()
        await anext(lines)
        began = time.monotonic()
        await stack.revoke(key)
        rest = [line async for line in lines]
    assert within(time.monotonic() - began, 1.0)
    assert '"stream_revoked"' in rest[-2] + rest[-1]
    completed = await stack.ending(answer.headers["x-request-id"])
    assert completed.outcome == "stream_revoked"


async def test_pieces_are_not_held_back(stack: EdgeStack) -> None:
    async with stack.streamed(await stack.key(), metadata={"sim": '{"chunk_delay_s": 0.1, "chunks": 5}'}) as answer:
        at = [time.monotonic() async for line in answer.aiter_lines() if line.startswith("data: ")]
    assert max(later - earlier for earlier, later in pairwise(at)) > 0.05


async def test_an_agent_that_does_not_read_holds_nothing_up(stack: EdgeStack) -> None:
    """Its socket is full; the request ends at its deadline and is settled."""
    reader, writer = await asyncio.open_connection("127.0.0.1", stack.edge_port, limit=1024)
    key = await stack.key()
    sim = json.dumps({"content": "x" * 1000, "chunks": 4000, "completion_tokens": 4000})
    body = json.dumps(
        {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": "x"}], "metadata": {"sim": sim}}
    ).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key.text}\r\n"
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    first = await reader.readuntil(b"\r\n\r\n")
    request_id = next(
        line.split(b": ")[1] for line in first.split(b"\r\n") if line.startswith(b"x-request-id")
    ).decode()
    completed = await stack.ending(request_id)
    writer.close()
    assert completed.outcome in {"stream_over_deadline", "ok", "agent_gone"}
