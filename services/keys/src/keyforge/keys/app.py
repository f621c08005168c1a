"""Wiring: one command queue per ctl subject, the directory's projection, the API; and the order of start and stop."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from keyforge.contracts import keyformat, members, subjects
from keyforge.contracts.errors import Problem
from keyforge.eventlog.jetstream import JetStreamLog
from keyforge.eventlog.log import EventLog, LogMissing
from keyforge.eventlog.retry import Backoff, retrying
from keyforge.keys.application.commits import Commits
from keyforge.keys.application.platform import Platform
from keyforge.keys.application.ports import PLATFORM
from keyforge.keys.application.price_feed import PriceFeed
from keyforge.keys.application.tenants import Tenants
from keyforge.keys.core.entries import BUCKETS
from keyforge.keys.errors import SettingsError
from keyforge.keys.inbound.handling import Guard
from keyforge.keys.inbound.metrics import Metrics
from keyforge.keys.inbound.platform import operator_routes, price_routes, provider_routes
from keyforge.keys.inbound.tenants import key_routes, tenant_routes
from keyforge.keys.outbound.command_queue import PLATFORM_TICKS_PER_S_MAX, TICKS_PER_S_MAX, LogCommandQueue
from keyforge.keys.outbound.price_data import GenaiPrices
from keyforge.keys.outbound.projection import DirectoryProjection
from keyforge.keys.outbound.tenant_secrets import BucketTenantSecrets
from keyforge.keys.settings import KeysSettings
from keyforge.runtime import logs, tasks
from keyforge.runtime.buckets import Bucket, BucketUnavailableError
from keyforge.runtime.bus import Bus
from keyforge.runtime.clock import Clock, SystemClock
from keyforge.runtime.encryption import Encrypter
from keyforge.runtime.http import new_app, with_http_guards
from keyforge.runtime.log_fill import LogFill
from keyforge.runtime.serve import serve
from keyforge.runtime.start import connect, waiting
from keyforge.runtime.tenant_secrets import SecretWrapper
from keyforge.runtime.tokens import TokenVerifier

BACKOFF: Final = Backoff(0.2, 0.2)
"""Between two tries of a start. Chosen: a new leader takes 4 to 9 s (`eventlog.fence`), to which this adds a
twentieth at most."""


class Service:
    """The keys service, wired. `start`, serve `asgi` until `failed`, `stop`."""

    def __init__(self, bus: Bus, log: EventLog, settings: KeysSettings, clock: Clock, *, partitions: int) -> None:
        """Needs a running loop."""
        secrets = settings.key_secrets()
        self._bus = bus
        self._settings = settings
        self._following = False
        self._metrics = Metrics()
        self._queues: dict[int | None, LogCommandQueue] = {
            partition: self._queue(log, clock, partition) for partition in (*range(partitions), PLATFORM)
        }
        buckets = {name: Bucket(bus.nats_py, log, name) for name in BUCKETS}
        caches = {partition: queue.facts.cache for partition, queue in self._queues.items()}
        self._directory: DirectoryProjection = DirectoryProjection(caches, buckets)
        self._metrics.watch({_name(partition): queue for partition, queue in self._queues.items()}, self._directory)
        commits = Commits(self._queues, self._directory)
        self._platform = Platform(commits, secrets, Encrypter(settings.edge_public_key))
        self._feed = PriceFeed(self._platform, GenaiPrices(), clock)
        self._started = False
        self._tasks: list[asyncio.Task[None]] = []
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        guard = Guard(TokenVerifier(buckets[subjects.TOKENS_BUCKET], secrets))
        self._fill = LogFill(log, members.KEYS, lambda: [subjects.PLATFORM_STREAM])
        app = new_app("KeyForge: the operators' API", self, self._metrics.registry, self._fill)
        wrapper = SecretWrapper(bytes.fromhex(settings.commitment_secret.get_secret_value()))
        tenant_secrets = BucketTenantSecrets(Bucket(bus.nats_py, log, subjects.TENANT_SECRETS_BUCKET), wrapper)
        tenants = Tenants(commits, secrets, tenant_secrets, clock)
        app.include_router(tenant_routes(tenants, guard))
        app.include_router(key_routes(tenants, guard))
        app.include_router(provider_routes(self._platform, self._feed, guard))
        app.include_router(price_routes(self._platform, guard))
        app.include_router(operator_routes(self._platform, guard))
        self.asgi: Any = with_http_guards(app)

    def checks(self) -> dict[str, bool]:
        """Return what must be true to be ready, by name; `fold_<queue>` for each queue whose fold halted."""
        following = all(not queue.failed.done() for queue in self._queues.values())
        halted = {f"fold_{_name(at)}": False for at, queue in self._queues.items() if queue.halted is not None}
        log = self._bus.is_connected and following
        durable = self._bus.is_durable
        return {"started": self._started, "log": log, "durability": durable, "folds": not halted, **halted}

    def details(self) -> dict[str, Any]:
        """Return what operators should know beside the checks."""
        return {}

    def _queue(self, log: EventLog, clock: Clock, partition: int | None) -> LogCommandQueue:
        def on_foreign(ids: Sequence[str]) -> None:
            if self._following:
                self._directory.remember(partition, ids)

        if partition is None:
            stream, subject, ticks_per_s = subjects.PLATFORM_STREAM, subjects.PLATFORM_CTL, PLATFORM_TICKS_PER_S_MAX
        else:
            stream, subject, ticks_per_s = subjects.log_stream(partition), subjects.ctl(partition), TICKS_PER_S_MAX
        return LogCommandQueue(
            log,
            stream,
            subject,
            clock,
            ticks_per_s=ticks_per_s,
            on_foreign=on_foreign,
            append_took_s=self._metrics.append_of(_name(partition)),
        )

    async def start(self) -> None:
        """Fold every ctl subject, bring the directory up to date, create the first operator's token.

        Waits for logs and buckets that have no leader now. Raises KeysError.
        """
        self._check_token()
        patiently = partial(retrying, backoff=BACKOFF, retry_on=(LogMissing, BucketUnavailableError), failed=waiting())
        await asyncio.gather(*(patiently(queue.start) for queue in self._queues.values()))
        self._following = True
        for queue in self._queues.values():
            queue.failed.add_done_callback(self._on_failed)
        healed: int = await patiently(self._directory.heal)
        await patiently(self._bootstrap)
        self._tasks = [asyncio.create_task(self._directory.run()), asyncio.create_task(self._feed.run())]
        for task in self._tasks:
            task.add_done_callback(self._on_failed)
        self._fill.start()
        self._started = True
        logs.get("keys").info("facts folded", entries_healed=healed, operators=len(self._platform.operators()))

    def _check_token(self) -> None:
        """Refuse a first token that cannot be used, also where no start needs it any more."""
        token = self._settings.bootstrap_admin_token.get_secret_value()
        if token and keyformat.parse_id("kfa", token, self._settings.key_secrets()) is None:
            raise SettingsError(
                "KEYFORGE_BOOTSTRAP_ADMIN_TOKEN was not accepted: it must be a kfa_... token that was made with this "
                "KEYFORGE_KEY_SECRET"
            )

    async def _bootstrap(self) -> None:
        """Create the first operator's token. A halted platform log refuses that; the rest is served all the same."""
        token = self._settings.bootstrap_admin_token.get_secret_value()
        if not token or self._queues[PLATFORM].halted is not None:
            return
        refused = await self._platform.bootstrap(token)
        if isinstance(refused, Problem):
            why = refused.message or refused.kind.message
            if refused.kind.retry:
                raise LogMissing(f"the first operator's token: {why}")
            raise SettingsError(f"KEYFORGE_BOOTSTRAP_ADMIN_TOKEN was not accepted: {why}")

    async def stop(self) -> None:
        """Stop everything that runs."""
        self._started = False
        await self._fill.stop()
        await tasks.end(self._tasks)
        for queue in self._queues.values():
            queue.failed.remove_done_callback(self._on_failed)
            await queue.stop()
        self.failed.cancel()

    def _on_failed(self, failed: "asyncio.Future[None]") -> None:
        error = None if failed.cancelled() else failed.exception()
        if error is not None and not self.failed.done():
            self.failed.set_exception(error)


def _name(partition: int | None) -> str:
    return "platform" if partition is None else str(partition)


async def main(settings: KeysSettings) -> int:
    """Serve; return the exit code."""
    connection, partitions = await connect(settings)
    try:
        service = Service(connection, JetStreamLog(connection.nats), settings, SystemClock(), partitions=partitions)
        await service.start()
        return await serve(service.asgi, settings, stop=service.stop, failed=service.failed)
    finally:
        await connection.close()
