"""`keyforge up`: the whole embedded stack in the foreground, from an empty folder to a key that works."""

import asyncio
import contextlib
import os
import shlex
import sys
import time
from collections.abc import Mapping
from typing import Any

from keyforge.contracts import permissions
from keyforge.contracts.subjects import PARTITIONS_EMBEDDED
from keyforge.embedded import nats_config, ports, secrets, seed, services
from keyforge.embedded.home import Home
from keyforge.embedded.ports import HOST, PortPlan
from keyforge.embedded.secrets import Secrets
from keyforge.embedded.supervisor import Supervisor


def up(environment: Mapping[str, str]) -> None:
    """Run until told to end. Raises CliError, with nothing left running."""
    os.umask(0o077)
    home = Home.from_environment(environment)
    plan = ports.plan(environment.get("KEYFORGE_PORT_BASE", ""))
    partitions = services.count(
        environment, "KEYFORGE_PARTITIONS", PARTITIONS_EMBEDDED, services.PARTITIONS_EMBEDDED_MAX
    )
    services.nats_server(environment)
    home.prepare()
    with home.locked():
        home.remove_ready()
        ports.check_free(plan)
        own = secrets.load(home)
        home.write(home.nats_config, nats_config.embedded(plan, home.nats, own.nats_passwords, partitions))
        asyncio.run(_Stack(home, plan, own, partitions, environment).run())


class _Stack:
    """One run: what is started, in which order, and what is said about it."""

    def __init__(
        self, home: Home, plan: PortPlan, own: Secrets, partitions: int, environment: Mapping[str, str]
    ) -> None:
        self._home = home
        self._ports = plan
        self._secrets = own
        self._partitions = partitions
        self._environment = environment
        self._facts: dict[str, Any] = {}

    async def run(self) -> None:
        """Start, wait, stop."""
        supervisor = Supervisor(self._home, say)
        supervisor.on_pids = lambda: self._write_ready(supervisor)
        with supervisor.listening():
            try:
                await supervisor.run(self._start(supervisor))
            finally:
                self._facts = {}
                self._home.remove_ready()
                say("stopping")
                await supervisor.stop()
                say("stopped")

    async def _start(self, supervisor: Supervisor) -> None:
        began = time.monotonic()
        say(f"starting on {self._home.path}")
        await supervisor.start([services.nats(self._home, self._ports, self._environment)])
        from keyforge.embedded.declare import declare

        await declare(
            f"nats://{HOST}:{self._ports.nats}",
            user=permissions.ADMIN,
            password=self._secrets.nats_passwords[permissions.ADMIN],
            made_with=self._secrets.made_with(self._partitions),
            replicas=1,
        )
        over_the_log = services.python_services(self._home, self._ports, self._secrets, self._environment)
        await supervisor.start(over_the_log)
        from keyforge.embedded.seeding import Seeding

        urls = self._urls()
        seeding = Seeding(self._home, self._secrets, urls["keys"], self._environment)
        demo_key = await seeding.run(f"{urls['simulator']}/v1")
        supervisor.all_well()
        self._facts = {
            **urls,
            "clickhouse_user": services.CLICKHOUSE_USER,
            "clickhouse_password": self._secrets.clickhouse_password,
            "admin_token": self._secrets.admin_token,
            "demo_key": demo_key,
        }
        self._write_ready(supervisor)
        say(f"ready after {time.monotonic() - began:.1f} s\n\n{self._where(urls)}\n")

    def _write_ready(self, supervisor: Supervisor) -> None:
        if self._facts:
            self._home.write_ready({**self._facts, "supervisor": os.getpid(), "pids": supervisor.pids()})

    def _urls(self) -> dict[str, str]:
        at, user, password = self._ports, services.CLICKHOUSE_USER, self._secrets.clickhouse_password
        return {
            "edge": f"http://{HOST}:{at.edge}",
            "keys": f"http://{HOST}:{at.keys}",
            "budget": f"http://{HOST}:{at.budget}",
            "audit": f"http://{HOST}:{at.audit}",
            "clickhouse": f"http://{user}:{password}@{HOST}:{at.clickhouse}/",
            "nats": f"nats://{HOST}:{at.nats}",
            "nats_monitor": f"http://{HOST}:{at.nats_monitor}",
            "simulator": f"http://{HOST}:{at.simulator}",
        }

    def _where(self, urls: Mapping[str, str]) -> str:
        """Return the page that the operator sees. It names where secrets are, and shows none."""
        folder = self._home.secrets
        call = (
            f"curl -s {urls['edge']}/v1/chat/completions "
            f'-H "Authorization: Bearer $(cat {shlex.quote(str(folder / secrets.DEMO_KEY))})" '
            "-H 'Content-Type: application/json' "
            f'-d \'{{"model": "{seed.SIMULATOR}/{seed.MODEL}", '
            '"messages": [{"role": "user", "content": "Hello"}]}\''
        )
        rows = (
            ("agents' API", f"{urls['edge']}/v1"),
            (
                "operators' API",
                f"{urls['keys']}/v1  (keys)   {urls['budget']}/v1  (budget)   {urls['audit']}/v1  (audit)",
            ),
            ("ClickHouse", f"http://{HOST}:{self._ports.clickhouse}/  (user {services.CLICKHOUSE_USER})"),
            ("NATS", f"{urls['nats']}   monitoring {urls['nats_monitor']}"),
            ("simulator", f"{urls['simulator']}/v1  (provider {seed.SIMULATOR})"),
            ("state, logs", str(self._home.path)),
            ("secrets", f"{folder}  (mode 600: demo_key, admin_token, clickhouse_password, ...)"),
        )
        table = "\n".join(f"  {name:<15} {text}" for name, text in rows)
        return f"{table}\n\nA call that works, paid by tenant {seed.TENANT}:\n\n{call}\n\nCtrl-C stops everything."


def say(line: str) -> None:
    """Tell the operator, if anybody still listens: a pipe that closed must not end the stack."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.write(f"keyforge: {line}\n")
        sys.stdout.flush()
