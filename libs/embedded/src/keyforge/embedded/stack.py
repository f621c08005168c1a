"""The whole embedded stack in the foreground, from an empty folder to a key that works: what `keyforge up` runs."""

import asyncio
import os
import shlex
import shutil
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from keyforge.contracts import members
from keyforge.contracts.subjects import PARTITIONS_DEFAULT
from keyforge.embedded import disk, nats_config, ports, probe, secrets, seed, seeded, services, sizes
from keyforge.embedded.errors import StackEndedError
from keyforge.embedded.home import Home
from keyforge.embedded.ports import PortPlan
from keyforge.embedded.secrets import Secrets
from keyforge.embedded.sizes import LogSize, human
from keyforge.embedded.supervisor import Report, Supervisor

if TYPE_CHECKING:
    from keyforge.embedded.declare import Declared

OPERATORS_APIS: Final = (members.KEYS, members.BUDGET, members.AUDIT)


def run(environment: Mapping[str, str], report: Report) -> None:
    """Run until a signal ends it; `report` takes each line for the operator. Raises EmbeddedError, with nothing left
    running."""
    os.umask(0o077)
    home = Home.from_environment(environment)
    plan = ports.plan(environment.get("KEYFORGE_PORT_BASE", ""))
    partitions = services.partitions(environment, services.PARTITIONS_EMBEDDED_MAX)
    wanted = sizes.asked(environment, partitions or PARTITIONS_DEFAULT)
    services.nats_server(environment)
    services.shutdown_s(environment)
    for variable in seed.KNOWN:
        seed.secret_of(variable, environment)
    home.prepare()
    with home.locked():
        home.remove_ready()
        ports.check_free(plan)
        own = secrets.load(home)
        seeded.read(home.seeded)
        kept = sizes.of_home(
            home, wanted, partitions or PARTITIONS_DEFAULT, free_bytes=shutil.disk_usage(home.path).free
        )
        # How many partitions a log has is known once its server runs, so the services may use as many as there can be.
        most = services.PARTITIONS_EMBEDDED_MAX
        config = nats_config.embedded(plan, home.nats, own.nats_passwords, most, store_bytes_max=kept.store_bytes_max)
        home.write(home.nats_config, config)
        if wanted is not None and wanted < kept.log_bytes_max:
            report(f"{sizes.VARIABLE} is {wanted}; this home keeps {kept.log_bytes_max}: sizes are never lowered")
        log_size = LogSize(wanted or kept.log_bytes_max, explicit=wanted is not None)
        asyncio.run(_Run(home, plan, own, partitions, log_size, environment, report).run())


