"""Nothing is admitted after the revoke call returned, and running streams are cut within a second."""

import asyncio
import json
import time
from collections.abc import Callable

import httpx

from keyforge.testkit.gateway import Gateway, error_of
from keyforge.testkit.reckoning import reckon
from tests.pace import within

CUT_WITHIN_S = 1.0
WORKERS = 8


def test_a_revoke_under_load(gateway: Gateway, new_tenant: Callable[[Gateway], str]) -> None:
    key = gateway.key(new_tenant(gateway))
    url = f"{gateway.stack.url('edge')}/v1/chat/completions"
    body = {"model": "sim/sim-small", "messages": [{"role": "user", "content": "hello"}]}
    answers: list[tuple[float, httpx.Response]] = []

    async def agent(client: httpx.AsyncClient, until: float) -> None:
        while time.monotonic() < until:
            asked = time.monotonic()
            answers.append((asked, await client.post(url, json=body, headers=key.headers)))

    async def load() -> float:
        until = time.monotonic() + 2
        async with httpx.AsyncClient(timeout=30) as client:
            agents = [asyncio.create_task(agent(client, until)) for _ in range(WORKERS)]
            await asyncio.sleep(1)
            await asyncio.to_thread(gateway.revoke, key)
            revoked = time.monotonic()
            await asyncio.gather(*agents)
        return revoked

    revoked = asyncio.run(load())
    before = [answer.status_code for asked, answer in answers if asked < revoked]
    after = [answer for asked, answer in answers if asked >= revoked]
    assert 200 in before
    assert {answer.status_code for answer in after} == {401}
    assert {error_of(answer)["type"] for answer in after} == {"key_revoked"}
    assert reckon(gateway.stack).account(key.id).admitted_after_revoke == 0


def test_a_running_stream_is_cut(gateway: Gateway, new_tenant: Callable[[Gateway], str]) -> None:
    key = gateway.key(new_tenant(gateway))
    gateway.script({"chunk_delay_s": 0.1, "chunks": 200}, model="sim-slow-chunks")
    body = {"model": "sim/sim-slow-chunks", "messages": [{"role": "user", "content": "hello"}], "stream": True}
    url = f"{gateway.stack.url('edge')}/v1/chat/completions"
    with httpx.stream("POST", url, json=body, headers=key.headers, timeout=30) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("data: ")
        gateway.revoke(key)
        revoked = time.monotonic()
        rest = [line for line in lines if line.startswith("data: ")]
        assert within(time.monotonic() - revoked, CUT_WITHIN_S)
    assert json.loads(rest[-1][6:])["error"]["type"] == "stream_revoked"
