"""Wires the edge: what it hears, what it asks, what it serves; and ends it in order."""

import asyncio
import gc
import os
from collections.abc import Coroutine
from typing import Any, Final

from keyforge.contracts import subjects
from keyforge.contracts.directory import CredentialEntry
from keyforge.contracts.events import Event, KeyRevoked, TenantUpdated
from keyforge.contracts.ids import EdgeId, RequestIds
from keyforge.edge import metrics
from keyforge.edge.application.context import Bounds, Edge
from keyforge.edge.application.running import Streams
from keyforge.edge.core.settlement.commitment import CommitmentKey
from keyforge.edge.core.settlement.refusal_counter import Refusals
from keyforge.edge.inbound.fast_path import EdgeProtocol
from keyforge.edge.inbound.routes import Front
from keyforge.edge.outbound.budget_client import ReserveBounds, ReserveClient
from keyforge.edge.outbound.feeds.bucket_watch import follow
from keyforge.edge.outbound.feeds.control_feed import Hearing
from keyforge.edge.outbound.feeds.key_directory import Directory
from keyforge.edge.outbound.feeds.owners import Leases
from keyforge.edge.outbound.feeds.provider_registry import Opener as OpenCredential
from keyforge.edge.outbound.feeds.provider_registry import Providers
from keyforge.edge.outbound.outcome_log import Outcomes
from keyforge.edge.outbound.provider_http.client import HttpUpstream
from keyforge.edge.outbound.provider_http.seam import TimeLimits
from keyforge.edge.settings import EdgeSettings
from keyforge.eventlog.durability import require_durable
from keyforge.eventlog.jetstream import JetStreamLog
from keyforge.eventlog.log import EventLog
from keyforge.runtime import bus, logs
from keyforge.runtime.buckets import Bucket
from keyforge.runtime.bus import Bus
from keyforge.runtime.clock import Clock, SystemClock, epoch_ms
from keyforge.runtime.encryption import Binding, Decrypter
from keyforge.runtime.http import new_app, with_http_guards
from keyforge.runtime.serve import serve

GC_THRESHOLDS: Final = (50_000, 20, 100)
"""A request makes no cycles: the collector need not look so often. What was there at the start it never looks at."""
TICK_S: Final = 1.0
FLUSH_S_MAX: Final = 5.0
"""How long the end of the service waits for its last outcomes to be stored."""


class Service:
    """The edge with what keeps it going."""

    def __init__(self, edge: Edge, leases: Leases, connection: Bus, log: EventLog, partitions: int) -> None:
        self.edge = edge
        self._leases = leases
        self._bus = connection
        self._eventlog = log
        self._partitions = partitions
        self._tasks: set[asyncio.Task[None]] = set()
        self._unknown_keys = 0
        self._log = logs.get("edge")
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def checks(self) -> dict[str, bool]:
        """What must hold before agents are served."""
        return {
            "bus": self._bus.is_connected,
            "owners": self._leases.fresh(),
            "platform": self.edge.providers.loaded(),
            "hearing": self.edge.hearing.well(),
            "log": all(self.edge.outcomes.trouble(partition) is None for partition in range(self._partitions)),
        }

    def start(self) -> None:
        """Begin to hear, and to tell once a second."""
        providers = self.edge.providers
        for name, hear in (
            (subjects.LEASES_BUCKET, self._leases.hear),
            (subjects.PROVIDERS_BUCKET, providers.hear_providers),
            (subjects.PRICES_BUCKET, providers.hear_prices),
            (subjects.CREDENTIALS_BUCKET, providers.hear_credentials),
        ):
            self._run(follow(self._eventlog, Bucket(self._bus.nats_py, self._eventlog, name), name, hear))
        self._run(self.edge.hearing.run())
        self._run(self._tick())

    async def stop(self) -> None:
        """Tell the log what it has not been told, then let go of everything."""
        for told in self.edge.refusals.rest():
            self.edge.outcomes.tell(told.partition, told.event)
        try:
            async with asyncio.timeout(FLUSH_S_MAX):
                await self.edge.streams.ended()  # those that were cut off a moment ago still have to be told
                await self.edge.outcomes.drain()
        except TimeoutError:
            self._log.critical("outcomes were not stored", count=self.edge.outcomes.waiting())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._bus.close()

    async def _tick(self) -> None:
        edge = self.edge
        while True:
            await asyncio.sleep(TICK_S)
            for told in edge.refusals.due(edge.outcomes.room):
                edge.outcomes.tell(told.partition, told.event)
            edge.streams.drop_stalled(edge.clock.monotonic(), edge.bounds.stall_s)
            if edge.metrics.unknown_keys > self._unknown_keys:
                self._log.warning("unknown keys", count=edge.metrics.unknown_keys - self._unknown_keys)
                self._unknown_keys = edge.metrics.unknown_keys

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None and not self.failed.done():
            self.failed.set_exception(fault)


