"""An edge with real neighbours, each a process of its own: nats-server, budget, the provider simulator, the edge.

What keys would have written (tenants, keys, providers, prices, credentials) is written here with the contracts' types.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self

import httpx

from keyforge.contracts import frame, subjects
from keyforge.contracts.frame import Recorded
from keyforge.contracts.keyformat import Minted
from keyforge.eventlog.jetstream import JetStreamLog
from keyforge.eventlog.meta import declare
from keyforge.runtime.encryption import Decrypter, new_private_key
from keyforge.testkit.made_with import made_with
from keyforge.testkit.nats_client import bus_to
from keyforge.testkit.nats_server import NatsNode, die_with_parent
from keyforge.testkit.ports import free_ports
from tests.integration.edge_facts import COMMITMENT_SECRET, MODEL, POLL_S, ROOT, WITHIN_S, Facts

PARTITIONS = 2
READY_S = 60.0


class EdgeStack(Facts):
    """Started with `async with`. `edge` is an HTTP client of the edge, without a key."""

    def __init__(self, folder: Path, *, edge_module: str = "keyforge.edge", **settings: str) -> None:
        self.node = NatsNode(folder / "nats")
        self._folder = folder
        self._edge_module = edge_module
        self._settings = settings
        self._private_key = new_private_key()
        super().__init__(self._private_key)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.edge_port, self.budget_port, self.sim_port = free_ports(3)
        self.sim_url = f"http://127.0.0.1:{self.sim_port}"
        self.edge = httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.edge_port}", timeout=60)
        self.sim = httpx.AsyncClient(base_url=self.sim_url, timeout=30)

    async def __aenter__(self) -> Self:
        try:
            await asyncio.to_thread(self.node.start)
            self.bus = await bus_to([self.node.url])
            self.log = JetStreamLog(self.bus.nats, append_timeout_s=READY_S)
            await declare(
                self.bus.nats,
                made_with=made_with(
                    PARTITIONS,
                    key_secret=ROOT.hex(),
                    edge_key=Decrypter(self._private_key).public_key,
                    commitment_secret=COMMITMENT_SECRET.hex(),
                ),
                replicas=1,
            )
            await self.seed()
            self.start("simulator", "keyforge.simulator", "--port", str(self.sim_port))
            self.start_budget()
            self.start_edge()
            await self.ready()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        for name in reversed(list(self.processes)):
            self.stop(name)
        await self.edge.aclose()
        await self.sim.aclose()
        if hasattr(self, "bus"):
            await self.bus.close()
        await asyncio.to_thread(self.node.stop)

    # processes

    def start(self, name: str, module: str, *arguments: str, **environment: str) -> None:
        with (self._folder / f"{name}.log").open("ab") as output:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env={"PATH": os.environ["PATH"], **environment},
                stderr=output,
                stdout=output,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call, no lock
            )

    def start_budget(self, **settings: str) -> None:
        self.start("budget", "keyforge.budget", **self._shared("budget-0", self.budget_port), **settings)

    def start_edge(self, **settings: str) -> None:
        own = {
            "KEYFORGE_EDGE_PRIVATE_KEY": self._private_key,
            "KEYFORGE_COMMITMENT_SECRET": COMMITMENT_SECRET.hex(),
        }
        self.start(
            "edge", self._edge_module, **{**self._shared("edge-0", self.edge_port), **own, **self._settings, **settings}
        )

    def stop(self, name: str, number: int = signal.SIGTERM) -> int:
        process = self.processes.pop(name)
        with suppress(ProcessLookupError):
            process.send_signal(number)
        try:
            return process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait(30)

    def output(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text()

    def _shared(self, instance: str, port: int) -> dict[str, str]:
        return {
            "KEYFORGE_INSTANCE": instance,
            "KEYFORGE_PORT": str(port),
            "KEYFORGE_NATS_URL": self.node.url,
            "KEYFORGE_NATS_USER": "",
            "KEYFORGE_NATS_MONITOR_URL": self.node.monitor_url,
            "KEYFORGE_KEY_SECRET": ROOT.hex(),
            "KEYFORGE_LOG_LEVEL": "DEBUG",
            "KEYFORGE_SHUTDOWN_DELAY_S": "0",
            "KEYFORGE_SHUTDOWN_TIME_LIMIT_S": "2",
        }

    async def ready(self) -> None:
        """Wait until the edge and the simulator are ready."""
        async with asyncio.timeout(READY_S):
            while True:
                dead = [name for name, process in self.processes.items() if process.poll() is not None]
                assert not dead, {name: self.output(name)[-2000:] for name in dead}
                with suppress(httpx.HTTPError):
                    if (await self.edge.get("/readyz")).status_code == 200 and (
                        await self.sim.get("/v1/models")
                    ).status_code == 200:
                        return
                await asyncio.sleep(POLL_S)  # polls processes that start

    # what happened

    async def script(self, **rule: Any) -> None:
        answer = await self.sim.post("/_sim/script", json={"rules": [rule]})
        assert answer.status_code == 200, answer.text

    async def books(self) -> Any:
        return (await self.sim.get("/_sim/books")).json()

    async def events(self, request_id: str) -> list[Any]:
        """Return what the log holds of one request."""
        end = await self.log.end(subjects.log_stream(0))
        found: list[Any] = []
        if end == 0:
            return found
        async for messages in self.log.read(subjects.log_stream(0)):
            for message in messages:
                found += [
                    recorded.event
                    for recorded in frame.decode(message.data, message.subject)
                    if isinstance(recorded, Recorded) and getattr(recorded.event, "request_id", "") == request_id
                ]
            if messages[-1].seq >= end:
                return found
        return found

    async def ending(self, request_id: str) -> Any:
        """Wait for the terminal event of a request and return it."""
        async with asyncio.timeout(60):
            while True:
                for event in await self.events(request_id):
                    if event.TYPE.split(".")[2] in {"completed", "cancelled", "refused"}:
                        return event
                await asyncio.sleep(POLL_S)  # polls the log

    async def until(
        self, ask: Callable[[], Awaitable[httpx.Response]], accept: Callable[[httpx.Response], bool]
    ) -> httpx.Response:
        """Ask again and again until the answer is acceptable: what was written travels through the log or a bucket."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                answer = await ask()
                if accept(answer):
                    return answer
                await asyncio.sleep(POLL_S)  # polls the edge

    async def knows(self, model: str) -> None:
        """Wait until the edge knows a model."""
        key = await self.key()
        await self.until(
            lambda: self.edge.get("/v1/models", headers=self.auth(key)), lambda answer: f'/{model}"' in answer.text
        )

    def auth(self, minted: Minted) -> dict[str, str]:
        return {"authorization": f"Bearer {minted.text}"}

    async def chat(self, minted: Minted, **fields: Any) -> httpx.Response:
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], **fields}
        return await self.edge.post("/v1/chat/completions", json=body, headers=self.auth(minted))

    @asynccontextmanager
    async def streamed(self, minted: Minted, **fields: Any) -> AsyncIterator[httpx.Response]:
        """Ask for a stream, again while nobody can admit it; it is left when the block ends."""
        body = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": "hello"}], **fields}
        request = self.edge.build_request("POST", "/v1/chat/completions", json=body, headers=self.auth(minted))
        async with asyncio.timeout(WITHIN_S):
            while (answer := await self.edge.send(request, stream=True)).status_code == 503:
                await answer.aclose()
        try:
            yield answer
        finally:
            await answer.aclose()
