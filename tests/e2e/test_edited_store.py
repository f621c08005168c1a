"""ClickHouse's tables of a whole stack are edited from outside, and everything an operator looks at says so."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from keyforge.testkit.nats_server import wait_until
from keyforge.testkit.stack import Stack

pytestmark = pytest.mark.stack

WITHIN_S = 60.0
EDIT = """
import sys, clickhouse_connect
engine = clickhouse_connect.get_client(interface="chdb", path=sys.argv[1])
engine.database = "keyforge"
for statement in sys.argv[2:]:
    engine.command(statement)
engine.close()
"""
"""The engine is one per folder and process, so it runs in a process of its own, while audit does not."""


def edit(stack: Stack, *statements: str) -> None:
    command = [sys.executable, "-c", EDIT, str(stack.home / "clickhouse"), *statements]
    subprocess.run(command, check=True, timeout=WITHIN_S, capture_output=True)


def key_of(stack: Stack, tenant: str) -> dict[str, Any]:
    """A new tenant's key with three calls on it."""
    assert stack.cli("tenant", "create", tenant, "--limit", "usd/day=3").returncode == 0
    made: dict[str, Any] = json.loads(
        stack.cli("key", "create", tenant, "agent", "--limit", "usd/month=5", "--json").stdout
    )

    def called() -> bool:
        answer = httpx.post(
            f"{stack.url('edge')}/v1/chat/completions",
            headers={"authorization": f"Bearer {made['key']}"},
            json={"model": "sim/sim-small", "messages": [{"role": "user", "content": "Hello"}]},
            timeout=60,
        )
        return answer.status_code == 200

    for _ in range(3):
        wait_until(called, "a call goes through", timeout_s=WITHIN_S)
    return made


def doctor(stack: Stack) -> dict[str, dict[str, Any]]:
    done = stack.cli("doctor", "--json")
    return {check["check"]: check for check in json.loads(done.stdout)["checks"]}


def test_an_edited_store_is_named_and_a_rebuild_keeps_it(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "home")
    stack.start()
    try:
        edited, other = key_of(stack, "edited"), key_of(stack, "other")
        for tenant, key in (("edited", edited), ("other", other)):
            wait_until(
                lambda tenant=tenant, key=key: "VALID to seq 7" in stack.cli("key", "verify", tenant, key["id"]).stdout,  # type: ignore[misc]  # bound
                "all is stored",
                timeout_s=WITHIN_S,
            )
        assert doctor(stack)["evidence"]["ok"]
        stack.stop()
        edit(
            stack,
            f"ALTER TABLE records DELETE WHERE key_id = '{edited['id']}' AND seq = 4 SETTINGS mutations_sync = 2",
            f"ALTER TABLE requests UPDATE settled_nusd = settled_nusd * 10 WHERE key_id = '{edited['id']}'"
            " SETTINGS mutations_sync = 2",
        )
        stack.start()
        named = stack.cli("key", "verify", "edited", edited["id"])
        assert (named.returncode, "INVALID at seq 4" in named.stdout) == (1, True), named.stdout + named.stderr
        for command in (("records", "edited", edited["id"]), ("spend", "--tenant", "edited"), ("spend",)):
            done = stack.cli(*command)
            assert done.returncode != 0
            assert "seq 4" in done.stderr, done.stderr
        assert stack.cli("key", "verify", "other", other["id"]).returncode == 0
        assert "3" in stack.cli("spend", "--tenant", "other").stdout
        found = doctor(stack)["evidence"]
        assert (found["ok"], edited["id"] in found["detail"]) == (False, True), found
        assert "docs/operations.md): 1 chain " in found["detail"], "two tables of one chain are one chain"
        wait_until(
            lambda: "audit: the store disagrees with the log" in stack.printed(), "`up` says it", timeout_s=WITHIN_S
        )

        rebuilt = stack.cli("rebuild")
        assert rebuilt.returncode == 1
        assert "key/edited/" in rebuilt.stdout
        assert "missing" in rebuilt.stdout
        kept = rebuilt.stderr.partition("--drop ")[2].split("`")[0]
        assert stack.cli("key", "verify", "edited", edited["id"]).returncode == 0
        assert doctor(stack)["evidence"]["ok"]
        assert "no differences" in stack.cli("rebuild").stdout
        assert stack.cli("rebuild", "--drop", "before_1").returncode != 0
        assert stack.cli("rebuild", "--drop", f"records_{kept}").returncode == 0
        assert stack.cli("rebuild", "--drop", kept).returncode != 0, "it is gone"
    finally:
        stack.stop()
