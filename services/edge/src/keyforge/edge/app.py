"""Wires the edge: the ports and what implements them, the use cases, what is served; and ends it in order."""

import asyncio
import gc
import os
from collections.abc import Callable, Coroutine, Iterator, Sequence
from functools import partial
from typing import Any, Final

import msgspec
from prometheus_client import CollectorRegistry

from keyforge.contracts import subjects
from keyforge.contracts.events import Event
from keyforge.contracts.ids import EdgeId, RequestIds
from keyforge.edge import metrics
from keyforge.edge.application.admission import Admission
from keyforge.edge.application.background import Background
from keyforge.edge.application.callers import Callers
from keyforge.edge.application.dispatch import Dispatch
from keyforge.edge.application.flow import RequestFlow
from keyforge.edge.application.models import ModelList
from keyforge.edge.application.ports import (
    BudgetClient,
    ControlFeed,
    KeyDirectory,
    OutcomeLog,
    ProviderRegistry,
    TenantKeys,
)
from keyforge.edge.application.provider_call import TimeLimits, Upstream
from keyforge.edge.application.readiness import Readiness
from keyforge.edge.application.relay import Relay
from keyforge.edge.application.running import RunningRequests
from keyforge.edge.core import cors
from keyforge.edge.core.settlement.pending_outcomes import PendingOutcomes
from keyforge.edge.core.settlement.refusal_counter import RefusalCounter
from keyforge.edge.inbound.fast_path import EdgeProtocol
from keyforge.edge.inbound.routes import AgentRoutes
from keyforge.edge.outbound.budget_client import NatsBudgetClient, ReserveBounds
from keyforge.edge.outbound.feeds.bucket_watch import follow
from keyforge.edge.outbound.feeds.control_feed import LogControlFeed
from keyforge.edge.outbound.feeds.key_directory import BucketKeyDirectory
from keyforge.edge.outbound.feeds.owners import Owners
from keyforge.edge.outbound.feeds.provider_registry import BucketProviderRegistry, decrypting
from keyforge.edge.outbound.feeds.tenant_keys import BucketTenantKeys
from keyforge.edge.outbound.outcome_log import FramedOutcomeLog
from keyforge.edge.outbound.provider_http.client import HttpUpstream
from keyforge.edge.outbound.provider_http.pool import PoolLimits
from keyforge.edge.settings import EdgeSettings
from keyforge.eventlog.jetstream import JetStreamLog
from keyforge.eventlog.log import EventLog
from keyforge.runtime import tasks
from keyforge.runtime.body import App
from keyforge.runtime.buckets import Bucket
from keyforge.runtime.bus import Bus
from keyforge.runtime.clock import Clock, SystemClock, epoch_ms
from keyforge.runtime.encryption import Decrypter
from keyforge.runtime.http import new_app, with_http_guards
from keyforge.runtime.serve import StopFailedError, serve
from keyforge.runtime.start import connect
from keyforge.runtime.tenant_secrets import SecretWrapper

Feed = Callable[[], Coroutine[Any, Any, None]]
"""What follows a subject or a bucket, without end."""

GC_THRESHOLDS: Final = (50_000, 20, 100)
"""A request makes no cycles: the collector need not look so often. What was there at the start it never looks at."""


