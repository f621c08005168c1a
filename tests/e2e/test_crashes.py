"""kill -9 of each service in turn, under load: nothing acknowledged is lost, nothing counted twice, the chain holds."""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import httpx
import pytest

from keyforge.testkit.gateway import Gateway, Issued, gateway_of
from keyforge.testkit.nats_server import wait_until
from keyforge.testkit.reckoning import Reckoning, reckon
from keyforge.testkit.stack import Stack

pytestmark = pytest.mark.stack

VICTIMS = ("edge", "budget", "audit", "keys", "nats")
WORKERS = 16
CAP_NUSD = 2_000_000_000
REQUEST_TIME_LIMIT_S = 8
ABANDON_GRACE_S = 2
LOAD_AROUND_S = 1.5
REBUILT_WITHIN_S = 60


class Load:
    """Agents that go on asking, on three keys, JSON and streams, whatever happens."""

    def __init__(self, url: str, keys: list[Issued]) -> None:
        self.url, self.keys = url, keys
        self.going = True
        self.served: list[str] = []

    async def agent(self, client: httpx.AsyncClient, number: int) -> None:
        key, stream = self.keys[number % len(self.keys)], number % 4 == 0
        body = {"model": "sim/sim-small", "messages": [{"role": "user", "content": "hello"}], "stream": stream}
        while self.going:
            with suppress(httpx.HTTPError):
                answer = await client.post(self.url, json=body, headers=key.headers)
                if answer.status_code == 200 and (not stream or "[DONE]" in answer.text):
                    self.served.append(answer.headers["x-request-id"])
                    continue
            await asyncio.sleep(0.05)  # what is down is not asked in a tight loop


async def under_load(stack: Stack, keys: list[Issued], hurt: Callable[[], None]) -> list[str]:
    """Hurt the stack in the middle of a load; return the ids of the requests that agents got whole answers to."""
    load = Load(f"{stack.url('edge')}/v1/chat/completions", keys)
    async with httpx.AsyncClient(timeout=20, limits=httpx.Limits(max_connections=WORKERS)) as client:
        agents = [asyncio.create_task(load.agent(client, number)) for number in range(WORKERS)]
        await asyncio.sleep(LOAD_AROUND_S)
        try:
            await asyncio.to_thread(hurt)
            await asyncio.sleep(LOAD_AROUND_S)
        finally:
            load.going = False
            await asyncio.gather(*agents)
    return load.served


def check_books(gateway: Gateway, log: Reckoning, keys: list[Issued], served: list[str]) -> None:
    """Hold the log against what agents were told and what the provider billed."""
    admitted = {request_id: request for key in keys for request_id, request in log.account(key.id).requests.items()}
    assert not log.admitted_twice
    assert not log.unread
    assert set(served) <= set(admitted)  # no acknowledged admission is lost
    assert all(request.terminal is not None for request in admitted.values())
    billed = sum(
        entry["prompt_tokens"] * 150 + entry["completion_tokens"] * 600 for entry in gateway.billed("sim-small")
    )
    assert sum(log.account(key.id).settled_nusd for key in keys) >= billed
    for key in keys:
        account = log.account(key.id)
        assert account.settled_nusd <= account.peak_nusd <= CAP_NUSD
        (limit,) = gateway.limits(key)
        assert round(float(limit["settled"]) * 10**9) == account.settled_nusd


def check_audit(gateway: Gateway, log: Reckoning, keys: list[Issued]) -> None:
    """Hold the chain and ClickHouse against the log."""
    for key in keys:
        gateway.wait_audited(key, log.account(key.id).settled_nusd)
        assert gateway.verdict(key).startswith("VALID")
    assert sum(gateway.spent_nusd(keys[0].tenant).values()) == sum(log.account(key.id).settled_nusd for key in keys)


def check_rebuild(gateway: Gateway) -> None:
    """Throw audit's tables away and fold the log from zero: the same must come out."""
    gateway.operator("audit", "POST", "/v1/rebuild")

    def done() -> dict[str, Any] | None:
        told: dict[str, Any] = gateway.operator("audit", "GET", "/v1/rebuild")
        assert told["state"] != "failed", told
        return told if told["state"] == "done" else None

    told = wait_until(done, "the rebuild to end", timeout_s=REBUILT_WITHIN_S)
    assert told["identical"], told["differences"]


@pytest.mark.timeout(900)
def test_kill_9_of_each_in_turn(new_stack: Callable[..., Stack]) -> None:
    stack = new_stack(
        KEYFORGE_PARTITIONS="4",  # more than the one in use: each must find its owner again
        KEYFORGE_REQUEST_TIME_LIMIT_S=str(REQUEST_TIME_LIMIT_S),
        KEYFORGE_ABANDON_GRACE_S=str(ABANDON_GRACE_S),
    )
    stack.start()
    with gateway_of(stack) as gateway:
        gateway.tenant("crash")
        limit = {"unit": "usd", "window": "total", "cap": str(CAP_NUSD // 10**9)}
        keys = [gateway.key("crash", [limit]) for _ in range(3)]
        served: list[str] = []
        for victim in VICTIMS:
            served += asyncio.run(under_load(stack, keys, partial(stack.restart, victim)))
            for service in ("keys", "budget", "audit", "edge"):
                stack.wait_healthy(service)
        assert len(served) > len(VICTIMS) * WORKERS
        for key in keys:
            gateway.wait_settled(key, within_s=REQUEST_TIME_LIMIT_S + ABANDON_GRACE_S + 20)
        log = reckon(stack)
        check_books(gateway, log, keys, served)
        check_audit(gateway, log, keys)
        check_rebuild(gateway)
        assert json.loads((stack.home / "ready.json").read_text())["pids"].keys() >= set(VICTIMS)
