"""The embedded stack as the bench runs it: started by its own command, with keys that never run dry."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.bench.bodies import MODEL
from tests.bench.measure import wait_for

TENANTS = 8
KEYS_PER_TENANT = 4
CAP_USD = "1000000"
READY_S = 60
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


@contextmanager
def running(home: Path, upstream_port: int, extra: dict[str, str] | None = None) -> Iterator[Stack]:
    """Start the stack on `home` with provider `bench` at `upstream_port` and keys for it; stop it at the end."""
    dropped = {f"{name}_API_KEY" for name in PROVIDER_VARIABLES}
    env = {name: value for name, value in os.environ.items() if name not in dropped}
    env |= {"KEYFORGE_HOME": str(home), "KEYFORGE_PORT_BASE": str(free_port_base()), **(extra or {})}
    command = [str(Path(sys.executable).parent / "keyforge"), "up"]
    with (home.parent / "up.log").open("w") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
        try:
            ready = home / "ready.json"
            wait_for("the stack to be ready", lambda: ready.exists() or process.poll() is not None, seconds=READY_S)
            if process.poll() is not None:
                raise RuntimeError((home.parent / "up.log").read_text())
            told = json.loads(ready.read_text())
            yield Stack(told, _seed(told, upstream_port))
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def _seed(ready: dict[str, Any], upstream_port: int) -> list[str]:
    headers = {"authorization": f"Bearer {ready['admin_token']}"}
    with httpx.Client(base_url=ready["keys"], headers=headers, timeout=30) as keys:

        def done(answer: httpx.Response) -> dict[str, Any]:
            if answer.is_error:
                raise RuntimeError(f"{answer.request.method} {answer.request.url.path}: {answer.text}")
            return dict(answer.json())

        provider = {
            "id": "bench",
            "kind": "openai",
            "base_url": f"http://127.0.0.1:{upstream_port}/v1",
            "allow_insecure": True,
        }
        done(keys.post("/v1/providers", json=provider))
        done(keys.post("/v1/providers/bench/credentials", json={"secret": "fixture-upstream-credential"}))
        price: dict[str, Any] = {"input_per_mtok": "0.15", "output_per_mtok": "0.60", "max_output_tokens": 16_384}
        done(keys.put(f"/v1/prices/bench/{MODEL}", json=price))
        made: list[str] = []
        limits = [
            {"unit": "usd", "window": "month", "cap": CAP_USD},
            {"unit": "tokens", "window": "minute", "cap": 10**12},
        ]
        for number in range(TENANTS):
            tenant = f"bench-{number}"
            done(keys.post("/v1/tenants", json={"id": tenant, "name": tenant, "limits": limits}))
            path = f"/v1/tenants/{tenant}/keys"
            asks = [{"name": f"k{key}", "limits": limits} for key in range(KEYS_PER_TENANT)]
            made += [done(keys.post(path, json=ask))["key"] for ask in asks]
        return made
