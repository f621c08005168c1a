"""Wires audit: the logs, the folds, ClickHouse, the operators' API, ClickHouse's HTTP port, the subscribers' stream."""

import asyncio
import gc
import os
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import uvicorn

from keyforge.audit.application.chains import Chains
from keyforge.audit.application.follow import PULL_MESSAGES
from keyforge.audit.application.ports import StorePorts
from keyforge.audit.application.projection import Projection
from keyforge.audit.application.queries import Queries
from keyforge.audit.application.spending import Spending
from keyforge.audit.core.position import StoredState
from keyforge.audit.errors import PortEndedError, UnusableStoreError
from keyforge.audit.inbound import api
from keyforge.audit.inbound.clickhouse_http import ClickHouseHttp
from keyforge.audit.metrics import Metrics
from keyforge.audit.outbound import clients
from keyforge.audit.outbound.built import Built
from keyforge.audit.outbound.comparison import Comparison
from keyforge.audit.outbound.engine import Engine
from keyforge.audit.outbound.publisher import Publisher
from keyforge.audit.outbound.store import Store
from keyforge.audit.outbound.tables import BESIDE, TableSets
from keyforge.audit.outbound.writer import Writer
from keyforge.audit.settings import AuditSettings
from keyforge.chain.seal import MasterKey
from keyforge.contracts import members, subjects
from keyforge.eventlog.jetstream import JetStreamLog
from keyforge.eventlog.log import EventLog
from keyforge.eventlog.reader import ReaderBounds
from keyforge.runtime import http
from keyforge.runtime.body import App
from keyforge.runtime.buckets import Bucket
from keyforge.runtime.bus import Bus
from keyforge.runtime.clock import Clock, SystemClock
from keyforge.runtime.log_fill import LogFill
from keyforge.runtime.protocol import BoundedProtocol
from keyforge.runtime.serve import listen, serve
from keyforge.runtime.start import connect
from keyforge.runtime.tokens import TokenVerifier

COLLECT_EVERY: Final = 50_000
"""Objects created and not freed before the youngest generation is collected; Python's default is 700 to 2,000. Chosen:
more than the records of two whole INSERTs (`writer.ROWS_MAX`), which are not traversed while they are being encoded."""
CLICKHOUSE_PORT: Final = "KEYFORGE_CLICKHOUSE_HTTP_PORT"
START_S_MAX: Final = 60.0
"""How long one that starts may lag before it serves what it has, each answer with its lag. Chosen: 2 million events are
folded in it (measured: 27 us each); halved, a replica that was away for an hour of load answers `not_stored_yet` while
another is current; doubled, the only audit of a large log answers nothing for two minutes."""
DISAGREEING_SHOWN_MAX: Final = 5
"""Chains that /readyz names. Chosen: five of up to 300 characters fit a line of a log."""


class Readiness:
    """What /readyz returns. One that starts is not ready before it has caught up: another answers meanwhile."""

    def __init__(self, bus: Bus, projection: Projection, monotonic: Callable[[], float]) -> None:
        self._bus = bus
        self._projection = projection
        self._monotonic = monotonic
        self._began_s = monotonic()
        self._started = False

    def checks(self) -> dict[str, bool]:
        """Return the conditions of being ready, by name."""
        if not self._started:
            self._started = self._projection.caught_up or self._monotonic() - self._began_s >= START_S_MAX
        return {
            "started": self._started,
            "log": self._bus.is_connected,
            "durability": self._bus.is_durable,
            "store": self._projection.store_healthy,
            "evidence_agrees": self._projection.state != "halted" and not self._projection.halted(),
            "logs_readable": self._projection.logs_readable,
        }

    def details(self) -> dict[str, Any]:
        """Return which logs are halted, how many chains disagree with their log and where the first do, and why nothing
        reaches subscribers: KF_AUDIT is the same for every audit, and if all were unready nobody would answer."""
        halted = self._projection.halted()
        disagreeing = self._projection.disagreements()
        first = [str(found) for found in disagreeing[:DISAGREEING_SHOWN_MAX]]
        count = len({found.chain for found in disagreeing}) + self._projection.left_out()
        why, unpublished = self._projection.halt_reason, self._projection.publish_failure
        return {
            **({"halted": halted} if halted else {}),
            **({"tables": why} if why else {}),
            **({"disagreeing": count, "first": first} if disagreeing else {}),
            **({"subscribers": unpublished} if unpublished else {}),
        }


class Service:
    """Audit, wired and not yet started."""

    def __init__(self, settings: AuditSettings, bus: Bus, *, partitions: int) -> None:
        self.metrics = Metrics()
        self.master = settings.master_key()
        self.store = store_of(settings)
        log = JetStreamLog(bus.nats, reader=ReaderBounds(pull_messages=PULL_MESSAGES))
        self.projection = projection_of(
            log,
            self.store,
            self.master,
            partitions=partitions,
            linger_s=settings.audit_linger_s,
            metrics=self.metrics,
            publisher=Publisher(log, self.store, partitions, self.master, metrics=self.metrics),
        )
        self._bus = bus
        logs = [*map(subjects.log_stream, range(partitions)), subjects.PLATFORM_STREAM]
        self._fill = LogFill(log, members.AUDIT, lambda: logs, copies=[subjects.AUDIT_STREAM])
        self._port = _ClickHousePort(settings) if settings.clickhouse_http_port else None
        self.app = self._operators_api(settings, log)

    async def start(self) -> None:
        """Open ClickHouse's port and begin to follow the logs. Raises CannotListenError."""
        if self._port is not None:
            self._port.open(self.projection.fail)
        self.projection.start()
        self._fill.start()

    async def stop(self) -> None:
        """Close the port, finish the block on its way to the store, and close the store."""
        if self._port is not None:
            await self._port.close()
        await self._fill.stop()
        await self.projection.stop()
        await asyncio.to_thread(self.store.close)

    def _operators_api(self, settings: AuditSettings, log: EventLog) -> App:
        readiness = Readiness(self._bus, self.projection, SystemClock().monotonic)
        app = http.new_app("KeyForge audit", readiness, self.metrics.registry, self._fill)
        verifier = TokenVerifier(Bucket(self._bus.nats_py, log, subjects.TOKENS_BUCKET), settings.key_secrets())
        reader, admin = http.operator_of(verifier), http.operator_of(verifier, writes=True)
        chains = Chains(self.projection, self.projection.examiner)
        spending = Spending(self.store, self.projection)
        api.add_routes(app, chains, spending, self.projection, reader=reader, admin=admin)
        return http.with_http_guards(app)


