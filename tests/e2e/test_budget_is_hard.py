"""The promise of a hard budget, held against the provider's own books."""

import asyncio
from collections.abc import Callable
from decimal import Decimal

import httpx

from keyforge.testkit.gateway import Gateway, error_of
from keyforge.testkit.reckoning import reckon

ASKED = 200
AFFORDED = 50


def usd(nusd: int) -> str:
    return str(Decimal(nusd) / 10**9)


async def all_at_once(gateway: Gateway, headers: dict[str, str], body: dict[str, object]) -> list[httpx.Response]:
    limits = httpx.Limits(max_connections=ASKED)
    url = f"{gateway.stack.url('edge')}/v1/chat/completions"
    async with httpx.AsyncClient(timeout=60, limits=limits) as client:
        return await asyncio.gather(*[client.post(url, json=body, headers=headers) for _ in range(ASKED)])


def test_200_ask_at_once_and_50_can_be_afforded(gateway: Gateway, new_tenant: Callable[[Gateway], str]) -> None:
    tenant, model = new_tenant(gateway), "sim-exact"
    gateway.operator("keys", "PUT", f"/v1/prices/sim/{model}", {"input_per_mtok": "1", "output_per_mtok": "2"})
    body: dict[str, object] = {
        "model": f"sim/{model}",
        "messages": [{"role": "user", "content": "what does the worst case cost?"}],
        "max_tokens": 100,
    }
    probe = gateway.key(tenant)
    assert gateway.chat(probe, **body).status_code == 200
    (asked,) = reckon(gateway.stack).account(probe.id).requests.values()
    worst = asked.admitted.reserved.nusd
    # from here on the provider bills exactly what was reserved
    bill = {"prompt_tokens": asked.admitted.reserved.tokens - 100, "completion_tokens": 100}
    gateway.script(bill, model=model)

    key = gateway.key(tenant, [{"unit": "usd", "window": "total", "cap": usd(AFFORDED * worst)}])
    before = gateway.books()["requests"]
    answers = asyncio.run(all_at_once(gateway, key.headers, body))

    refused = [answer for answer in answers if answer.status_code != 200]
    assert len(answers) - len(refused) == AFFORDED
    assert {answer.status_code for answer in refused} == {402}
    assert {error_of(answer)["type"] for answer in refused} == {"budget_exceeded"}
    assert {answer.headers["x-should-retry"] for answer in refused} == {"false"}
    entries = gateway.books(before)["entries"]
    assert len(entries) == AFFORDED
    gateway.wait_settled(key)
    account = reckon(gateway.stack).account(key.id)
    billed = sum(entry["prompt_tokens"] * 1_000 + entry["completion_tokens"] * 2_000 for entry in entries)
    assert account.settled_nusd == billed == AFFORDED * worst
    assert account.peak_nusd <= AFFORDED * worst


def test_what_a_request_did_not_use_is_free_again(gateway: Gateway, new_tenant: Callable[[Gateway], str]) -> None:
    key = gateway.key(new_tenant(gateway), [{"unit": "usd", "window": "total", "cap": "0.01"}])
    for _ in range(5):
        assert gateway.chat(key, max_tokens=4000).status_code == 200
        gateway.wait_settled(key)
    account = reckon(gateway.stack).account(key.id)
    reserved = sum(request.admitted.reserved.nusd for request in account.requests.values())
    assert account.settled_nusd < 10_000_000 < reserved


def test_every_unit_is_held_on_key_and_tenant(gateway: Gateway, new_tenant: Callable[[Gateway], str]) -> None:
    tenant = new_tenant(gateway)
    requests = gateway.key(tenant, [{"unit": "requests", "window": "day", "cap": 2}])
    tokens = gateway.key(tenant, [{"unit": "tokens", "window": "minute", "cap": 1000}])
    assert [gateway.chat(requests).status_code for _ in range(3)] == [200, 200, 429]
    assert error_of(gateway.chat(requests))["type"] == "quota_exceeded"
    answers = [gateway.chat(tokens, model="sim/sim-worst", max_tokens=100) for _ in range(12)]
    answer = answers[-1]
    assert answers[0].status_code == 200
    assert (answer.status_code, error_of(answer)["type"]) == (429, "tokens_limited")
    assert int(answer.headers["retry-after"]) <= 60
    gateway.operator(
        "keys", "PATCH", f"/v1/tenants/{tenant}", {"limits": [{"unit": "usd", "window": "day", "cap": "0"}]}
    )
    free = gateway.key(tenant)
    answer = gateway.chat(free)
    assert (answer.status_code, error_of(answer)["metadata"]["scope"]) == (402, "tenant")


def test_concurrency_counts_open_requests(gateway: Gateway, new_tenant: Callable[[Gateway], str]) -> None:
    key = gateway.key(new_tenant(gateway), [{"unit": "concurrency", "window": "total", "cap": 1}])
    url = f"{gateway.stack.url('edge')}/v1/chat/completions"
    body = {"model": "sim/sim-slow", "messages": [{"role": "user", "content": "x"}]}

    async def two() -> list[httpx.Response]:
        async with httpx.AsyncClient(timeout=30) as client:
            return await asyncio.gather(*[client.post(url, json=body, headers=key.headers) for _ in range(2)])

    answers = sorted(asyncio.run(two()), key=lambda answer: answer.status_code)
    assert [answer.status_code for answer in answers] == [200, 429]
    assert error_of(answers[1])["type"] == "concurrency_limited"
    gateway.wait_settled(key)
    assert gateway.chat(key).status_code == 200


def test_an_agent_that_asks_right_behind_its_answer_is_not_refused(
    gateway: Gateway, new_tenant: Callable[[Gateway], str]
) -> None:
    """One at a time, on a key that affords one at a time: what was just used is settled before it is held against."""
    tenant = new_tenant(gateway)
    single = gateway.key(tenant, [{"unit": "concurrency", "window": "total", "cap": 1}])
    assert {gateway.chat(single).status_code for _ in range(40)} == {200}
    tight = gateway.key(tenant, [{"unit": "usd", "window": "total", "cap": "0.004"}])  # reserves 0.0025, uses 0.00001
    assert {gateway.chat(tight).status_code for _ in range(40)} == {200}
