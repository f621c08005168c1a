"""Two of each service over three NATS nodes, as processes, each with what docs/deploy.md says that it is given."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self
from urllib.error import URLError
from urllib.request import urlopen

import httpx

from keyforge.contracts import members
from keyforge.embedded import nats_config, secrets
from keyforge.embedded.home import Home
from keyforge.testkit.nats_cluster import NatsCluster
from keyforge.testkit.nats_server import ServerFailed, die_with_parent, wait_until
from keyforge.testkit.ports import free_ports
from keyforge.testkit.simulator_process import Simulator

PARTITIONS: Final = 4
WITHIN_S: Final = 120.0
DELAY_S: Final = 3
"""KEYFORGE_SHUTDOWN_DELAY_S: the balancer asks every second."""
PATIENCE: Final = {
    members.EDGE: {"KEYFORGE_ANSWER_TIME_LIMIT_S": "4", "KEYFORGE_OWNER_TIME_LIMIT_S": "10"},
    members.BUDGET: {"KEYFORGE_ASK_AGE_S_MAX": "4"},
}
"""Longer than by default, since all of this shares two cores with other tests."""
MODEL: Final = "sim-small"
POLL_S: Final = 0.2


LOG_BYTES_MAX = 256 * 1024 * 1024
"""More than any test here writes, and room for it on any machine."""


class Replicas:
    """All processes, by name: `edge-0`, `edge-1` and so on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        home = Home(folder / "home")
        home.prepare()
        self._secrets = secrets.load(home)
        passwords = {user: json.dumps(text) for user, text in self._secrets.nats_passwords.items()}
        self.nats = NatsCluster(folder / "nats", extra="\n".join(nats_config.users(PARTITIONS, passwords)))
        self.names = [f"{service}-{number}" for service in members.SERVICES for number in (0, 1)]
        self.ports = dict(zip(self.names, free_ports(len(self.names)), strict=True))
        self.simulator = Simulator()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        try:
            self.nats.start()
            self.simulator.start()
            self._declare()
            for name in self.names:
                self.start(name)
            for name in self.names:
                self.wait_ready(name)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.wait(WITHIN_S)
        self.simulator.stop()
        self.nats.stop()

    def ports_of(self, service: str) -> list[int]:
        return [self.ports[f"{service}-{number}"] for number in (0, 1)]

    def operator(self, url: str) -> httpx.AsyncClient:
        """A client of an operators' API."""
        token = {"authorization": f"Bearer {self._secrets.admin_token}"}
        return httpx.AsyncClient(base_url=url, headers=token, timeout=WITHIN_S, trust_env=False)

    # processes

    def start(self, name: str) -> None:
        service = name.rpartition("-")[0]
        with (self._folder / f"{name}.log").open("ab") as output:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-P", "-m", f"keyforge.{service}"],
                env=self._environment(service, name),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call, no lock
            )

    def wait_ready(self, name: str) -> None:
        def ready() -> bool:
            if self._processes[name].poll() is not None:
                raise ServerFailed(f"{name} ended: {self.log(name)[-2000:]}")
            try:
                with urlopen(f"http://127.0.0.1:{self.ports[name]}/readyz", timeout=5) as answer:
                    return bool(answer.status == 200)
            except (URLError, OSError):
                return False

        wait_until(ready, f"{name} is ready: {self.log(name)[-2000:]}", timeout_s=WITHIN_S)

    def restart(self, name: str) -> float:
        """End a process as an orchestrator does, start it again, wait until it is ready; return how long it took."""
        began = time.monotonic()
        self._processes[name].send_signal(signal.SIGTERM)
        code = self._processes[name].wait(WITHIN_S)
        if code != 0:
            raise ServerFailed(f"{name} ended with {code}: {self.log(name)[-2000:]}")
        self.start(name)
        self.wait_ready(name)
        return time.monotonic() - began

    def kill(self, name: str) -> None:
        self._processes[name].kill()
        self._processes[name].wait(WITHIN_S)

    def log(self, name: str) -> str:
        path = self._folder / f"{name}.log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def _environment(self, service: str, name: str) -> dict[str, str]:
        values = self._secrets.variables()
        own = {variable: values[variable] for variable in members.process_of(service).secrets}
        if service == members.AUDIT:  # a store of its own: there is no ClickHouse server here
            own["KEYFORGE_CLICKHOUSE_PATH"] = str(self._folder / f"{name}-tables")
        return {
            "PATH": os.environ["PATH"],
            "KEYFORGE_HOST": "127.0.0.1",
            "KEYFORGE_PORT": str(self.ports[name]),
            "KEYFORGE_INSTANCE": name,
            "KEYFORGE_NATS_URL": self.nats.url,
            "KEYFORGE_NATS_MONITOR_URL": ",".join(self.nats.monitor_urls),
            "KEYFORGE_NATS_USER": service,
            "KEYFORGE_NATS_PASSWORD": self._secrets.nats_passwords[service],
            "KEYFORGE_PARTITIONS": str(PARTITIONS),
            "KEYFORGE_KEY_SECRET": self._secrets.key_secret,
            "KEYFORGE_SHUTDOWN_DELAY_S": str(DELAY_S),
            **own,
            **PATIENCE.get(service, {}),
        }

    def _declare(self) -> None:
        values = self._secrets.variables()
        environment = {
            "PATH": os.environ["PATH"],
            "KEYFORGE_NATS_URL": self.nats.url,
            "KEYFORGE_NATS_USER": members.ADMIN,
            "KEYFORGE_NATS_PASSWORD": self._secrets.nats_passwords[members.ADMIN],
            "KEYFORGE_PARTITIONS": str(PARTITIONS),
            "KEYFORGE_REPLICAS": str(self.nats.replicas),
            "KEYFORGE_LOG_BYTES_MAX": str(LOG_BYTES_MAX),
            **{variable: values[variable] for variable in ("KEYFORGE_KEY_SECRET", "KEYFORGE_COMMITMENT_SECRET")},
            **{variable: values[variable] for variable in ("KEYFORGE_AUDIT_MASTER_KEY", "KEYFORGE_EDGE_PUBLIC_KEY")},
        }
        command = [sys.executable, "-P", "-m", "keyforge.cli", "declare"]
        subprocess.run(command, env=environment, check=True, timeout=WITHIN_S, capture_output=True)

    # what is in it

    async def seed(self, keys_url: str, tenants: Sequence[str]) -> dict[str, tuple[str, str, int]]:
        """Register the simulator and create tenants with a key each; return its text, its id and its partition."""
        async with self.operator(keys_url) as client:

            async def send(method: str, path: str, body: object) -> Any:
                answer = await client.request(method, path, json=body)
                assert answer.is_success, answer.text
                return answer.json() if answer.content else None

            provider = {"id": "sim", "kind": "openai-compatible", "base_url": self.simulator.url}
            await send("POST", "/v1/providers", {**provider, "allow_insecure": True})
            await send("POST", "/v1/providers/sim/credentials", {"secret": "fixture-of-sim", "quota_group": "sim"})
            price = {"input_per_mtok": "1", "output_per_mtok": "2", "max_output_tokens": 4096}
            await send("PUT", f"/v1/prices/sim/{MODEL}", price)
            found = {}
            for tenant in tenants:
                made = await send("POST", "/v1/tenants", {"id": tenant, "name": tenant})
                limit = {"unit": "usd", "window": "total", "cap": "1000"}
                key = await send("POST", f"/v1/tenants/{tenant}/keys", {"name": "load", "limits": [limit]})
                found[tenant] = (str(key["key"]), str(key["id"]), int(made["partition"]))
            return found

    async def settled(self, budget_url: str, tenant: str, key_id: str) -> bool:
        """Return whether nothing of a key is reserved any more, in all that the log holds."""
        async with self.operator(budget_url) as client:
            found = (await client.get(f"/v1/tenants/{tenant}/keys/{key_id}/limits")).json()
        await asyncio.sleep(POLL_S)
        return bool(found["current"]) and not any(float(limit["reserved"]) for limit in found["limits"])
