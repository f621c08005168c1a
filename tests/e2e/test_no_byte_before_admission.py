"""No byte goes to a provider before the admission is acknowledged: the owner or the log is gone at that moment."""

import asyncio
import time
from collections.abc import Callable

import httpx
import pytest

from keyforge.testkit.gateway import Gateway, gateway_of
from keyforge.testkit.reckoning import reckon
from keyforge.testkit.stack import Stack

BURST = 40
EDGE_GIVES_UP_S = 45.0


async def burst(gateway: Gateway, headers: dict[str, str]) -> list[httpx.Response | Exception]:
    url = f"{gateway.stack.url('edge')}/v1/chat/completions"
    body = {"model": "sim/sim-small", "messages": [{"role": "user", "content": "hello"}]}

    async def one(client: httpx.AsyncClient) -> httpx.Response | Exception:
        try:
            return await client.post(url, json=body, headers=headers)
        except httpx.HTTPError as error:
            return error

    async with httpx.AsyncClient(timeout=EDGE_GIVES_UP_S, limits=httpx.Limits(max_connections=BURST)) as client:
        return await asyncio.gather(*[one(client) for _ in range(BURST)])


@pytest.mark.parametrize("gone", ["budget", "nats"])
def test_nothing_reaches_the_provider_while_nobody_can_admit(
    stack: Stack, new_tenant: Callable[[Gateway], str], gone: str
) -> None:
    with gateway_of(stack) as gateway:
        key = gateway.key(new_tenant(gateway), [{"unit": "usd", "window": "day", "cap": "5"}])
        begin = gateway.books()["requests"]
        assert gateway.chat(key).status_code == 200
        before = gateway.books()["requests"]
        with stack.paused(gone):  # alive, and silent: the worst moment to be asked
            answers = asyncio.run(burst(gateway, key.headers))
            assert gateway.books()["requests"] == before
            assert {answer.status_code for answer in answers if isinstance(answer, httpx.Response)} == {503}
        stack.wait_healthy("budget")
        stack.wait_healthy("edge")
        deadline = time.monotonic() + 60
        while gateway.chat(key).status_code != 200:
            assert time.monotonic() < deadline
        gateway.wait_settled(key)
        account = reckon(stack).account(key.id)
        answered = [request for request in account.requests.values() if request.terminal == "completed"]
        assert len(answered) == gateway.books()["requests"] - begin
        assert account.settled_nusd == sum(request.settled_nusd or 0 for request in answered)  # the rest cost nothing


def test_a_late_owner_costs_the_customer_nothing(stack: Stack, new_tenant: Callable[[Gateway], str]) -> None:
    with gateway_of(stack) as gateway:
        key = gateway.key(new_tenant(gateway), [{"unit": "usd", "window": "day", "cap": "5"}])
        begin = gateway.books()["requests"]

        async def under_load() -> list[httpx.Response | Exception]:
            load = asyncio.gather(*[burst(gateway, key.headers) for _ in range(3)])
            await asyncio.sleep(0.05)  # some are admitted, some are on their way
            with stack.paused("budget"):
                await asyncio.sleep(5)  # the five seconds are the case under test
            return [answer for answers in await load for answer in answers]

        answers = asyncio.run(under_load())
        gateway.wait_settled(key)
        served = [answer for answer in answers if isinstance(answer, httpx.Response) and answer.status_code == 200]
        account = reckon(stack).account(key.id)
        completed = [request for request in account.requests.values() if request.terminal == "completed"]
        assert len(served) == len(completed) == gateway.books()["requests"] - begin
        assert {request.terminal for request in account.requests.values()} <= {"completed", "cancelled"}
        (limit,) = gateway.limits(key)
        assert round(float(limit["settled"]) * 10**9) == account.settled_nusd


@pytest.mark.parametrize("killed", ["budget", "nats"])
def test_killed_in_the_middle_of_being_asked(stack: Stack, new_tenant: Callable[[Gateway], str], killed: str) -> None:
    """kill -9 while asks are on their way: the provider sees those whose admission is in the log, and no other."""
    with gateway_of(stack) as gateway:
        key = gateway.key(new_tenant(gateway), [{"unit": "usd", "window": "day", "cap": "5"}])
        begin = gateway.books()["requests"]

        async def under_load() -> None:
            load = asyncio.gather(*[burst(gateway, key.headers) for _ in range(5)])
            await asyncio.sleep(0.03)  # the first are admitted, the rest are being asked for
            stack.kill(killed)
            await load

        asyncio.run(under_load())
        for service in ("nats", "budget", "edge"):
            stack.wait_healthy(service)
        gateway.wait_settled(key)
        seen = gateway.books()["requests"] - begin
        requests = reckon(stack).account(key.id).requests.values()
        assert seen == sum(1 for request in requests if request.terminal == "completed")
        assert {request.terminal for request in requests} <= {"completed", "cancelled"}
        assert sum(request.settled_nusd or 0 for request in requests if request.terminal == "cancelled") == 0
