"""The embedded ClickHouse engine in this process, once for the whole run: one folder, a database for each test."""

import atexit
import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from keyforge.audit import app
from keyforge.audit.application.build import Build
from keyforge.audit.application.freshness import wait_until_stored
from keyforge.audit.application.projection import Projection
from keyforge.audit.core.sealed import Head
from keyforge.audit.metrics import Metrics
from keyforge.audit.outbound import clients
from keyforge.audit.outbound.store import Store
from keyforge.eventlog.log import Appended
from keyforge.eventlog.memory import MemoryLog
from keyforge.runtime.clock import SetClock
from tests.unit.audit_facts import MASTER, NOW, Sent

LINGER_S = 0.02
_names = itertools.count(1)
_made: list[str] = []


@cache
def engine_path() -> str:
    """The folder of this process's engine, which goes with the process.

    One client stays open until then: the engine ends with its last one, and a start loads all databases again
    (measured: 2.3 s of CPU with those of 200 tests).
    """
    folder = Path(tempfile.mkdtemp(prefix="keyforge-engine-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = str(folder / "clickhouse")
    atexit.register(clients.engine(path)().close)
    return path


def new_database() -> str:
    _made.append(f"test{next(_names)}")
    return _made[-1]


@contextmanager
def databases_dropped() -> Iterator[None]:
    """Drop the databases that are made inside: tables that nobody asks cost CPU as well (0.08 cores for those of 300
    tests)."""
    before = len(_made)
    yield
    if gone := _made[before:]:
        with store_on(gone[0])._client() as client:
            for name in gone:
                client.command(f"DROP DATABASE IF EXISTS {name} SYNC")
        del _made[before:]


def store_on(database: str, kind: Callable[..., Store] = Store) -> Store:
    return kind(clients.engine(engine_path()), database)


async def log_of(*messages: Sent, partitions: int = 1) -> MemoryLog:
    """A log that holds these messages, all at one time."""
    log = MemoryLog.of_partitions(partitions, clock=lambda: NOW)
    await append(log, messages)
    return log


async def append(log: MemoryLog, messages: Sequence[Sent]) -> None:
    for message in messages:
        assert isinstance(await log.append(message.subject, message.data), Appended)


@asynccontextmanager
async def projecting(log: Any, store: Store, *, partitions: int = 1) -> AsyncIterator[Projection]:
    """A projection that follows `log` into `store`, until the block ends."""
    projection = app.projection_of(
        log, store, MASTER, partitions=partitions, linger_s=LINGER_S, metrics=Metrics(), clock=SetClock(NOW)
    )
    projection.start()
    try:
        yield projection
    finally:
        await projection.stop()
        store.close()


def build_of(projection: Projection) -> Build:
    """The current build, once there is one."""
    assert projection.build is not None
    return projection.build


def head_of(projection: Projection, chain: str) -> Head | None:
    """The head of a chain as far as it is stored."""
    return projection.build.writer.heads.get(chain) if projection.build is not None else None


async def until_stored(projection: Projection, wait_s: float) -> int:
    """How many messages are not stored after `wait_s`."""
    build = build_of(projection)
    return await wait_until_stored(build, build.followed, wait_s)
