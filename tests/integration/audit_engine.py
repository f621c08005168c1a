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
from keyforge.audit.application.projection import Projection
from keyforge.audit.metrics import Metrics
from keyforge.audit.outbound import store as stores
from keyforge.audit.outbound.store import Store
from keyforge.eventlog.log import Appended
from keyforge.eventlog.memory import MemoryLog
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
    return kind(stores.engine(engine_path()), database)


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
    projection = app.projection_of(log, store, MASTER, partitions=partitions, linger_s=LINGER_S, metrics=Metrics())
    projection.start()
    try:
        yield projection
    finally:
        await projection.stop()
        store.close()