def build(settings: EdgeSettings, connection: Bus, log: EventLog, clock: Clock) -> Service:
    """Put an edge together; nothing runs yet."""
    edge_id = EdgeId(settings.instance)
    leases = Leases(settings.partitions, clock.monotonic)
    directory = Directory(
        Bucket(connection.nats_py, log, subjects.DIRECTORY_BUCKET), settings.key_secrets(), clock.monotonic
    )
    streams = Streams()

    def on_event(partition: int, event: Event) -> None:
        directory.hear(partition, event)
        if isinstance(event, KeyRevoked):
            streams.cut_key(event.key_id, "stream_revoked")
        elif isinstance(event, TenantUpdated) and event.status == "suspended":
            streams.cut_tenant(event.tenant, "tenant_suspended")

    reserve_bounds = ReserveBounds(settings.answer_time_limit_s, settings.owner_time_limit_s)
    edge = Edge(
        edge_id=edge_id,
        bounds=_bounds(settings),
        commitment_key=CommitmentKey(bytes.fromhex(settings.commitment_secret.get_secret_value())),
        clock=clock,
        ids=RequestIds(epoch_ms, os.urandom),
        directory=directory,
        providers=Providers(_opener(settings)),
        reserves=ReserveClient(connection.nats, leases, edge_id, reserve_bounds, clock.monotonic),
        outcomes=Outcomes(log, edge_id, clock.now),
        refusals=Refusals(edge_id),
        hearing=Hearing(
            log,
            settings.partitions,
            clock.monotonic,
            on_event,
            lambda partition: streams.cut_partition(partition, "log_unavailable"),
        ),
        streams=streams,
        upstream=HttpUpstream(),
        metrics=metrics.Metrics(),
    )
    return Service(edge, leases, connection, log, settings.partitions)


def front(service: Service) -> Front:
    """Return what is served."""
    edge = service.edge
    gauges = {
        "keyforge_edge_open_requests": lambda: edge.metrics.open_requests,
        "keyforge_edge_open_streams": lambda: len(edge.streams),
        "keyforge_edge_outcomes_waiting": edge.outcomes.waiting,
    }
    rest = new_app("KeyForge edge", service, metrics.registry(edge.metrics, gauges))
    return Front(edge, with_http_guards(rest))


async def main(settings: EdgeSettings) -> int:
    """Run the edge until it is told to end; return the exit code."""
    log = logs.get("edge")
    if settings.bench_no_reserve:
        log.critical("RESERVING IS OFF: no budget is enforced. KEYFORGE_BENCH_NO_RESERVE is for the bench only")
    await require_durable(settings.nats_monitor_url.split(","), relaxed=settings.durability == "relaxed")
    connection = await bus.connect(settings)
    service = build(settings, connection, JetStreamLog(connection.nats), SystemClock())
    service.start()
    gc.set_threshold(*GC_THRESHOLDS)
    gc.freeze()
    return await serve(front(service), settings, stop=service.stop, failed=service.failed, protocol=EdgeProtocol)


def _opener(settings: EdgeSettings) -> OpenCredential:
    decrypter = Decrypter(settings.edge_private_key.get_secret_value())

    def opened(entry: CredentialEntry) -> str:
        binding = Binding(
            credential=entry.credential, version=entry.version, provider=entry.provider, base_url=entry.base_url
        )
        return decrypter.decrypt(entry.sealed, binding)

    return opened


def _bounds(settings: EdgeSettings) -> Bounds:
    return Bounds(
        request_s=settings.request_time_limit_s,
        body_bytes_max=settings.body_bytes_max,
        body_s=settings.body_time_limit_s,
        open_requests_max=settings.open_requests_max,
        attempts_max=settings.attempts_max,
        stall_s=settings.stall_time_limit_s,
        drain_s=settings.drain_time_limit_s,
        drain_bytes_max=settings.drain_bytes_max,
        upstream=TimeLimits(
            settings.connect_time_limit_s, settings.first_byte_time_limit_s, settings.idle_time_limit_s
        ),
        reserves=not settings.bench_no_reserve,
        as_openrouter=settings.compat == "openrouter",
    )