class _ClickHousePort:
    """Serves ClickHouse's HTTP protocol beside the operators' API."""

    def __init__(self, settings: AuditSettings) -> None:
        self._queries = Queries(Engine(settings.clickhouse_path, clients.DATABASE))
        password = settings.clickhouse_password.get_secret_value()
        self._app = ClickHouseHttp(self._queries, user=settings.clickhouse_user, password=password)
        self._address = (settings.host, settings.clickhouse_http_port)
        self._server: uvicorn.Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._closing = False

    def open(self, failed: Callable[[Exception], None]) -> None:
        """Serve until `close`. What ends it otherwise is passed to `failed`. Raises CannotListenError."""
        config = uvicorn.Config(
            self._app,
            loop="none",
            http=BoundedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=2,
        )
        sockets = listen(*self._address, CLICKHOUSE_PORT)
        # `_serve` and not `serve`: the server of the operators' API handles signals.
        self._server = uvicorn.Server(config)
        self._serving = asyncio.get_running_loop().create_task(self._server._serve(sockets))  # noqa: SLF001
        self._serving.add_done_callback(partial(self._ended, failed))

    def _ended(self, failed: Callable[[Exception], None], serving: asyncio.Task[None]) -> None:
        error = None if serving.cancelled() else serving.exception()
        if not self._closing:
            failed(PortEndedError(f"{CLICKHOUSE_PORT}: the port is served no more: {error or 'its server ended'}"))

    async def close(self) -> None:
        self._closing = True
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await self._queries.close()
            await asyncio.wait([self._serving])


def projection_of(
    eventlog: EventLog,
    store: Store,
    master: MasterKey,
    *,
    partitions: int,
    linger_s: float,
    metrics: Metrics,
    publisher: Publisher | None = None,
    clock: Clock | None = None,
) -> Projection:
    """Wire a projection of the logs into `store`; stored records go on to `publisher`, if there is one."""

    def writer_of(stored: StoredState, *, beside: bool) -> Writer:
        return Writer(
            store,
            stored,
            linger_s=linger_s,
            metrics=metrics,
            tables_suffix=BESIDE if beside else "",
            offer=publisher.offer if publisher is not None else None,
        )

    of = store.clients
    ports = StorePorts(store, TableSets(of), Comparison(of), Built(of, master), master)
    return Projection(
        eventlog,
        ports,
        partitions=partitions,
        linger_s=linger_s,
        metrics=metrics,
        clock=clock or SystemClock(),
        writer_of=writer_of,
        publisher=publisher,
    )


def store_of(settings: AuditSettings) -> Store:
    """Return the store: on a ClickHouse server, or on the engine in this process."""
    url = settings.clickhouse_url.get_secret_value()
    if url:
        return Store(clients.server(url), clients.database_of(url))
    return Store(clients.engine(settings.clickhouse_path))


def check(settings: AuditSettings) -> None:
    """Check what needs neither the log nor the store. Raises CannotListenError, UnusableStoreError."""
    if settings.clickhouse_http_port:
        for one in listen(settings.host, settings.clickhouse_http_port, CLICKHOUSE_PORT):
            one.close()
    if settings.clickhouse_url.get_secret_value():
        return
    if find_spec("chdb") is None:
        raise UnusableStoreError("KEYFORGE_CLICKHOUSE_URL: must be set where the package chdb is not installed")
    try:
        Path(settings.clickhouse_path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnusableStoreError(f"KEYFORGE_CLICKHOUSE_PATH: must be a folder: {error.strerror}") from None
    if not os.access(settings.clickhouse_path, os.R_OK | os.W_OK | os.X_OK):
        raise UnusableStoreError("KEYFORGE_CLICKHOUSE_PATH: must be a folder that can be read and written")


def load(settings: AuditSettings) -> None:
    """Import the slow libraries; runs in a thread while the service connects."""
    if not settings.clickhouse_url.get_secret_value():
        import chdb  # noqa: F401  # 1.3 s
    import clickhouse_connect  # noqa: F401


async def main(settings: AuditSettings) -> int:
    """Serve; return the exit code."""
    check(settings)
    loading = asyncio.create_task(asyncio.to_thread(load, settings))
    connection, partitions = await connect(settings)
    try:
        service = Service(settings, connection, partitions=partitions)
        await service.start()
        _collect_seldom()
        return await serve(service.app, settings, stop=service.stop, failed=service.projection.failed)
    finally:
        await connection.close()
        await loading


def _collect_seldom() -> None:
    """Collect garbage seldom: there are hardly any cycles, and a collection traverses all that waits to be stored."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_EVERY, 20, 100)
