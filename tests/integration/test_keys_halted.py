"""Keys as a process on a log that holds an event of a newer version: one partition is read-only, the others go on."""

import asyncio
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from keyforge.contracts import frame, subjects
from keyforge.contracts.events import TenantPlaced
from keyforge.contracts.frame import Recorded
from keyforge.contracts.ids import TenantId, TokenId
from keyforge.eventlog.jetstream import JetStreamLog
from keyforge.testkit.nats_client import open_client
from keyforge.testkit.nats_server import NatsNode
from keyforge.testkit.ticks import append_next
from tests.integration.keys_stack import PARTITIONS, Home
from tests.integration.test_keys_process import Process, declared, process

WITHIN_S = 10.0


@pytest.fixture
def home(nats_own: Callable[..., NatsNode]) -> Home:
    home = Home(nats_own())
    declared(home)
    return home


def append(home: Home, subject: str, data: bytes) -> None:
    """Append as a newer keys service would."""

    async def work() -> None:
        async with open_client([home.node.url]) as client:
            stream = subjects.PLATFORM_STREAM if subject == subjects.PLATFORM_CTL else f"KF_LOG_{subject.split('.')[2]}"
            await append_next(JetStreamLog(client), stream, subject, data)

    asyncio.run(work())


def newer(tenant: str) -> bytes:
    """A frame with an event of a version that nobody here knows."""
    claim = TenantPlaced(tenant=TenantId(tenant), partition=0, by=TokenId("t"))
    data = frame.encode([Recorded(f"placement:{tenant}.1", "keys", datetime.now(UTC), claim)])
    return data.replace(b"tenant.placed.v1", b"tenant.placed.v9")


def refused(keys: Process, method: str, path: str, body: Any = None) -> None:
    answer = keys.client.request(method, path, json=body)
    assert (answer.status_code, answer.json()["error"]["type"]) == (503, "fold_halted"), answer.text
    assert answer.headers["x-should-retry"] == "false", "a minute lifts nothing"


def checks_within(keys: Process, name: str) -> dict[str, bool]:
    """Wait until /readyz names this check; return all of them."""
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        answer = keys.client.get("/readyz")
        found: dict[str, bool] = answer.json()["checks"]
        if name in found and found["started"]:
            assert (answer.status_code, answer.json()["ready"]) == (503, False)
            return found
        time.sleep(0.02)  # what is waited for happens in another process
    raise AssertionError(keys.log.read_text())


def test_one_partition_halts_and_the_others_go_on(home: Home, tmp_path: Path) -> None:
    with process(home, tmp_path) as keys:
        keys.start()
        made = [keys.send("POST", "/v1/tenants", {"id": f"t{n}", "name": "x"}) for n in range(PARTITIONS)]
        assert {tenant["partition"] for tenant in made} == set(range(PARTITIONS))
        issued = {tenant["id"]: keys.send("POST", f"/v1/tenants/{tenant['id']}/keys", {"name": "k"}) for tenant in made}
        halted, *others = made
        append(home, subjects.ctl(halted["partition"]), newer("x"))
        name = f"fold_{halted['partition']}"
        expected = {"started": True, "log": True, "durability": True, "folds": False, name: False}
        assert checks_within(keys, name) == expected

        for _ in range(2):  # as it is, and after a restart
            path = f"/v1/tenants/{halted['id']}"
            key = issued[halted["id"]]["id"]
            refused(keys, "POST", f"{path}/keys", {"name": "k2"})
            refused(keys, "POST", f"{path}/keys/{key}/revoke")
            refused(keys, "PATCH", path, {"name": "y"})
            assert keys.send("GET", path) == halted
            assert [one["id"] for one in keys.send("GET", f"{path}/keys")["keys"]] == [key]
            for tenant in others:
                keys.send("POST", f"/v1/tenants/{tenant['id']}/keys", {"name": "k2"})
            metrics = keys.client.get("/metrics").text
            for partition in range(PARTITIONS):
                value = float(partition == halted["partition"])
                assert f'keyforge_keys_fold_halted{{queue="{partition}"}} {value}' in metrics
            keys.end(signal.SIGTERM)
            keys.start(ready=False)
            assert checks_within(keys, name) == expected

        # New tenants are placed in the partitions that can store them.
        found = {keys.send("POST", "/v1/tenants", {"id": f"n{n}", "name": "x"})["partition"] for n in range(PARTITIONS)}
        assert found == {tenant["partition"] for tenant in others}
        written = keys.log.read_text()
        assert "fold halted, changes are refused" in written
        assert "tenant.placed.v9: unknown type" in written
        assert "Traceback" not in written


def test_a_tenant_that_a_halted_partition_cannot_show_is_not_called_unknown(home: Home, tmp_path: Path) -> None:
    """It was claimed for that partition, where it may have been created after what cannot be read."""
    claim = TenantPlaced(tenant=TenantId("hidden"), partition=2, by=TokenId("t"))
    recorded = Recorded("placement:hidden.1", "keys", datetime.now(UTC), claim)
    append(home, subjects.PLATFORM_CTL, frame.encode([recorded]))
    append(home, subjects.ctl(2), newer("hidden"))
    with process(home, tmp_path) as keys:
        keys.start(ready=False)
        checks_within(keys, "fold_2")
        refused(keys, "POST", "/v1/tenants/hidden/keys", {"name": "k"})
        refused(keys, "POST", "/v1/tenants", {"id": "hidden", "name": "x"})
        assert keys.client.patch("/v1/tenants/nobody", json={"name": "x"}).status_code == 404


def test_a_halted_platform_log_stops_no_partition(home: Home, tmp_path: Path) -> None:
    with process(home, tmp_path) as keys:
        keys.start()
        keys.send("POST", "/v1/tenants", {"id": "acme", "name": "x"})
        append(home, subjects.PLATFORM_CTL, b"not a frame")
        assert checks_within(keys, "fold_platform")["fold_platform"] is False
        for _ in range(2):
            refused(keys, "POST", "/v1/tenants", {"id": "other", "name": "x"})
            refused(keys, "POST", "/v1/providers", {"id": "p", "kind": "x", "base_url": "https://example.com"})
            refused(keys, "POST", "/v1/operators", {})
            assert keys.send("GET", "/v1/providers") == {"providers": [], "next": None}
            key = keys.send("POST", "/v1/tenants/acme/keys", {"name": "k"})["id"]
            assert keys.send("POST", f"/v1/tenants/acme/keys/{key}/revoke")["status"] == "revoked"
            keys.end(signal.SIGTERM)
            keys.start(ready=False)
            checks_within(keys, "fold_platform")


def test_a_platform_log_that_halts_before_the_first_operator_stops_no_start(home: Home, tmp_path: Path) -> None:
    """Its token cannot be created, and may be on record already, after what cannot be read."""
    append(home, subjects.PLATFORM_CTL, newer("x"))
    with process(home, tmp_path) as keys:
        keys.start(ready=False)
        assert checks_within(keys, "fold_platform")["started"] is True
        answer = keys.client.get("/v1/tenants")
        assert (answer.status_code, answer.json()["error"]["type"]) == (401, "token_invalid")
        assert keys.end(signal.SIGTERM) == 0