class Ports(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What the use cases call."""

    keys: KeyDirectory
    tenant_keys: TenantKeys
    providers: ProviderRegistry
    budget: BudgetClient
    outcomes: OutcomeLog
    control_feed: ControlFeed
    upstream: Upstream


class Shared(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What more than one use case needs, and what is counted."""

    edge_id: EdgeId
    clock: Clock
    running: RunningRequests
    refusals: RefusalCounter
    pending: PendingOutcomes
    metrics: metrics.Metrics


class Service:
    """An edge: what is served, and the tasks that keep it going. `failed` is set to the fault that ends it."""

    def __init__(
        self,
        routes: AgentRoutes,
        background: Background,
        running: RunningRequests,
        feeds: Sequence[Feed],
        connection: Bus,
    ) -> None:
        self.routes = routes
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._background = background
        self._running = running
        self._feeds = feeds
        self._bus = connection
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to follow the feeds, and to tick once a second."""
        for work in (*self._feeds, self._background.run):
            task = asyncio.get_running_loop().create_task(work())
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def cut(self) -> None:
        """End the streams that are open: the edge has waited long enough for them."""
        self._running.cut_all("shutting_down")

    async def stop(self) -> None:
        """Store what the log lacks, then close everything. Raises StopFailedError: not all of it is stored."""
        not_stored = await self._background.flush()
        await tasks.end(list(self._tasks))
        await self._bus.close()
        if not_stored:
            raise StopFailedError(f"the log does not take outcomes: {not_stored} were not stored")

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None and not self.failed.done():
            self.failed.set_exception(fault)


def build(
    settings: EdgeSettings,
    connection: Bus,
    log: EventLog,
    clock: Clock,
    *,
    partitions: int,
    budget: BudgetClient | None = None,
) -> Service:
    """Put an edge together; nothing runs yet. `budget`: what admits requests in place of the partitions' owners."""
    edge_id = EdgeId(settings.instance)
    shared = Shared(
        edge_id=edge_id,
        clock=clock,
        running=RunningRequests(),
        refusals=RefusalCounter(edge_id),
        pending=PendingOutcomes(),
        metrics=metrics.Metrics(),
    )
    owners = Owners(clock.monotonic)
    keys = BucketKeyDirectory(
        Bucket(connection.nats_py, log, subjects.DIRECTORY_BUCKET),
        settings.key_secrets(),
        clock.monotonic,
        shared.metrics,
        bytes_max=settings.directory_bytes_max,
    )
    decrypt = decrypting(Decrypter(settings.edge_private_key.get_secret_value()))
    providers = BucketProviderRegistry(decrypt, settings.output_tokens_default)
    control_feed = _control_feed(partitions, log, keys, shared)
    bounds = ReserveBounds(settings.answer_time_limit_s, settings.owner_time_limit_s)
    ports = Ports(
        keys=keys,
        tenant_keys=BucketTenantKeys(
            Bucket(connection.nats_py, log, subjects.TENANT_SECRETS_BUCKET),
            SecretWrapper(bytes.fromhex(settings.commitment_secret.get_secret_value())),
        ),
        providers=providers,
        budget=budget or NatsBudgetClient(connection.nats, owners, edge_id, bounds, clock.monotonic),
        outcomes=FramedOutcomeLog(log, edge_id, clock.now, shared.pending),
        control_feed=control_feed,
        upstream=HttpUpstream(clock.monotonic, PoolLimits(free_s=settings.connection_idle_time_limit_s)),
    )
    own = _own_checks(connection, providers)
    readiness = Readiness(partitions, own, control_feed, owners.owned, ports.outcomes, clock.monotonic)
    counted = _registry(shared, ports.outcomes, control_feed, keys, readiness)
    rest = with_http_guards(new_app("KeyForge edge", readiness, counted))
    stall_s = settings.stall_time_limit_s
    background = Background(shared.running, shared.refusals, ports.outcomes, clock, shared.metrics, stall_s=stall_s)
    feeds = [*_bucket_feeds(connection, log, owners, providers), control_feed.run]
    return Service(agent_routes(settings, ports, shared, rest), background, shared.running, feeds, connection)


def _own_checks(connection: Bus, providers: BucketProviderRegistry) -> dict[str, Callable[[], bool]]:
    return {
        "bus": lambda: connection.is_connected,
        "durability": lambda: connection.is_durable,
        "platform": providers.loaded,
    }


def _registry(
    shared: Shared,
    outcomes: OutcomeLog,
    control_feed: LogControlFeed,
    keys: BucketKeyDirectory,
    readiness: Readiness,
) -> CollectorRegistry:
    gauges = {
        "keyforge_edge_open_requests": lambda: shared.metrics.open_requests,
        "keyforge_edge_running_requests": lambda: len(shared.running),
        "keyforge_edge_outcomes_waiting": outcomes.waiting,
        "keyforge_edge_directory_keys": lambda: keys.count,
        "keyforge_edge_directory_bytes": lambda: keys.held_bytes,
        "keyforge_edge_partitions_cut_off": control_feed.stale_partitions,
    }
    return metrics.registry(shared.metrics, gauges, readiness.lacks)


def _bucket_feeds(connection: Bus, log: EventLog, owners: Owners, providers: BucketProviderRegistry) -> Iterator[Feed]:
    watched = {
        subjects.LEASES_BUCKET: owners.apply,
        subjects.PROVIDERS_BUCKET: providers.apply_providers,
        subjects.PRICES_BUCKET: providers.apply_prices,
        subjects.CREDENTIALS_BUCKET: providers.apply_credentials,
    }
    for name, apply in watched.items():
        yield partial(follow, log, Bucket(connection.nats_py, log, name), name, apply)


def agent_routes(settings: EdgeSettings, ports: Ports, shared: Shared, rest: App) -> AgentRoutes:
    """Return what is served: the agents' routes over their use cases, and `rest` for everything else."""
    clock, request_s = shared.clock, settings.request_time_limit_s
    callers = Callers(ports.keys, shared.refusals, shared.metrics)
    admission = Admission(
        edge_id=shared.edge_id,
        keys=ports.keys,
        providers=ports.providers,
        budget=ports.budget,
        outcomes=ports.outcomes,
        pending=shared.pending,
        control_feed=ports.control_feed,
        tenant_keys=ports.tenant_keys,
        clock=clock,
        request_s=request_s,
    )
    limits = TimeLimits(settings.connect_time_limit_s, settings.first_byte_time_limit_s, settings.idle_time_limit_s)
    flow = RequestFlow(
        edge_id=shared.edge_id,
        callers=callers,
        admission=admission,
        dispatch=Dispatch(
            ports.providers, ports.upstream, clock, shared.metrics, attempts_max=settings.attempts_max, limits=limits
        ),
        relay=Relay(
            ports.providers, clock, drain_s=settings.drain_time_limit_s, drain_bytes_max=settings.drain_bytes_max
        ),
        running=shared.running,
        outcomes=ports.outcomes,
        clock=clock,
        metrics=shared.metrics,
        request_s=request_s,
        body_bytes_max=settings.body_bytes_max,
        body_s=settings.body_time_limit_s,
        early_head_s=settings.early_head_s,
    )
    return AgentRoutes(
        flow,
        ModelList(callers, ports.providers, clock),
        rest,
        shared.metrics,
        RequestIds(epoch_ms, os.urandom),
        clock,
        open_requests_max=settings.open_requests_max,
        body_s=settings.body_time_limit_s,
        stall_s=settings.stall_time_limit_s,
        cors=cors.parse(settings.cors_origins),
    )


async def main(settings: EdgeSettings, budget: BudgetClient | None = None) -> int:
    """Run the edge until it is asked to end; return the exit code. `budget`: see `build`."""
    connection, partitions = await connect(settings)
    log = JetStreamLog(connection.nats)
    service = build(settings, connection, log, SystemClock(), partitions=partitions, budget=budget)
    service.start()
    gc.set_threshold(*GC_THRESHOLDS)
    gc.freeze()
    return await serve(
        service.routes, settings, stop=service.stop, cut=service.cut, failed=service.failed, protocol=EdgeProtocol
    )


def _control_feed(partitions: int, log: EventLog, keys: BucketKeyDirectory, shared: Shared) -> LogControlFeed:
    def on_event(partition: int, event: Event) -> None:
        keys.apply(partition, event)
        shared.running.apply(event)

    def on_stale(partition: int) -> None:
        shared.running.cut_partition(partition, "log_unavailable")

    return LogControlFeed(log, partitions, shared.clock.monotonic, on_event, on_stale, shared.metrics)
