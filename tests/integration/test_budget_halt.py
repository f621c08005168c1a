"""Budget as a process, and a frame in its log that this version does not know: one partition of two is given up."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from keyforge.contracts import frame, subjects
from keyforge.contracts.frame import Recorded
from keyforge.eventlog.log import Appended
from keyforge.testkit.nats_server import NatsNode
from tests.integration.budget_load import Process
from tests.integration.budget_stack import World, world_on
from tests.unit.budget_facts import T0, ask, cap, key_created, key_revoked, tenant_created

WAIT_S = 15.0
UNKNOWN = frame.encode([Recorded("x", "keys", T0, key_revoked())]).replace(b"key.revoked.v1", b"key.revoked.v2")


@pytest.fixture
async def world(nats_own: Callable[..., NatsNode]) -> AsyncIterator[World]:
    async with world_on(nats_own(), partitions=2) as made:
        yield made


async def checks(http: httpx.AsyncClient, *, ready: bool) -> dict[str, bool]:
    """The checks of /readyz, once it answers that it is ready, or that a partition is halted."""
    end_s = asyncio.get_running_loop().time() + WAIT_S
    while True:
        try:
            answer = await http.get("/readyz")
            found: dict[str, bool] = answer.json()["checks"]
            if answer.status_code == (200 if ready else 503) and (ready or any("halted" in name for name in found)):
                return found
        except httpx.TransportError:
            pass
        assert asyncio.get_running_loop().time() < end_s, f"not ready={ready} within {WAIT_S} s"
        await asyncio.sleep(0.05)


async def test_an_unknown_event_on_ctl_ends_one_partition(world: World, tmp_path: Path) -> None:
    other = World(world.node, world.bus, partition=1)
    for each in (world, other):
        await each.ctl(tenant_created(), key_created(cap("usd", "day", 1000)))
    (tmp_path / "standby").mkdir()
    owner = Process(world, tmp_path)
    standby = None
    try:
        async with world.http(owner.port) as http:
            assert set(await checks(http, ready=True)) == {"bus", "durability", "partitions"}
            standby = Process(world, tmp_path / "standby", KEYFORGE_INSTANCE="budget-1")
            async with world.http(standby.port) as waiting:
                await checks(waiting, ready=True)
                lease = await world.lease()
                assert lease is not None
                assert [a.verdict for a in await world.ask(ask(1))] == ["allow"]
                outcome = await world.log.append(subjects.ctl(0), UNKNOWN)
                assert isinstance(outcome, Appended)
                halted = f"unknown event keyforge.key.revoked.v2 at {outcome.seq}.0 on {subjects.ctl(0)}"
                for each_http in (http, waiting):
                    found = await checks(each_http, ready=False)
                    named = f"partition 0 halted: {halted}"
                    assert found == {"bus": True, "durability": True, "partitions": False, named: False}

        answers = await world.ask_once(ask(2), epoch=lease.epoch)
        assert answers is None or [a.verdict for a in answers] == ["refuse"]
        await asyncio.sleep(1.5)  # three times as long as a standby leaves a free lease alone
        left = await world.lease()
        assert left is not None
        assert (left.owner, left.epoch) == ("", lease.epoch)
        assert await world.log.end(subjects.log_stream(0)) == outcome.seq
        assert [event.request_id for _, event in await world.admitted()] == ["r-1"]
        assert [a.verdict for a in await other.ask(ask(1))] == ["allow"]

        async with world.http(owner.port) as http:
            zero, one = (await http.get("/v1/partitions")).json()["partitions"]
            assert (zero["halted"], zero["ready"], zero["mine"]) == (halted, False, False)
            assert (zero["position"], one["halted"], one["ready"], one["mine"]) == (outcome.seq - 1, None, True, True)
            text = (await http.get("/metrics")).text
            assert 'keyforge_budget_halted{partition="0"} 1.0' in text
            assert 'keyforge_budget_halted{partition="1"} 0.0' in text
            assert (await http.get("/v1/tenants/acme/keys/key1/limits")).json()["current"] is False
            assert (await http.get("/v1/tenants/acme/keys/other/limits")).json()["error"]["type"] == "not_ready"
    finally:
        if standby is not None:
            assert standby.end() == 0
        assert owner.end() == 0