class _Run:
    """One run: what is started, in which order, and what is reported about it."""

    def __init__(
        self,
        home: Home,
        plan: PortPlan,
        own: Secrets,
        partitions: int | None,
        log_size: LogSize,
        environment: Mapping[str, str],
        report: Report,
    ) -> None:
        self._home = home
        self._ports = plan
        self._secrets = own
        self._partitions = partitions
        self._log_size = log_size
        self._environment = environment
        self._report = report
        self._facts: dict[str, Any] = {}

    async def run(self) -> None:
        """Start, wait, stop. Raises EmbeddedError: what ended it, else a service whose end failed."""
        supervisor = Supervisor(self._home, self._report)
        supervisor.stop_longer_s = max(services.shutdown_s(self._environment) - services.SHUTDOWN_S_DEFAULT, 0.0)
        supervisor.on_pids = lambda: self._write_ready(supervisor)
        with supervisor.signals_handled():
            try:
                await supervisor.run(self._start(supervisor))
            finally:
                self._facts = {}
                self._home.remove_ready()
                self._report("stopping")
                failed = await supervisor.stop()
                self._report("stopped")
        if failed:
            raise StackEndedError(f"not every service ended as it should: {', '.join(failed)}")

    async def _start(self, supervisor: Supervisor) -> None:
        began = time.monotonic()
        from keyforge.embedded.declare import declare, sizes_from

        kept = sizes_from(self._environment)
        self._report(f"starting on {self._home.path}")
        await supervisor.start([services.nats(self._home, self._ports, self._environment)])
        declared = await declare(
            f"nats://{self._ports.address('nats')}",
            user=members.ADMIN,
            password=self._secrets.nats_passwords[members.ADMIN],
            made_with=self._secrets.made_with(self._partitions or PARTITIONS_DEFAULT),
            replicas=1,
            sizes=kept,
            any_partitions=self._partitions is None,
            size=self._log_size,
        )
        for raised in declared.raised:
            self._report(f"{raised.stream} raised from {human(raised.bytes_max_before)} to {human(raised.bytes_max)}")
        _, varz = await probe.get(self._ports.of("nats_monitor"), "/varz")
        supervisor.disk.look(varz)
        await supervisor.start(services.over_the_log(self._home, self._ports, self._secrets, self._environment))
        from keyforge.embedded.seeding import Seeding

        urls = self._urls()
        seeding = Seeding(self._home, self._secrets, urls["keys"], self._environment, self._report)
        demo_key = await seeding.run(f"{urls['simulator']}/v1")
        supervisor.all_healthy()
        self._facts = {
            **urls,
            "clickhouse_user": services.CLICKHOUSE_USER,
            "clickhouse_password": self._secrets.clickhouse_password,
            "admin_token": self._secrets.admin_token,
            "demo_key": demo_key,
        }
        self._write_ready(supervisor)
        filled = _filled(declared, disk.room(disk.of_home(self._home), varz))
        self._report(f"ready after {time.monotonic() - began:.1f} s\n\n{self._where(urls, filled)}\n")

    def _write_ready(self, supervisor: Supervisor) -> None:
        if self._facts:
            self._home.write_ready({**self._facts, "supervisor": os.getpid(), "pids": supervisor.pids()})

    def _urls(self) -> dict[str, str]:
        """Return the address of every port, by its name in ready.json."""
        urls = {port.name: f"{port.scheme}://{self._ports.address(port.name)}" for port in members.PORTS}
        user, password = services.CLICKHOUSE_USER, self._secrets.clickhouse_password
        return {**urls, "clickhouse": f"http://{user}:{password}@{self._ports.address('clickhouse')}/"}

    def _where(self, urls: Mapping[str, str], filled: str) -> str:
        """Return the summary that the operator is shown. It names where secrets are, and shows none."""
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
            ("operators' API", "   ".join(f"{urls[name]}/v1  ({name})" for name in OPERATORS_APIS)),
            ("ClickHouse", f"http://{self._ports.address('clickhouse')}/  (user {services.CLICKHOUSE_USER})"),
            ("NATS", f"{urls['nats']}   monitoring {urls['nats_monitor']}"),
            ("simulator", f"{urls['simulator']}/v1  (provider {seed.SIMULATOR})"),
            ("the log", filled),
            ("state, logs", str(self._home.path)),
            ("secrets", f"{folder}  (mode 600: demo_key, admin_token, clickhouse_password, ...)"),
        )
        table = "\n".join(f"  {name:<15} {text}" for name, text in rows)
        return f"{table}\n\nA call that works, charged to tenant {seed.TENANT}:\n\n{call}\n\nCtrl-C stops everything."


def _filled(declared: "Declared", room: disk.StreamRoom | None) -> str:
    """Return how much the log may take and how full it is, and each alarm on a line of its own."""
    from keyforge.eventlog import alarms

    states = declared.states
    fullest = max(states, key=lambda stream: states[stream].fill)
    full = states[fullest]
    amount = f"{int(full.fill * 100)} % full, {human(full.bytes)} of {human(full.bytes_max or 0)}"
    lines = [] if room is None else [str(room)]
    lines += [f"the fullest of {len(states)} logs, {fullest}, is {amount}"]
    lines += [
        f"ALARM: {stream} is {alarms.in_words(state)}: {alarms.WHAT_TO_DO}"
        for stream, state in states.items()
        if alarms.alarm(state)
    ]
    return f"\n  {'':<15} ".join(lines)
