"""Audit as a process of its own, with a real log and the embedded ClickHouse engine."""

import asyncio
import json
import os
import secrets as entropy
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec

from keyforge.contracts import subjects
from keyforge.contracts.directory import TokenEntry
from keyforge.contracts.events import Role
from keyforge.contracts.ids import TokenId
from keyforge.contracts.keyformat import ID_BYTES, SECRET_BYTES, KeySecrets, mint
from keyforge.contracts.members import ADMIN, AUDIT, USERS
from keyforge.embedded import nats_config
from keyforge.eventlog.jetstream import JetStreamLog
from keyforge.eventlog.log import Appended
from keyforge.eventlog.meta import declare
from keyforge.runtime.buckets import Bucket
from keyforge.runtime.bus import Bus
from keyforge.testkit.made_with import made_with
from keyforge.testkit.nats_client import SMALL, bus_to
from keyforge.testkit.nats_server import NatsNode, die_with_parent
from keyforge.testkit.ports import free_ports
from tests.unit.audit_facts import MASTER, Sent

ROOT = bytes(range(32))
COMMITMENT_SECRET = bytes(range(64, 96)).hex()
SECRETS = KeySecrets.derive(ROOT)
PARTITIONS = 2
USER, PASSWORD = "keyforge", "fixture-password"
READY_S = 60.0
LINGER_S = 0.1
POLL_S = 0.05


@contextmanager
def server_with_users(folder: Path) -> Iterator[NatsNode]:
    """A server with the real users, each with the password `fixture-<user>`; nothing is declared on it."""
    passwords = {user: json.dumps(f"fixture-{user}") for user in USERS}
    node = NatsNode(folder, extra="\n".join(nats_config.users(PARTITIONS, passwords)))
    node.start()
    try:
        yield node
    finally:
        node.stop()


class Audit:
    """One home of audit: start, kill and start it again."""

    def __init__(
        self, node: NatsNode, folder: Path, bus: Bus, *, linger_s: float = LINGER_S, users: bool = False
    ) -> None:
        """`users`: the server has the real users, each with the password `fixture-<user>`."""
        self.node = node
        self.folder = folder
        self.log = JetStreamLog(bus.nats, append_timeout_s=READY_S)
        self.port, self.clickhouse_port = free_ports(2)
        self.http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=60)
        self._process: subprocess.Popen[bytes] | None = None
        self._bus = bus
        self._linger_s = linger_s
        self._user = {"KEYFORGE_NATS_USER": AUDIT, "KEYFORGE_NATS_PASSWORD": f"fixture-{AUDIT}"} if users else {}
        folder.mkdir(parents=True, exist_ok=True)

    async def prepare(self) -> None:
        """Streams, buckets and an operator's token."""
        await declare(
            self._bus.nats,
            made_with=made_with(
                PARTITIONS,
                key_secret=ROOT.hex(),
                audit_master_key=MASTER.secret.hex(),
                commitment_secret=COMMITMENT_SECRET,
            ),
            replicas=1,
            sizes=SMALL,
        )
        self.http.headers.update(await self.token("platform-admin"))

    async def token(self, role: Role) -> dict[str, str]:
        """The header of a new operator of this role."""
        minted = mint("kfa", SECRETS, entropy.token_bytes(ID_BYTES), entropy.token_bytes(SECRET_BYTES))
        entry = TokenEntry(token_id=TokenId(minted.id), digest=minted.digest, role=role)
        await Bucket(self._bus.nats_py, self.log, subjects.TOKENS_BUCKET).put(minted.id, msgspec.json.encode(entry))
        return {"authorization": f"Bearer {minted.text}"}

    def start(self) -> None:
        """Start the process; its log goes to a file."""
        environment = {
            **os.environ,
            **self._user,
            "KEYFORGE_PORT": str(self.port),
            "KEYFORGE_NATS_URL": self.node.url,
            "KEYFORGE_NATS_MONITOR_URL": self.node.monitor_url,
            "KEYFORGE_KEY_SECRET": ROOT.hex(),
            "KEYFORGE_AUDIT_MASTER_KEY": MASTER.secret.hex(),
            "KEYFORGE_COMMITMENT_SECRET": COMMITMENT_SECRET,
            "KEYFORGE_CLICKHOUSE_PATH": str(self.folder / "clickhouse"),
            "KEYFORGE_CLICKHOUSE_HTTP_PORT": str(self.clickhouse_port),
            "KEYFORGE_CLICKHOUSE_USER": USER,
            "KEYFORGE_CLICKHOUSE_PASSWORD": PASSWORD,
            "KEYFORGE_AUDIT_LINGER_S": str(self._linger_s),
        }
        with (self.folder / "audit.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "keyforge.audit"],
                env=environment,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call, no lock
            )

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def ready(self) -> None:
        """Wait until it says that it is ready."""

        async def is_ready() -> bool:
            return await self.status("/readyz") == 200

        await self.until(is_ready, "ready")

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(60)

    def stop(self) -> int:
        """SIGTERM; return the exit code."""
        if self._process is None:
            return 0
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(60)

    async def append(self, *messages: Sent) -> None:
        """Append frames, one after another."""
        for message in messages:
            assert isinstance(await self.log.append(message.subject, message.data), Appended)

    async def status(self, path: str) -> int:
        """The status of a GET; 0 if nobody answers."""
        try:
            return (await self.http.get(path)).status_code
        except httpx.HTTPError:
            return 0

    async def get(self, path: str, **parameters: Any) -> Any:
        """The JSON of a GET that must succeed."""
        answer = await self.http.get(path, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def until(self, what: Callable[[], Any], name: str, *, timeout_s: float = READY_S) -> Any:
        """The first true result of an awaitable function."""
        end = asyncio.get_running_loop().time() + timeout_s
        while True:
            if found := await what():
                return found
            assert asyncio.get_running_loop().time() < end, f"not within {timeout_s} s: {name}\n{self.tail()}"
            await asyncio.sleep(POLL_S)

    async def until_records(
        self, key: str, count: int, *, tenant: str = "acme", timeout_s: float = READY_S, limit: int = 1000
    ) -> Any:
        """The records of a key, once there are `count`."""

        async def enough() -> Any:
            answer = await self.http.get(f"/v1/tenants/{tenant}/keys/{key}/records", params={"limit": limit})
            found = answer.json()
            return found if answer.status_code == 200 and found["head_seq"] >= count else None

        return await self.until(enough, f"{count} records of {key}", timeout_s=timeout_s)

    async def unacknowledged(self, stream: str, durable: str) -> int:
        """How many messages a durable consumer has delivered, or still has to, that were not acknowledged."""
        info = await self._bus.nats_py.jetstream().consumer_info(stream, durable)
        return (info.num_ack_pending or 0) + (info.num_pending or 0)

    def tail(self) -> str:
        """The end of its log."""
        return (self.folder / "audit.log").read_text()[-4000:]


@asynccontextmanager
async def audit_on(
    node: NatsNode, folder: Path, *, linger_s: float = LINGER_S, users: bool = False
) -> AsyncIterator[Audit]:
    """A home on a server of its own; whatever runs at the end is ended."""
    admin = node.url.replace("//", f"//{ADMIN}:fixture-{ADMIN}@") if users else node.url
    bus = await bus_to([admin], inbox_prefix=subjects.inbox_prefix(ADMIN if users else ""))
    audit = Audit(node, folder, bus, linger_s=linger_s, users=users)
    try:
        await audit.prepare()
        yield audit
    finally:
        audit.stop()
        await audit.http.aclose()
        await bus.close()
