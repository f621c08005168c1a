"""The embedded ClickHouse engine in this process, once for the whole run: one folder, a database for each test."""

import atexit
import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
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


@cache
def engine_path() -> str:
    """The folder of this process's engine, which goes with the process."""
    folder = Path(tempfile.mkdtemp(prefix="keyforge-engine-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return str(folder / "clickhouse")


def new_database() -> str:
    return f"test{next(_names)}"


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
