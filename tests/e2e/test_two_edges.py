"""Two edges of one stack: one budget, one revocation, and what becomes of the requests of one that is killed."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from keyforge.testkit.another_edge import AnotherEdge, another_edge
from keyforge.testkit.gateway import Gateway, Issued, error_of, gateway_of
from keyforge.testkit.reckoning import reckon
from keyforge.testkit.stack import Stack
from tests.pace import within

pytestmark = pytest.mark.stack

ASKED = 200
AFFORDED = 50
OUTPUT_TOKENS = 100
TIME_LIMIT_S = 3
GRACE_S = 1
CUT_WITHIN_S = 1.0
"""For what else this machine does."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A stack of this file's own: an abandoned request is settled soon."""
    stack = Stack(
        tmp_path_factory.mktemp("edges") / "home",
        environment={"KEYFORGE_ABANDON_GRACE_S": str(GRACE_S), "KEYFORGE_PARTITIONS": "4"},
    )
    try:
        stack.start()
        with gateway_of(stack) as opened:
            yield opened
    finally:
        stack.stop()


@pytest.fixture
def other(gateway: Gateway, tmp_path: Path) -> Iterator[AnotherEdge]:
    with another_edge(gateway.stack, tmp_path, KEYFORGE_REQUEST_TIME_LIMIT_S="30") as edge:
        yield edge


def usd(nusd: int) -> str:
    return str(Decimal(nusd) / 10**9)


def body(model: str, **fields: object) -> dict[str, object]:
    messages = [{"role": "user", "content": "what does the worst case cost?"}]
    return {"model": f"sim/{model}", "messages": messages, "max_tokens": OUTPUT_TOKENS, **fields}


def worst_case(gateway: Gateway, tenant: str, model: str, **fields: object) -> tuple[int, dict[str, int]]:
    """Price a model; return what a request of it reserves, and the bill that is exactly that."""
    gateway.operator("keys", "PUT", f"/v1/prices/sim/{model}", {"input_per_mtok": "1", "output_per_mtok": "2"})
    probe = gateway.key(tenant)
    assert gateway.chat(probe, **body(model, **fields)).status_code == 200
    (asked,) = reckon(gateway.stack).account(probe.id).requests.values()
    reserved = asked.admitted.reserved
    return reserved.nusd, {"prompt_tokens": reserved.tokens - OUTPUT_TOKENS, "completion_tokens": OUTPUT_TOKENS}


async def at_once(urls: Sequence[str], count: int, key: Issued, asked: dict[str, object]) -> list[httpx.Response]:
    """Ask so many times at once, of each in turn."""
    async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=count)) as client:
        return await asyncio.gather(
            *(
                client.post(f"{urls[number % len(urls)]}/v1/chat/completions", json=asked, headers=key.headers)
                for number in range(count)
            )
        )


@asynccontextmanager
async def streams(
    client: httpx.AsyncClient, urls: Sequence[str], key: Issued, model: str
) -> AsyncIterator[list[AsyncIterator[str]]]:
    """Open a stream at each of these, all with their first words; yield what reads the rest of each."""
    answers: list[httpx.Response] = []
    try:
        for url in urls:
            asked = client.build_request(
                "POST", f"{url}/v1/chat/completions", json=body(model, stream=True), headers=key.headers
            )
            answers.append(await client.send(asked, stream=True))
            assert answers[-1].status_code == 200
        rests = [answer.aiter_lines() for answer in answers]
        for rest in rests:
            assert (await anext(rest)).startswith("data: ")
        yield rests
    finally:
        for answer in answers:
            await answer.aclose()


