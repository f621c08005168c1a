"""Budget's API for operators: limits and partitions, from the owner and from a standby."""

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from keyforge.contracts.events import Event
from keyforge.contracts.ids import KeyId
from keyforge.eventlog.log import Message
from keyforge.testkit.nats_server import NatsNode
from tests.integration.budget_stack import World, until, world_on
from tests.unit.budget_facts import ask, cap, completed, key_created, key_revoked, tenant_created

HISTORY: tuple[Event, ...] = (
    tenant_created(cap("requests", "minute", 100)),
    key_created(cap("usd", "month", 5_000_000_000), cap("concurrency", "total", 3)),
)


@pytest.fixture
async def world(nats_own: Callable[..., NatsNode]) -> AsyncIterator[World]:
    async with world_on(nats_own()) as made:
        yield made


async def test_limits_of_a_key(world: World) -> None:
    await world.ctl(*HISTORY)
    async with world.owner() as owner, world.http(owner) as http:
        await world.ask(ask(1, 1_500_000_000), ask(2, 250_000_000))
        await world.use(completed(2, 100_000_000))
        ledger = owner.partitions[0].replica.ledger
        await until(lambda: len(ledger.open) == 1, "one is open")
        answer = await http.get("/v1/tenants/acme/keys/key1/limits")
        assert answer.status_code == 200
        assert answer.headers["x-request-id"] == answer.headers["request-id"]
        body = answer.json()
        assert (body["tenant"], body["key_id"], body["status"]) == ("acme", "key1", "active")
        assert (body["owner"], body["partition"], body["position"]) == (True, 0, ledger.sequence)
        money, concurrency, requests = body["limits"]
        assert money["window_start"].startswith("20")
        assert money["window_start"] < money["window_end"]
        del money["window_start"], money["window_end"]
        assert money == {
            "scope": "key",
            "unit": "usd",
            "window": "month",
            "cap": "5",
            "settled": "0.1",
            "reserved": "1.5",
            "remaining": "3.4",
        }
        assert (concurrency["settled"], concurrency["reserved"], concurrency["remaining"]) == (0, 1, 2)
        assert (concurrency["window_start"], concurrency["window_end"]) == (None, None)
        assert (requests["scope"], requests["settled"], requests["reserved"]) == ("tenant", 1, 1)


async def test_limits_hold_all_that_the_log_held_when_they_were_asked_for(world: World) -> None:
    await world.ctl(*HISTORY)
    async with world.owner() as owner, world.http(owner) as http:
        for number in range(1, 20):
            await world.ask(ask(number, 1_000_000))
            await world.use(completed(number, 1_000_000))
            body = (await http.get("/v1/tenants/acme/keys/key1/limits")).json()
            assert (body["current"], body["limits"][0]["settled"]) == (True, f"{number / 1000:g}")
            await world.ctl(key_created(key_id=KeyId(f"key-{number}")))
            assert (await http.get(f"/v1/tenants/acme/keys/key-{number}/limits")).status_code == 200


async def test_limits_that_lag_the_log_are_not_current(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.ctl(*HISTORY)
    async with world.owner() as owner, world.http(owner) as http:
        replica, goes_on = owner.partitions[0].replica, asyncio.Event()
        fold = replica._fold_messages

        async def held_up(messages: list[Message]) -> None:
            await goes_on.wait()
            await fold(messages)

        monkeypatch.setattr(replica, "_fold_messages", held_up)
        await world.ctl(key_revoked())
        late = (await http.get("/v1/tenants/acme/keys/key1/limits")).json()
        assert (late["current"], late["status"]) == (False, "active")
        goes_on.set()
        body = (await http.get("/v1/tenants/acme/keys/key1/limits")).json()
        assert (body["current"], body["status"]) == (True, "revoked")


async def test_a_standby_answers_from_its_fold_and_is_named_so(world: World) -> None:
    await world.ctl(*HISTORY)
    async with world.owner() as owner, world.owner(wait=False, instance="budget-1") as standby:
        await world.ask(ask(1, 10))
        theirs = owner.partitions[0].replica.ledger
        assert await standby.partitions[0].replica.folded(theirs.sequence, within_s=60)
        await until(lambda: standby.partitions[0].ready, "ready")
        async with world.http(standby) as http:
            body = (await http.get("/v1/tenants/acme/keys/key1/limits")).json()
            assert (body["owner"], body["limits"][0]["reserved"]) == (False, "0.00000001")
            [mine] = (await http.get("/v1/partitions")).json()["partitions"]
            assert (mine["owner"], mine["mine"], mine["ready"], mine["open_requests"]) == ("budget-0", False, True, 1)
            assert (await http.get("/readyz")).status_code == 200
        async with world.http(owner) as http:
            [yours] = (await http.get("/v1/partitions")).json()["partitions"]
            assert (yours["mine"], yours["epoch"]) == (True, 1)
            assert yours["position"] == mine["position"]
            assert yours["state_hash"] == mine["state_hash"]


async def test_metrics_and_errors(world: World) -> None:
    await world.ctl(*HISTORY)
    async with world.owner() as owner, world.http(owner) as http:
        await world.ask(ask(1, 10), ask(2, 10**12))
        text = (await http.get("/metrics")).text
        for line in (
            'keyforge_budget_admitted_total{partition="0"} 1.0',
            'keyforge_budget_refused_total{partition="0",type="budget_exceeded"} 1.0',
            'keyforge_budget_append_seconds_count{partition="0"} 1.0',
            'keyforge_budget_owner{partition="0"} 1.0',
        ):
            assert line in text
        assert "keyforge_budget_open_requests" in text
        for path, error in (
            ("/v1/tenants/acme/keys/nobody/limits", "not_found"),
            ("/v1/tenants/other/keys/key1/limits", "not_found"),
            ("/v1/nowhere", "route_unknown"),
        ):
            answer = await http.get(path)
            assert (answer.status_code, answer.json()["error"]["type"]) == (404, error)
        await world.ctl(key_revoked())
        await until(lambda: owner.partitions[0].replica.ledger.keys["key1"].status == "revoked", "revoked")  # type: ignore[index]
        assert (await http.get("/v1/tenants/acme/keys/key1/limits")).json()["status"] == "revoked"


@pytest.mark.parametrize("header", [None, "Bearer nonsense", "Basic x"])
async def test_only_operators_get_answers(world: World, header: str | None) -> None:
    async with world.owner() as owner:
        headers = {"authorization": header} if header else {}
        transport = httpx.ASGITransport(app=owner.asgi)
        async with httpx.AsyncClient(transport=transport, base_url="http://budget", headers=headers) as http:
            for path in ("/v1/partitions", "/v1/tenants/acme/keys/key1/limits"):
                answer = await http.get(path)
                assert (answer.status_code, answer.headers["x-should-retry"]) == (401, "false")
            assert (await http.get("/healthz")).json() == {"status": "alive"}
