"""The embedded stack as the bench runs it: started by its own command, with keys that never run dry."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import httpx

from keyforge.testkit.nats_server import die_with_parent
from tests.bench.bodies import MODEL
from tests.bench.measure import GATEWAY_CORE, LogSize, wait_for

TENANTS = 8
KEYS_PER_TENANT = 4
CAP_USD = "1000000"
SEEDED_AT_ONCE = 32
"""Tenants and keys asked for at the same time: those that wait together share a frame of the log."""
ROOT = Path(__file__).resolve().parents[2]
READY_S = 60
STOP_S = 30
LOG = "KF_LOG_"
PROVIDER_VARIABLES = ("OPENAI", "ANTHROPIC", "GROQ", "MISTRAL", "DEEPSEEK", "OPENROUTER", "GEMINI")


@dataclass(frozen=True)
class Stack:
    """A running stack: what `ready.json` says, and the keys made for the load."""

    ready: dict[str, Any]
    keys: list[str]

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by service."""
        return dict(self.ready["pids"])

    def log(self) -> LogSize:
        """Return what the partitions' logs hold."""
        page = httpx.get(f"{self.ready['nats_monitor']}/jsz?streams=true").json()
        known = [stream for account in page["account_details"] for stream in account["stream_detail"]]
        states = [stream["state"] for stream in known if stream["name"].startswith(LOG)]
        return LogSize(*(sum(int(state[what]) for state in states) for what in ("last_seq", "bytes")))


def free_port() -> int:
    """Return a port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def free_port_base() -> int:
    """Return a base so that base .. base + 20 are free right now."""
    for base in range(20_000, 32_000, 50):
        try:
            for port in range(base, base + 21):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return base
    raise RuntimeError("no free range of ports")


@dataclass(frozen=True)
class Provider:
    """An upstream to be called: where it is, and the models that it has a price for."""

    id: str
    base_url: str
    models: tuple[str, ...]


def plain_provider(upstream_port: int, prefix: str = "") -> Provider:
    """Return the upstream that gives the same answer to all; `prefix` is of its path."""
    return Provider("bench", f"http://127.0.0.1:{upstream_port}{prefix}/v1", (MODEL,))


@contextmanager
def running(
    home: Path, providers: Sequence[Provider], *, tenants: int = TENANTS, keys_per_tenant: int = KEYS_PER_TENANT
) -> Iterator[Stack]:
    """Start the stack on `home` with these providers and so many keys for them; stop it at the end."""
    dropped = {f"{name}_API_KEY" for name in PROVIDER_VARIABLES}
    env = {name: value for name, value in os.environ.items() if name not in dropped}
    env |= {"KEYFORGE_HOME": str(home), "KEYFORGE_PORT_BASE": str(free_port_base())}
    command = [str(Path(sys.executable).parent / "keyforge"), "up"]
    with (home.parent / f"{home.name}.log").open("w") as log, ended(command, env, log) as process:
        ready = home / "ready.json"
        wait_for("the stack to be ready", lambda: ready.exists() or process.poll() is not None, seconds=READY_S)
        if process.poll() is not None:
            raise RuntimeError(Path(log.name).read_text())
        told = json.loads(ready.read_text())
        made = seeded(told["keys"], told["admin_token"], providers, tenants=tenants, keys_per_tenant=keys_per_tenant)
        yield Stack(told, made)


@contextmanager
def another_edge(
    stack: Stack, folder: Path, *, module: str = "keyforge.edge", **changed: str
) -> Iterator[tuple[int, str]]:
    """Run a second edge beside the stack's, the same but for `module` and `changed`; yield process id and address."""
    port = free_port()
    pairs = Path(f"/proc/{stack.pids['edge']}/environ").read_bytes().split(b"\0")
    env = dict(pair.decode().split("=", 1) for pair in pairs if b"=" in pair)
    env |= {"KEYFORGE_PORT": str(port), "KEYFORGE_INSTANCE": "edge-bench", "PYTHONPATH": str(ROOT), **changed}
    command = ["taskset", "-c", GATEWAY_CORE, sys.executable, "-P", "-m", module]
    with (folder / "edge-bench.log").open("a") as log, ended(command, env, log) as edge:
        url = f"http://127.0.0.1:{port}"
        wait_for("the second edge", lambda: is_ready(url), seconds=READY_S)
        yield edge.pid, url


@contextmanager
def ended(command: list[str], env: dict[str, str] | None, log: TextIO) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process until the end of the block; by force where it does not go."""
    process = subprocess.Popen(
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call, no lock
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def is_ready(url: str) -> bool:
    """Say whether a service is."""
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.HTTPError:
        return False


def seeded(
    keys_url: str,
    admin_token: str,
    providers: Sequence[Provider],
    *,
    tenants: int = TENANTS,
    keys_per_tenant: int = KEYS_PER_TENANT,
) -> list[str]:
    """Register the providers and their prices; return keys, those of one tenant in a row."""
    headers = {"authorization": f"Bearer {admin_token}"}
    with (
        httpx.Client(base_url=keys_url, headers=headers, timeout=60) as keys,
        ThreadPoolExecutor(SEEDED_AT_ONCE) as threads,
    ):

        def done(answer: httpx.Response) -> dict[str, Any]:
            if answer.is_error:
                raise RuntimeError(f"{answer.request.method} {answer.request.url.path}: {answer.text}")
            return dict(answer.json())

        for one in providers:
            provider = {"id": one.id, "kind": "openai", "base_url": one.base_url, "allow_insecure": True}
            done(keys.post("/v1/providers", json=provider))
            done(keys.post(f"/v1/providers/{one.id}/credentials", json={"secret": "fixture-upstream-credential"}))
            price: dict[str, Any] = {"input_per_mtok": "0.15", "output_per_mtok": "0.60", "max_output_tokens": 16_384}
            for model in one.models:
                done(keys.put(f"/v1/prices/{one.id}/{model}", json=price))
        limits = [
            {"unit": "usd", "window": "month", "cap": CAP_USD},
            {"unit": "tokens", "window": "minute", "cap": 10**12},
        ]

        def tenant(name: str) -> None:
            done(keys.post("/v1/tenants", json={"id": name, "name": name, "limits": limits}))

        def key(place: tuple[str, int]) -> str:
            asked = {"name": f"k{place[1]}", "limits": limits}
            return str(done(keys.post(f"/v1/tenants/{place[0]}/keys", json=asked))["key"])

        names = [f"bench-{number}" for number in range(tenants)]
        list(threads.map(tenant, names))
        return list(threads.map(key, [(name, number) for name in names for number in range(keys_per_tenant)]))
