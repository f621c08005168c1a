"""What a load balancer is shown: an edge that is to end drains; one whose owners are away is ready all the same."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from keyforge.contracts.events import RequestCompleted
from tests.integration.edge_stack import EdgeStack
from tests.integration.edge_wire import Connection, body, request
from tests.pace import within

SLOW = '{"chunk_delay_s": 0.3, "completion_tokens": 100, "chunks": 100}'

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EdgeStack]:
    async with EdgeStack(
        tmp_path_factory.mktemp("edge"), KEYFORGE_ANSWER_TIME_LIMIT_S="20", KEYFORGE_OWNER_TIME_LIMIT_S="1"
    ) as running:
        yield running


async def test_an_edge_that_is_asked_to_end_records_how_its_streams_ended(stack: EdgeStack) -> None:
    key = await stack.key()
    async with stack.streamed(key, metadata={"sim": SLOW}) as answer:
        lines = answer.aiter_lines()
        await anext(lines)
        began = time.monotonic()
        assert await asyncio.to_thread(stack.stop, "edge") == 0
        assert within(time.monotonic() - began, 4.5), "its time to end is set to 2 s, not 10"
        rest = [line async for line in lines]
    assert any('"shutting_down"' in line for line in rest), "an agent is told why its stream ends"
    assert "data: [DONE]" not in rest
    completed = await stack.ending(answer.headers["x-request-id"])
    assert isinstance(completed, RequestCompleted)
    assert (completed.outcome, completed.usage) == ("shutting_down", None)
    stack.start_edge()
    await stack.ready()


async def test_an_edge_that_is_asked_to_end_drains(stack: EdgeStack) -> None:
    """Requests and streams go on, new ones are served, and each answer ends its connection."""
    key, delay_s = await stack.key(), 1.0
    assert await asyncio.to_thread(stack.stop, "edge") == 0
    stack.start_edge(KEYFORGE_SHUTDOWN_DELAY_S=str(delay_s), KEYFORGE_SHUTDOWN_TIME_LIMIT_S="60")
    await stack.ready()
    process = stack.processes["edge"]
    assert "connection" not in (await stack.chat(key)).headers
    finite = '{"chunk_delay_s": 0.3, "completion_tokens": 10, "chunks": 10}'
    async with stack.streamed(key, metadata={"sim": finite}) as answer:
        lines = answer.aiter_lines()
        await anext(lines)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        ready = await stack.until(lambda: stack.edge.get("/readyz"), lambda answer: answer.status_code == 503)
        assert [name for name, passed in ready.json()["checks"].items() if not passed] == ["in_service"]
        assert ready.headers["connection"] == "close"
        served = 0
        while time.monotonic() - began < delay_s / 2:
            for _ in range(2):
                chat = await stack.chat(key)
                assert (chat.status_code, chat.headers["connection"]) == (200, "close")
                served += 1
        assert served >= 2
        rest = [line async for line in lines]
    assert "data: [DONE]" in rest
    assert not any('"error"' in line for line in rest)
    assert time.monotonic() - began >= delay_s
    assert await asyncio.to_thread(process.wait, 60) == 0
    completed = await stack.ending(answer.headers["x-request-id"])
    assert (completed.outcome, completed.usage_source) == ("ok", "provider")
    del stack.processes["edge"]
    stack.start_edge()
    await stack.ready()


async def test_what_waits_for_a_whole_answer_at_the_limit_is_told_so_and_settled(stack: EdgeStack) -> None:
    key = await stack.key()
    before = (await stack.books())["requests"]
    hanging = asyncio.create_task(stack.chat(key, metadata={"sim": '{"first_byte_delay_s": 60}'}))
    await stack.until(lambda: stack.sim.get("/_sim/books"), lambda answer: bool(answer.json()["requests"] > before))
    async with Connection(stack) as half:
        half.writer.write(request(key, body())[:-5])
        await half.writer.drain()
        assert await asyncio.to_thread(stack.stop, "edge") == 0
        status, headers, refused = await half.answer()
    assert (status, json.loads(refused)["error"]["type"]) == (503, "shutting_down"), "its body had not come"
    assert headers["connection"] == "close"
    answer = await hanging
    assert (answer.status_code, answer.json()["error"]["type"]) == (503, "shutting_down")
    completed = await stack.ending(answer.headers["x-request-id"])
    assert isinstance(completed, RequestCompleted), "the provider may have served it"
    assert completed.usage_source == "bound"
    stack.start_edge()
    await stack.ready()


@pytest.mark.slow
async def test_an_edge_that_ends_while_the_log_hangs_fails(stack: EdgeStack) -> None:
    """The daily tests of the same without processes: tests/unit/test_edge_background.py."""
    key, before = await stack.key(), (await stack.books())["requests"]
    asked = asyncio.create_task(stack.chat(key, metadata={"sim": '{"first_byte_delay_s": 0.5}'}))
    await stack.until(lambda: stack.sim.get("/_sim/books"), lambda answer: bool(answer.json()["requests"] > before))
    logged = len(stack.output("edge"))
    await asyncio.to_thread(stack.node.pause)
    try:
        assert (await asked).status_code == 200
        assert await asyncio.to_thread(stack.stop, "edge") == 1
    finally:
        stack.node.resume()
    output = stack.output("edge")[logged:]
    [line] = [json.loads(line) for line in output.splitlines() if '"outcomes were not stored"' in line]
    assert (line["level"], line["count"]) == ("critical", 1)
    assert '"exception"' not in output
    stack.start_edge()
    await stack.ready()


async def test_a_partition_without_an_owner_makes_no_edge_unready(stack: EdgeStack) -> None:
    key = await stack.key()
    assert stack.stop("budget") == 0
    ready = await stack.until(
        lambda: stack.edge.get("/readyz"), lambda answer: "partitions_unavailable" in answer.json()["details"]
    )
    assert ready.status_code == 200
    assert ready.json()["details"]["partitions_unavailable"]["0"] == ["owner"]
    metrics = (await stack.edge.get("/metrics")).text
    assert 'keyforge_edge_partition_unavailable{lacks="owner",partition="0"} 1.0' in metrics
    refused = await stack.chat(key)
    assert (refused.status_code, refused.json()["error"]["type"]) == (503, "owner_unavailable")
    assert int(refused.headers["retry-after"]) > 0
    stack.start_budget()
    await stack.until(lambda: stack.chat(key), lambda answer: answer.status_code == 200)
    ready = await stack.until(lambda: stack.edge.get("/readyz"), lambda answer: not answer.json()["details"])
    assert ready.status_code == 200
