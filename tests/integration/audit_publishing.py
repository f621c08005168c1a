"""A projection that publishes to KF_AUDIT of a log in memory, and what is published there."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from keyforge.audit import app
from keyforge.audit.application.projection import Projection
from keyforge.audit.metrics import Metrics
from keyforge.audit.outbound import publisher
from keyforge.audit.outbound.store import Store
from keyforge.chain.seal import key_chain, tenant_chain
from keyforge.contracts import sealed, subjects
from keyforge.contracts.sealed import SealedRecord
from keyforge.eventlog.memory import MemoryLog
from tests.integration.audit_engine import LINGER_S
from tests.unit import audit_facts as facts
from tests.unit.audit_facts import KEY, MASTER, TENANT

CHAIN, TENANT_CHAIN = key_chain(TENANT, KEY), tenant_chain(TENANT)
POSITION = subjects.bucket_stream(subjects.AUDIT_POSITION_BUCKET)
POSITION_0 = subjects.bucket_subject(subjects.AUDIT_POSITION_BUCKET, subjects.audit_position_key(0))


@asynccontextmanager
async def publishing(
    log: Any, store: Store, *, waiting_bytes_max: int = publisher.WAITING_BYTES_MAX
) -> AsyncIterator[Projection]:
    metrics = Metrics()
    publishing_to = publisher.Publisher(log, store, 1, MASTER, metrics=metrics, waiting_bytes_max=waiting_bytes_max)
    projection = app.projection_of(
        log, store, MASTER, partitions=1, linger_s=LINGER_S, metrics=metrics, publisher=publishing_to
    )
    projection.start()
    try:
        yield projection
    finally:
        await projection.stop()
        store.close()


async def messages(log: MemoryLog) -> list[tuple[str, list[SealedRecord]]]:
    """Subject and records of every message in KF_AUDIT, as they came."""
    end = await log.end(subjects.AUDIT_STREAM)
    found: list[tuple[str, list[SealedRecord]]] = []
    reading = log.read(subjects.AUDIT_STREAM, forgets=True)
    seen = max(0, (await log.state(subjects.AUDIT_STREAM)).first - 1)
    while seen < end:
        for message in await anext(reading):
            seen = message.seq
            found.append((message.subject, [one.data for one in sealed.decode(message.data)]))
    await reading.aclose()
    return found


async def published(log: MemoryLog, chain: str = CHAIN) -> list[int]:
    """The seqs of a chain's records in KF_AUDIT, as they came."""
    return [one.seq for _, records in await messages(log) for one in records if one.chain == chain]


async def has(log: MemoryLog, count: int) -> bool:
    """Whether seq 1 to `count` were published. A repeat may go back, the first copy never leaves one out."""
    seqs = await published(log)
    first = list(dict.fromkeys(seqs))
    assert first == list(range(1, len(first) + 1))
    return len(first) == count


async def position(log: MemoryLog) -> int:
    """Up to which message log 0 is published, as KF_AUDIT_POSITION has it."""
    entry = await log.last(POSITION, POSITION_0)
    return msgspec.json.decode(entry.data)["sequence"] if entry and entry.data.startswith(b"{") else 0


async def is_at(log: MemoryLog, sequence: int) -> bool:
    return await position(log) == sequence


def pair(number: int) -> list[facts.Sent]:
    return [facts.adm(facts.admitted(number)), facts.use(facts.completed(number))]


def withheld(projection: Projection) -> float | None:
    """How many stored records were withheld, or found missing, so far."""
    return projection._metrics.registry.get_sample_value("keyforge_audit_records_withheld_total")
