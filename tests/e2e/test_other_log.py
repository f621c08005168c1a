"""A log that was made with other secrets, partitions or a newer format: one line, exit code 2, nothing is changed.

That each service refuses it as well is in tests/integration/test_start_faults.py.
"""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import httpx
import msgspec
import pytest

from keyforge.contracts import members, meta, subjects
from keyforge.contracts.meta import Meta
from keyforge.eventlog.jetstream import JetStreamLog
from keyforge.eventlog.nats.client import NatsClient
from keyforge.testkit.nats_server import wait_until
from keyforge.testkit.ports import free_ports
from keyforge.testkit.stack import Stack

pytestmark = pytest.mark.stack

OTHER = "5a" * 32
WITHIN_S = 120.0


def files_of(home: Path) -> dict[str, bytes]:
    """What the log's server keeps of its streams' names and sizes: their folders."""
    return {str(path.relative_to(home)): b"" for path in sorted((home / "nats").rglob("streams/*")) if path.is_dir()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """A stack that ran once, with two partitions, and was stopped."""
    stack = Stack(tmp_path_factory.mktemp("other") / "home", environment={"KEYFORGE_PARTITIONS": "2"})
    stack.start()
    assert stack.stop() == 0
    stack.variables = {}
    return stack


@pytest.mark.parametrize(
    ("change", "environment", "named"),
    [
        pytest.param("key_secret", {}, "KEYFORGE_KEY_SECRET has fingerprint", id="key secret"),
        pytest.param("commitment_secret", {}, "KEYFORGE_COMMITMENT_SECRET has fingerprint", id="commitment secret"),
        pytest.param("audit_master_key", {}, "KEYFORGE_AUDIT_MASTER_KEY has fingerprint", id="audit master key"),
        pytest.param("edge_public_key", {}, "KEYFORGE_EDGE_PUBLIC_KEY has fingerprint", id="edge key"),
        pytest.param("", {"KEYFORGE_PARTITIONS": "8"}, "KEYFORGE_PARTITIONS is 8, the log was made with 2", id="parts"),
    ],
)
def test_up_refuses_a_log_that_was_made_with_something_else(
    made: Stack, change: str, environment: dict[str, str], named: str
) -> None:
    path = made.home / "secrets" / change
    kept = path.read_text() if change else ""
    streams = files_of(made.home)
    try:
        if change:
            path.write_text(OTHER)
        command = [sys.executable, "-m", "keyforge.cli", "up"]
        done = subprocess.run(
            command,
            env={**made.environment, **environment},
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
            check=False,
        )
    finally:
        if change:
            path.write_text(kept)
    assert done.returncode == 2, done.stdout + done.stderr
    assert named in done.stderr
    assert done.stderr.count("\n") == 1
    assert OTHER not in done.stdout + done.stderr
    assert files_of(made.home) == streams


def test_after_all_refusals_it_starts_as_before_until_its_format_is_newer(made: Stack, tmp_path: Path) -> None:
    made.start()
    headers = {"authorization": f"Bearer {made.admin_token}"}
    found = httpx.get(f"{made.url('budget')}/v1/partitions", headers=headers, timeout=WITHIN_S).json()
    assert [one["partition"] for one in found["partitions"]] == [0, 1], "a home keeps its number of them"
    asyncio.run(_write_newer_format(made))
    done = run_service(made, members.BUDGET, tmp_path)
    assert done.returncode == 2, done.stderr
    assert "upgrade" in done.stderr
    assert made.stop() == 0
    done = made.cli("up")
    assert done.returncode == 2
    assert "the log has format 2" in done.stderr


def run_service(stack: Stack, service: str, folder: Path, **changed: str) -> subprocess.CompletedProcess[str]:
    """Start one more of a service, with the settings of the stack's own but its port, its folder and what changed."""
    pid = stack.pids()[service]
    environment = wait_until(lambda: _environment_of(pid), "the service's settings", timeout_s=WITHIN_S)
    own = {
        "KEYFORGE_PORT": str(free_ports(1)[0]),
        "KEYFORGE_CLICKHOUSE_PATH": str(folder / service),
        "KEYFORGE_CLICKHOUSE_HTTP_PORT": "0",
    }
    return subprocess.run(
        [sys.executable, "-m", f"keyforge.{service}"],
        env={**environment, **own, **changed},
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )


def _environment_of(pid: int) -> dict[str, str]:
    raw = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return dict(os.fsdecode(one).split("=", 1) for one in raw if b"=" in one)


async def _write_newer_format(stack: Stack) -> None:
    password = (stack.home / "secrets" / "nats_admin").read_text().strip()
    client = NatsClient(
        [stack.url("nats")], user=members.ADMIN, password=password, inbox_prefix=subjects.inbox_prefix(members.ADMIN)
    )
    await client.open(within_s=WITHIN_S)
    try:
        subject = subjects.bucket_subject(subjects.META_BUCKET, meta.ENTRY)
        entry = await JetStreamLog(client).last(subjects.bucket_stream(subjects.META_BUCKET), subject)
        assert entry is not None
        newer = msgspec.structs.replace(msgspec.json.decode(entry.data, type=Meta), format=meta.FORMAT + 1)
        await client.request(subject, meta.encode(newer), timeout_s=WITHIN_S)
    finally:
        await client.close()
