"""Keys as a process: it starts fast, stops on a signal, survives kill -9."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from keyforge.contracts import members, subjects
from keyforge.contracts.directory import KeyEntry
from keyforge.embedded.nats_config import users
from keyforge.eventlog.jetstream import JetStreamLog
from keyforge.eventlog.meta import declare
from keyforge.testkit.frames import log_texts
from keyforge.testkit.nats_client import open_client
from keyforge.testkit.nats_server import NatsNode, die_with_parent
from keyforge.testkit.ports import free_ports
from tests.integration.keys_stack import COMMITMENT_SECRET, PARTITIONS, ROOT, Home

CREDENTIAL = "fixture-canary-credential-7d1f"
WITHIN_S = 60.0


class Process:
    """One `python -m keyforge.keys`."""

    def __init__(self, home: Home, folder: Path, **changed: str) -> None:
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "keys.log"
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("KEYFORGE_")},
            "KEYFORGE_PORT": str(self.port),
            "KEYFORGE_NATS_URL": home.node.url,
            "KEYFORGE_NATS_MONITOR_URL": home.node.monitor_url,
            "KEYFORGE_KEY_SECRET": ROOT.hex(),
            "KEYFORGE_EDGE_PUBLIC_KEY": home.decrypter.public_key,
            "KEYFORGE_COMMITMENT_SECRET": COMMITMENT_SECRET.hex(),
            "KEYFORGE_BOOTSTRAP_ADMIN_TOKEN": home.token,
            "KEYFORGE_LOG_LEVEL": "DEBUG",
            **changed,
        }
        self.client = httpx.Client(base_url=self.url, headers={"authorization": f"Bearer {home.token}"}, timeout=10)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, ready: bool = True) -> float:
        """Start it; return the seconds until it was ready, or until it served if it is not to become ready."""
        began = time.monotonic()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "keyforge.keys"],
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call, no lock
            )
        while time.monotonic() - began < WITHIN_S:
            try:
                if self.client.get("/readyz").status_code == 200 or not ready:
                    return time.monotonic() - began
            except httpx.TransportError:
                assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.02)  # a port that is not open yet tells nobody when it opens
        raise AssertionError(self.log.read_text())

    def end(self, number: int) -> int:
        """Send a signal and wait; return the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(WITHIN_S)

    def send(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request that must succeed."""
        answer = self.client.request(method, path, json=body)
        assert answer.is_success, answer.text
        return answer.json()


def declared(home: Home, user: str = "") -> None:
    """Make the streams and buckets, as `up` does; `user` is "name:password@"."""

    async def make() -> None:
        url, inbox = home.node.url.replace("nats://", f"nats://{user}"), subjects.inbox_prefix(user.partition(":")[0])
        async with open_client([url], inbox_prefix=inbox) as client:
            await declare(client, made_with=home.made_with(), replicas=1)

    asyncio.run(make())


@pytest.fixture
def home(nats_own: Callable[..., NatsNode]) -> Home:
    home = Home(nats_own())
    declared(home)
    return home


@contextmanager
def process(home: Home, folder: Path, **changed: str) -> Iterator[Process]:
    one = Process(home, folder, **changed)
    try:
        yield one
    finally:
        one.client.close()
        if one.process is not None and one.process.poll() is None:
            one.process.kill()
            one.process.wait(WITHIN_S)


def test_it_starts_serves_and_stops(home: Home, tmp_path: Path) -> None:
    with process(home, tmp_path) as keys:
        assert keys.start() < WITHIN_S
        keys.send("POST", "/v1/tenants", {"id": "acme", "name": "Acme"})
        assert keys.end(signal.SIGTERM) == 0
        keys.start()
        assert keys.send("GET", "/v1/tenants/acme")["name"] == "Acme"
        assert keys.end(signal.SIGINT) == 0


def test_a_first_token_that_cannot_be_used_ends_a_start_also_where_there_is_a_token(home: Home, tmp_path: Path) -> None:
    with process(home, tmp_path) as keys:
        keys.start()
        assert keys.end(signal.SIGTERM) == 0
    with process(home, tmp_path, KEYFORGE_BOOTSTRAP_ADMIN_TOKEN="kfa_x") as keys:
        with pytest.raises(AssertionError, match="KEYFORGE_BOOTSTRAP_ADMIN_TOKEN was not accepted: it must be"):
            keys.start()
        assert keys.process is not None
        assert keys.process.wait(WITHIN_S) == 2
        assert "kfa_x" not in keys.log.read_text()
    with process(home, tmp_path, KEYFORGE_BOOTSTRAP_ADMIN_TOKEN=f"{home.token}\n") as keys:
        keys.start()


def test_kill_9_under_load_loses_nothing_that_was_answered(home: Home, tmp_path: Path) -> None:
    with process(home, tmp_path) as keys:
        keys.start()
        for tenant in range(4):
            keys.send("POST", "/v1/tenants", {"id": f"t{tenant}", "name": "x"})
        answered = []
        for round_ in range(3):
            done, process_ = asyncio.run(_load(keys, round_))
            answered += done
            assert process_ != 0
            keys.start()
        shown = {
            key["id"]: key for tenant in range(4) for key in keys.send("GET", f"/v1/tenants/t{tenant}/keys")["keys"]
        }
        assert {key for key, _ in answered} <= set(shown)
        assert all(shown[key]["status"] == "revoked" for key, revoked in answered if revoked)
        assert {id_: (key["status"], key["revision"]) for id_, key in shown.items()} == asyncio.run(_directory(home))


async def _load(keys: Process, round_: int) -> tuple[list[tuple[str, bool]], int]:
    """Issue and revoke keys until the process is killed; return what was answered, and the exit code."""
    answered: list[tuple[str, bool]] = []

    async def work(http: httpx.AsyncClient, tenant: int) -> None:
        for number in range(1000):
            try:
                made = await http.post(f"/v1/tenants/t{tenant}/keys", json={"name": f"{round_}-{number}"})
                if made.status_code != 201:
                    continue
                key = made.json()["id"]
                answered.append((key, False))
                revoked = await http.post(f"/v1/tenants/t{tenant}/keys/{key}/revoke")
                if revoked.status_code == 200:
                    answered[answered.index((key, False))] = (key, True)
            except httpx.TransportError:
                return

    headers = dict(keys.client.headers)
    async with httpx.AsyncClient(base_url=keys.url, headers=headers, timeout=10) as http, asyncio.TaskGroup() as group:
        for tenant in range(4):
            group.create_task(work(http, tenant))
        async with asyncio.timeout(WITHIN_S):
            while len(answered) < 12:  # noqa: ASYNC110  # enough is under way
                await asyncio.sleep(0.001)
        code = await asyncio.to_thread(keys.end, signal.SIGKILL)
    return answered, code


async def _directory(home: Home) -> dict[str, tuple[str, int]]:
    async with home.keys() as keys:
        found = {}
        for tenant in range(4):
            for key in (await keys.ok("GET", f"/v1/tenants/t{tenant}/keys"))["keys"]:
                entry = await keys.entry(subjects.DIRECTORY_BUCKET, key["id"], KeyEntry)
                found[key["id"]] = (entry.status, entry.revision)
        return found


async def _log_texts(home: Home) -> dict[str, bytes]:
    async with open_client(home.node.urls) as client:
        return await log_texts(JetStreamLog(client), PARTITIONS)


def test_no_secret_in_any_sink(home: Home, tmp_path: Path) -> None:
    """Canaries: a provider's credential, a virtual key, the admin's token, a second token, in what should hold none."""
    with process(home, tmp_path) as keys:
        keys.start()
        keys.send("POST", "/v1/tenants", {"id": "acme", "name": "Acme"})
        key = keys.send("POST", "/v1/tenants/acme/keys", {"name": "k"})["key"]
        url = "https://api.example.com/v1"
        keys.send("POST", "/v1/providers", {"id": "p", "kind": "openai-compatible", "base_url": url})
        answers = [str(keys.send("POST", "/v1/providers/p/credentials", {"secret": CREDENTIAL}))]
        token = keys.send("POST", "/v1/operators", {})["token"]
        secrets = [CREDENTIAL, key, home.token, token]
        for method, path, body in (
            ("POST", "/v1/providers/p/credentials", {"secret": [CREDENTIAL]}),
            ("POST", "/v1/providers/p/credentials", {"secret": CREDENTIAL, "weight": CREDENTIAL}),
            ("POST", "/v1/providers/none/credentials", {"secret": CREDENTIAL}),
            ("POST", "/v1/providers", {"id": "q", "kind": "x", "base_url": f"https://user:{CREDENTIAL}@example.com"}),
            ("POST", "/v1/tenants/acme/keys", {"name": "k", "models": [key + " "]}),
            ("GET", f"/v1/tenants/{key}/keys/{token}", None),
            ("GET", "/v1/providers/p/credentials", None),
            ("GET", "/v1/tenants/acme/keys", None),
        ):
            answers.append(keys.client.request(method, path, json=body).text)
        answers += [
            keys.client.get("/v1/tenants", headers={"authorization": f"Bearer {bad}"}).text
            for bad in (key, f"{token}x", CREDENTIAL)
        ]
        answers += [keys.client.get("/metrics").text, keys.client.get("/openapi.json").text]
        assert keys.end(signal.SIGTERM) == 0
        sinks = {"answers": "\n".join(answers).encode(), "log": keys.log.read_bytes()}
        for file in home.node.folder.rglob("*"):
            if file.is_file():
                sinks[file.name] = sinks.get(file.name, b"") + file.read_bytes()
        frames = asyncio.run(_log_texts(home))
        sinks |= frames
        assert any(b"keyforge.key.created.v1" in text for text in frames.values()), "the log was not looked at"
        assert any(b"acme" in sink for name, sink in sinks.items() if name.endswith(".blk")), "nor the store"
        assert b"facts folded" in sinks["log"]
        for name, sink in sinks.items():
            for secret in secrets:
                assert secret.encode() not in sink, name


def test_its_own_permissions_are_enough(nats_own: Callable[..., NatsNode], tmp_path: Path) -> None:
    """Run as the user `keys`, who may write its own subjects and buckets and nothing else."""
    passwords = dict.fromkeys(members.USERS, "fixture-password")
    home = Home(nats_own(extra="\n".join(users(PARTITIONS, passwords))))
    declared(home, "admin:fixture-password@")
    credentials = {"KEYFORGE_NATS_USER": "keys", "KEYFORGE_NATS_PASSWORD": "fixture-password"}
    with process(home, tmp_path, **credentials) as keys:
        keys.start()
        keys.send("POST", "/v1/tenants", {"id": "acme", "name": "Acme"})
        key = keys.send("POST", "/v1/tenants/acme/keys", {"name": "k"})["id"]
        keys.send("POST", f"/v1/tenants/acme/keys/{key}/revoke")
        keys.send("POST", "/v1/providers", {"id": "p", "kind": "x", "base_url": "https://example.com"})
        credential = keys.send("POST", "/v1/providers/p/credentials", {"secret": CREDENTIAL})["id"]
        keys.send("POST", f"/v1/providers/p/credentials/{credential}/revoke")
        token = keys.send("POST", "/v1/operators", {})["id"]
        keys.send("POST", f"/v1/operators/{token}/revoke")
        keys.send("PUT", "/v1/prices/p/m", {"input_per_mtok": "1", "output_per_mtok": "1"})
        keys.end(signal.SIGTERM)
        keys.start()
        assert keys.send("GET", f"/v1/tenants/acme/keys/{key}")["status"] == "revoked"
        keys.end(signal.SIGTERM)
        written = keys.log.read_text()
        assert "ermission" not in written
        assert "entries lag" not in written
