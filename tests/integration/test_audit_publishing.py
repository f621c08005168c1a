"""Stored records reach KF_AUDIT: at least once, in order, none skipped, whatever happens in between."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from keyforge.audit import app
from keyforge.audit.application.projection import Projection
from keyforge.audit.metrics import Metrics
from keyforge.audit.outbound import publisher
from keyforge.audit.outbound.store import Store
from keyforge.audit.outbound.tables import TableSets
from keyforge.chain.seal import key_chain
from keyforge.contracts import sealed, subjects
from keyforge.eventlog.log import AppendUnknown, Outcome
from keyforge.eventlog.memory import MemoryLog
from keyforge.testkit.nats_client import until
from tests.integration.audit_engine import (
    LINGER_S,
    append,
    engine_path,
    head_of,
    log_of,
    new_database,
    projecting,
    store_on,
)
from tests.unit import audit_facts as facts
from tests.unit.audit_facts import KEY, MASTER, TENANT

SUBJECT = subjects.audit_subject(TENANT, KEY)
CHAIN = key_chain(TENANT, KEY)
FULL_BYTES = 4096


@asynccontextmanager
async def publishing(
    log: Any, store: Store, *, waiting_bytes_max: int = publisher.WAITING_BYTES_MAX
) -> AsyncIterator[Projection]:
    metrics = Metrics()
    publishing_to = publisher.Publisher(log, store, 1, metrics=metrics, waiting_bytes_max=waiting_bytes_max)
    projection = app.projection_of(
        log, store, MASTER, partitions=1, linger_s=LINGER_S, metrics=metrics, publisher=publishing_to
    )
    projection.start()
    try:
        yield projection
    finally:
        await projection.stop()
        store.close()


async def published(log: MemoryLog) -> list[int]:
    """The seqs of the key's records in KF_AUDIT, as they came."""
    end = await log.end(subjects.AUDIT_STREAM)
    found: list[int] = []
    reading = log.read(subjects.AUDIT_STREAM)
    seen = 0
    while seen < end:
        for message in await anext(reading):
            assert message.subject == SUBJECT
            seen = message.seq
            found += [one.data.seq for one in sealed.decode(message.data)]
    await reading.aclose()
    return found


async def has(log: MemoryLog, count: int) -> bool:
    """Whether seq 1 to `count` were published. A repeat may go back, the first copy never leaves one out."""
    seqs = await published(log)
    first = list(dict.fromkeys(seqs))
    assert first == list(range(1, len(first) + 1))
    return len(first) == count


def pair(number: int) -> list[facts.Sent]:
    return [facts.adm(facts.admitted(number)), facts.use(facts.completed(number))]


async def test_each_stored_record_once_and_in_order() -> None:
    log = await log_of(facts.begun(), *pair(1), *pair(2))
    async with publishing(log, store_on(new_database())) as projection:
        await until(lambda: has(log, 5))
        await append(log, pair(3))
        await until(lambda: has(log, 7))
        assert await published(log) == list(range(1, 8))
        assert projection.subscribers_served


async def test_what_was_stored_and_not_published_is_published_at_the_next_start() -> None:
    log = await log_of(facts.begun(), *pair(1))
    database = new_database()
    async with projecting(log, store_on(database)) as projection:

        async def stored() -> bool:
            return head_of(projection, CHAIN) is not None

        await until(stored)
    assert await log.end(subjects.AUDIT_STREAM) == 0
    async with publishing(log, store_on(database)):
        await until(lambda: has(log, 3))
    await append(log, pair(2))
    async with publishing(log, store_on(database)):
        await until(lambda: has(log, 5))
    assert await published(log) == [1, 2, 3, 4, 5]


