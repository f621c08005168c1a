"""Edges that ask without a pause, and budget as a process of its own that can be killed and paused."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from keyforge.budget.app import Budget
from keyforge.budget.core.state_hash import state_hash
from keyforge.contracts import subjects
from keyforge.contracts.events import RequestAdmitted
from keyforge.contracts.reserve import Answer
from keyforge.runtime.buckets import BucketUnavailableError
from keyforge.testkit.nats_server import die_with_parent
from keyforge.testkit.ports import free_ports
from tests.integration.budget_stack import ROOT, World, until
from tests.unit.budget_facts import KEY, ask


class Load:
    """Edges that ask without a pause, one request after another, and note every answer."""

    def __init__(self, world: World, *, edges: int, nusd: int = 10) -> None:
        self.world = world
        self.nusd = nusd
        self.key_id = KEY
        self.answered: dict[str, Answer] = {}
        self._stop = asyncio.Event()
        self._tasks = [asyncio.create_task(self._edge(edge)) for edge in range(edges)]

    async def _edge(self, edge: int) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            try:
                lease = await self.world.lease()
            except BucketUnavailableError:
                continue
            one = ask(f"{edge}.{number}", self.nusd, key_id=self.key_id)
            found = await self.world.ask_once(one, epoch=lease.epoch if lease else 0, within_s=0.3)
            if found is not None:
                self.answered[one.request_id] = found[0]

    @property
    def allowed(self) -> dict[str, Answer]:
        return {request_id: answer for request_id, answer in self.answered.items() if answer.verdict == "allow"}

    async def more(self, count: int) -> None:
        """Wait until so many more were answered."""
        enough = len(self.answered) + count
        await until(lambda: len(self.answered) >= enough, f"{count} answers more")

    async def stop(self) -> list[RequestAdmitted]:
        """End it; every allow must be in the log where its answer has it, and no request twice. Returns the log's."""
        self._stop.set()
        await asyncio.gather(*self._tasks)
        admitted = await self.world.admitted()
        logged = {str(event.request_id): seq for seq, event in admitted}
        assert len(logged) == len(admitted)
        for request_id, answer in self.allowed.items():
            assert logged[request_id] == answer.sequence
        return [event for _, event in admitted]


class Process:
    """Budget as it is run in production: a process of its own."""

    def __init__(self, world: World, folder: Path, **environment: str) -> None:
        self.port = free_ports(1)[0]
        self.log = (folder / "budget.log").open("ab")
        self.environment = {
            "PATH": os.environ["PATH"],
            "KEYFORGE_PORT": str(self.port),
            "KEYFORGE_KEY_SECRET": ROOT.hex(),
            "KEYFORGE_NATS_URL": world.node.url,
            "KEYFORGE_NATS_MONITOR_URL": ",".join(world.node.monitor_urls),
            "KEYFORGE_NATS_USER": "",
        } | environment
        self.started()

    def started(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "keyforge.budget"],
            env=self.environment,
            stderr=self.log,
            stdout=self.log,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call, no lock
        )

    def end(self) -> int:
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            return self.process.wait(60)
        finally:
            self.process.kill()
            self.log.close()


async def agrees(world: World, *budgets: Budget) -> None:
    """Wait until all have folded the whole log; their states are one."""
    end = await world.log.end(subjects.log_stream(0))
    for budget in budgets:
        assert await budget.partitions[0].replica.folded(end, within_s=60)
    assert len({state_hash(budget.partitions[0].replica.ledger) for budget in budgets}) == 1