def test_200_ask_two_edges_at_once_and_50_can_be_afforded(gateway: Gateway, other: AnotherEdge) -> None:
    gateway.tenant("shared")
    worst, bill = worst_case(gateway, "shared", "sim-exact")
    gateway.script(bill, model="sim-exact")
    urls = (gateway.stack.url("edge"), other.url)
    cap = (len(urls) + AFFORDED) * worst
    key = gateway.key("shared", [{"unit": "usd", "window": "total", "cap": usd(cap)}])
    before = gateway.books()["requests"]
    # one each, so that both have spent of it: of those that ask at once, the first 50 may all be of one edge
    firsts = asyncio.run(at_once(urls, len(urls), key, body("sim-exact")))
    assert {answer.status_code for answer in firsts} == {200}
    answers = asyncio.run(at_once(urls, ASKED, key, body("sim-exact")))

    served = [answer for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code != 200]
    assert len(served) == AFFORDED
    assert {(answer.status_code, error_of(answer)["type"]) for answer in refused} == {(402, "budget_exceeded")}
    entries = gateway.books(before)["entries"]
    assert len(entries) == len(urls) + AFFORDED
    gateway.wait_settled(key)
    account = reckon(gateway.stack).account(key.id)
    billed = sum(entry["prompt_tokens"] * 1_000 + entry["completion_tokens"] * 2_000 for entry in entries)
    assert account.settled_nusd == billed == cap
    assert account.peak_nusd <= cap
    assert {request.admitted.edge for request in account.requests.values()} == {"edge-0", "edge-1"}


def test_a_revoke_holds_on_both_edges_and_cuts_a_stream_on_each(gateway: Gateway, other: AnotherEdge) -> None:
    gateway.tenant("ended")
    key = gateway.key("ended")
    gateway.operator("keys", "PUT", "/v1/prices/sim/sim-long", {"input_per_mtok": "1", "output_per_mtok": "2"})
    gateway.script({"chunk_delay_s": 0.1, "chunks": 200}, model="sim-long")
    urls = (gateway.stack.url("edge"), other.url)

    async def last(rest: AsyncIterator[str]) -> tuple[float, str]:
        """Read a stream to its end; return when that was, and its last words."""
        said = [line async for line in rest if line.startswith("data: ")]
        return time.monotonic(), said[-1]

    async def run() -> tuple[float, list[tuple[float, str]], list[httpx.Response]]:
        async with httpx.AsyncClient(timeout=30) as client, streams(client, urls, key, "sim-long") as rests:
            reading = [asyncio.create_task(last(rest)) for rest in rests]
            await asyncio.to_thread(gateway.revoke, key)
            revoked = time.monotonic()
            return revoked, list(await asyncio.gather(*reading)), await at_once(urls, 4, key, body("sim-small"))

    revoked, ends, answers = asyncio.run(run())
    for ended, said in ends:
        assert within(ended - revoked, CUT_WITHIN_S)
        assert json.loads(said.removeprefix("data: "))["error"]["type"] == "stream_revoked"
    assert {(answer.status_code, error_of(answer)["type"]) for answer in answers} == {(401, "key_revoked")}
    assert reckon(gateway.stack).account(key.id).admitted_after_revoke == 0


def test_one_edge_killed_the_other_goes_on_and_nothing_is_spent_twice(gateway: Gateway, tmp_path: Path) -> None:
    gateway.tenant("killed")
    worst, bill = worst_case(gateway, "killed", "sim-held", stream=True)
    open_, afforded = 4, 10
    gateway.script({"hang_after_chunks": 3}, model="sim-held", times=open_)
    gateway.script(bill, model="sim-held")
    key = gateway.key("killed", [{"unit": "usd", "window": "total", "cap": usd(afforded * worst)}])
    bystander = gateway.key("killed")
    edge = gateway.stack.url("edge")

    async def run(victim: AnotherEdge) -> list[httpx.Response]:
        async with httpx.AsyncClient(timeout=30) as client, streams(client, [victim.url] * open_, key, "sim-held"):
            await asyncio.to_thread(victim.kill)
        return await at_once([edge], 2 * afforded, key, body("sim-held", stream=True))

    with another_edge(gateway.stack, tmp_path, KEYFORGE_REQUEST_TIME_LIMIT_S=str(TIME_LIMIT_S)) as victim:
        answers = asyncio.run(run(victim))
    assert sorted(answer.status_code for answer in answers) == [200] * (afforded - open_) + [402] * (afforded + open_)
    assert gateway.chat(bystander).status_code == 200

    gateway.wait_settled(key, within_s=TIME_LIMIT_S + GRACE_S + 60)
    account = reckon(gateway.stack).account(key.id)
    ends = [(request.admitted.edge, request.terminal) for request in account.requests.values()]
    assert sorted(ends) == [("edge-0", "completed")] * (afforded - open_) + [("edge-1", "abandoned")] * open_
    assert account.settled_nusd == account.peak_nusd == afforded * worst
    assert gateway.chat(key).status_code == 402
    assert gateway.chat(bystander).status_code == 200
