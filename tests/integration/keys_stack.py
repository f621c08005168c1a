"""Keys with real neighbours: a nats-server, the service in this process, its API over httpx."""

import secrets as entropy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
from pydantic import SecretStr

from keyforge.contracts.keyformat import ID_BYTES, SECRET_BYTES, KeySecrets, mint
from keyforge.contracts.meta import Meta
from keyforge.eventlog.jetstream import JetStreamLog
from keyforge.eventlog.log import EventLog
from keyforge.eventlog.meta import declare
from keyforge.keys.app import Service
from keyforge.keys.settings import KeysSettings
from keyforge.runtime import bus
from keyforge.runtime.buckets import Bucket
from keyforge.runtime.bus import Bus
from keyforge.runtime.clock import Clock, SystemClock
from keyforge.runtime.encryption import Decrypter, new_private_key
from keyforge.testkit.made_with import made_with
from keyforge.testkit.nats_server import NatsNode

ROOT = bytes(range(32))
COMMITMENT_SECRET = bytes(range(64, 96))
SECRETS = KeySecrets.derive(ROOT)
PARTITIONS = 4
NOW = datetime(2030, 1, 1, tzinfo=UTC)


@dataclass
class Keys:
    """One running service and a client that is its platform admin."""

    service: Service
    http: httpx.AsyncClient
    bus: Bus
    log: EventLog
    decrypter: Decrypter
    token: str
    settings: KeysSettings

    async def ok(self, method: str, path: str, body: Any = None, *, status: int = 0) -> Any:
        """Send a request that must succeed; return its JSON."""
        answer = await self.http.request(method, path, json=body)
        assert answer.status_code == (status or (201 if method == "POST" else 200)), answer.text
        return answer.json()

    async def wrong(self, method: str, path: str, body: Any = None) -> tuple[int, str, str | None]:
        """Send a request that must fail; return status, type and param."""
        answer = await self.http.request(method, path, json=body)
        error = answer.json()["error"]
        assert answer.status_code == error["code"] >= 400
        return error["code"], error["type"], error["param"]

    async def entry(self, bucket: str, key: str, kind: type[Any]) -> Any:
        """Read an entry of a bucket; None if there is none."""
        found = await Bucket(self.bus.nats_py, self.log, bucket).get(key)
        return found and found.value and msgspec.json.decode(found.value, type=kind)


class Home:
    """What a service is started with again and again: one server, one set of secrets."""

    def __init__(self, node: NatsNode, decrypter: Decrypter | None = None) -> None:
        self.node = node
        self.decrypter = decrypter or Decrypter(new_private_key())
        self.token = mint("kfa", SECRETS, entropy.token_bytes(ID_BYTES), entropy.token_bytes(SECRET_BYTES)).text

    def made_with(self) -> Meta:
        """What KF_META says of its log."""
        return made_with(
            PARTITIONS,
            key_secret=ROOT.hex(),
            edge_key=self.decrypter.public_key,
            commitment_secret=COMMITMENT_SECRET.hex(),
        )

    def settings(self, **changed: Any) -> KeysSettings:
        return KeysSettings(
            key_secret=SecretStr(ROOT.hex()),
            nats_url=self.node.url,
            nats_monitor_url=self.node.monitor_url,
            edge_public_key=self.decrypter.public_key,
            commitment_secret=SecretStr(COMMITMENT_SECRET.hex()),
            bootstrap_admin_token=SecretStr(self.token),
            **changed,
        )

    @asynccontextmanager
    async def keys(self, clock: Clock | None = None) -> AsyncIterator[Keys]:
        """Run the service until the end of the block."""
        settings = self.settings()
        connection = await bus.connect(settings, name="keys-test")
        await declare(connection.nats, made_with=self.made_with(), replicas=1)
        log = JetStreamLog(connection.nats)
        service = Service(connection, log, settings, clock or SystemClock(), partitions=PARTITIONS)
        await service.start()
        transport = httpx.ASGITransport(app=service.asgi, raise_app_exceptions=False)
        headers = {"authorization": f"Bearer {self.token}"}
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://keys", headers=headers) as http:
                yield Keys(service, http, connection, log, self.decrypter, self.token, settings)
        finally:
            await service.stop()
            await connection.close()