async def test_a_full_stream_holds_up_nobody_and_skips_nothing() -> None:
    log = await log_of(facts.begun())
    log.declare(subjects.AUDIT_STREAM, [subjects.AUDIT_ALL], bytes_max=FULL_BYTES)
    async with publishing(log, store_on(new_database())) as projection:
        await until(lambda: has(log, 1))
        for number in range(6):
            await append(log, pair(number))

        async def stored() -> bool:
            return head_of(projection, CHAIN) is not None and head_of(projection, CHAIN)[0] == 13  # type: ignore[index]

        await until(stored)

        async def unserved() -> bool:
            return not projection.subscribers_served

        await until(unserved)
        assert projection.store_healthy
        assert len(set(await published(log))) < 13
        # A larger stream, empty: what the old one had is lost with it, what it had not must come.
        before = set(await published(log))
        log.declare(subjects.AUDIT_STREAM, [subjects.AUDIT_ALL])

        async def rest() -> bool:
            return before | set(await published(log)) == set(range(1, 14))

        await until(rest)
        assert projection.subscribers_served


async def test_too_much_waiting_is_read_from_the_store() -> None:
    log = await log_of(facts.begun())
    async with publishing(log, store_on(new_database()), waiting_bytes_max=1) as projection:
        await until(lambda: has(log, 1))
        for number in range(4):
            await append(log, pair(number))
        await until(lambda: has(log, 9))
        assert projection._publisher is not None
        assert projection._publisher.waiting_bytes == 0


class Cut:
    """A log whose KF_AUDIT takes so many messages, and then answers nothing of use."""

    def __init__(self, log: MemoryLog, messages: int) -> None:
        self._log = log
        self._left = messages

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def append(self, subject: str, message: bytes) -> Outcome:
        self._left -= 1
        if self._left < 0:
            raise AppendUnknown("cut")
        return await self._log.append(subject, message)


@pytest.mark.parametrize("messages", range(4))
async def test_a_crash_in_the_middle_of_a_block_goes_back_to_its_beginning(
    messages: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealed, "BATCH_BYTES_MAX", 1)  # each record a message
    log = await log_of(facts.begun(), *pair(1), *pair(2))
    database = new_database()
    async with publishing(Cut(log, messages), store_on(database)) as projection:

        async def cut() -> bool:
            return not projection.subscribers_served

        await until(cut)
    assert len(await published(log)) == messages
    async with publishing(log, store_on(database)):
        await until(lambda: has(log, 5))


def test_batches_are_bounded() -> None:
    events = [b"x" * (sealed.BATCH_BYTES_MAX // 2 - 1)] * 5
    assert [len(batch) for batch in publisher._batches(events)] == [2, 2, 1]
    assert publisher._batches([b"x" * sealed.RECORD_BYTES_MAX]) == [[b"x" * sealed.RECORD_BYTES_MAX]]


def _bounded() -> Any:
    """Connect to the engine with less memory for a query than the bodies of the table below take."""
    import clickhouse_connect

    return clickhouse_connect.get_client(
        interface="chdb", path=engine_path(), settings={"max_memory_usage": 96 * 1024 * 1024}
    )


async def test_a_page_of_a_large_table_takes_the_memory_of_a_page() -> None:
    """200,000 records with bodies of 1,200 bytes, ten to a message; pages go as far as whole messages do."""
    database = new_database()
    store = Store(_bounded, database)
    TableSets(store.clients).open()
    with store._client() as client:
        client.command(
            "INSERT INTO records"
            " (chain, tenant, key_id, seq, partition, sequence, frame_index, header, hash, mac, body)"
            " SELECT concat('key/acme/', toString(number % 10)), 'acme', toString(number % 10), intDiv(number, 10) + 1,"
            " 0, intDiv(number, 10) + 1, number % 10, '', '', '', randomString(1200) FROM numbers(200000)"
            " SETTINGS max_memory_usage = 0, max_block_size = 5000, min_insert_block_size_rows = 5000"
        )
    page = store.sealed(0, 7, 25)
    assert [(row[0], row[2]) for row in page] == [(sequence, sequence) for sequence in (8, 9, 10) for _ in range(10)]
    assert store.sealed(0, 20_000, 25) == []
    store.close()
