"""ClickHouse is a fold of the log, whatever happens to the process, the store or the tables on the way."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from keyforge.audit.app import START_S_MAX, Readiness
from keyforge.audit.application.projection import Projection
from keyforge.audit.application.rebuild_progress import RebuildProgress
from keyforge.audit.errors import StoreError
from keyforge.audit.outbound import schema
from keyforge.audit.outbound.store import Store
from keyforge.chain.verify import verify
from keyforge.contracts import subjects
from keyforge.eventlog.memory import MemoryLog
from keyforge.runtime.bus import Bus
from tests.integration.audit_engine import (
    append,
    build_of,
    head_of,
    log_of,
    new_database,
    projecting,
    store_on,
    until_stored,
)
from tests.unit import audit_facts as facts
from tests.unit.audit_facts import KEY, MASTER, Sent

CHAIN = f"key/acme/{KEY}"
UNTIL_S = 60.0


def history(first: int = 0, count: int = 20) -> list[Sent]:
    """Requests with ends of every kind."""
    messages = []
    for number in range(first, first + count):
        messages.append(facts.adm(facts.admitted(number)))
        if number % 5 == 1:
            messages.append(facts.use(facts.cancelled(number)))
        elif number % 5 in (2, 3):
            messages.append(facts.adm(facts.abandoned(number)))
        if number % 5 in (0, 3):
            messages.append(facts.use(facts.completed(number)))
    return messages


async def until(what: Callable[[], bool], name: str) -> None:
    end = asyncio.get_running_loop().time() + UNTIL_S
    while not what():
        assert asyncio.get_running_loop().time() < end, f"not within {UNTIL_S} s: {name}"
        await asyncio.sleep(0.01)


async def caught_up(projection: Projection, log: MemoryLog, partition: int = 0) -> None:
    end = await log.end(subjects.log_stream(partition))
    await until(
        lambda: projection.build is not None and projection.build.writer.done.get(partition, 0) >= end, "all is stored"
    )


def rows(store: Store, query: str) -> list[tuple[Any, ...]]:
    with store._client() as client:
        return [tuple(row) for row in client.query(query, column_formats={"body": "bytes"}).result_rows]


def assert_equals_fold(store: Store, messages: Sequence[Sent]) -> None:
    """Both tables hold what a fold of the log from zero gives: no row lost, none twice."""
    expected = facts.fold(messages)
    found = rows(store, "SELECT chain, tenant, key_id, seq, header, hash, mac, body FROM records ORDER BY chain, seq")
    assert [(r[0], r[1], r[2], r[3], bytes(r[4]), bytes(r[5]), bytes(r[6]), bytes(r[7])) for r in found] == sorted(
        (r.chain.name, r.chain.tenant, r.chain.key_id, r.seq, r.header, r.hash, r.mac, r.body) for r in expected.records
    )
    last = {end.admitted.request_id: end for end in expected.ends}
    found = rows(store, "SELECT request_id, terminal, settled_nusd, version FROM requests FINAL ORDER BY request_id")
    assert found == sorted((i, end.settled.terminal, end.settled.nusd, end.version) for i, end in last.items())


class Dies(BaseException):
    """As good as SIGKILL to the writer: nothing catches it."""


class FaultyStore(Store):
    """A store that fails as asked: `faults` holds, for each INSERT to come, (table, "before" | "after" | "die")."""

    faults: list[tuple[str, str]]

    def insert(self, table: str, columns: Sequence[str], data: bytes) -> None:
        fault = self.faults.pop(0) if self.faults and self.faults[0][0] == table else None
        if fault is None or fault[1] == "after":
            super().insert(table, columns, data)
        if fault is not None:
            if fault[1] == "die":
                raise RuntimeError("killed")
            raise StoreError("the connection broke")


async def test_the_tables_are_a_fold_of_the_log_and_their_columns_say_what_the_header_says() -> None:
    messages = [facts.begun(), *history()]
    log, store = await log_of(*messages), store_on(new_database())
    async with projecting(log, store) as projection:
        await caught_up(projection, log)
        await append(log, more := history(100))
        await caught_up(projection, log)
        assert_equals_fold(store, [*messages, *more])
        header = rows(
            store,
            "SELECT type, seq, key_version, partition, generation, sequence, frame_index, toString(time), "
            "toString(request_id), amount_nusd, settled_nusd, reserved_nusd FROM records "
            f"WHERE chain = '{CHAIN}' AND seq = 2",
        )
        assert header == [
            (1, 2, 1, 0, 1, 2, 0, "2030-01-01 12:00:00.250000", facts.rid(0), facts.RESERVED.nusd, 0,
             facts.RESERVED.nusd)
        ]  # fmt: skip


async def test_a_restart_goes_on_where_the_store_stands() -> None:
    messages = [facts.begun(), *history()]
    log, database = await log_of(*messages), new_database()
    for turn in range(3):
        store = store_on(database)
        async with projecting(log, store) as projection:
            await append(log, more := history(100 + 100 * turn))
            messages += more
            await caught_up(projection, log)
            assert_equals_fold(store, messages)


@pytest.mark.parametrize("table", [schema.RECORDS, schema.REQUESTS])
async def test_a_crash_between_the_two_inserts_loses_nothing_and_doubles_nothing(table: str) -> None:
    messages = [facts.begun(), *history()]
    log, database = await log_of(*messages), new_database()
    dying = store_on(database, FaultyStore)
    assert isinstance(dying, FaultyStore)
    dying.faults = [(table, "die")]
    async with projecting(log, dying) as projection:
        await until(projection.failed.done, "the process dies")
        assert str(projection.failed.exception()) == "killed"
    store = store_on(database)
    stored = rows(store, "SELECT (SELECT count() FROM records) > 0, (SELECT count() FROM requests) > 0")
    assert stored == [(table == schema.REQUESTS, 0)]
    async with projecting(log, store) as projection:
        await caught_up(projection, log)
        assert_equals_fold(store, messages)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_store_that_fails_is_asked_again_and_nothing_is_there_twice(when: str) -> None:
    messages = [facts.begun(), *history()]
    log, store = await log_of(*messages), store_on(new_database(), FaultyStore)
    assert isinstance(store, FaultyStore)
    store.faults = [(schema.RECORDS, when), (schema.RECORDS, "before"), (schema.REQUESTS, "before")]
    if when == "after":  # it was stored, so it is not sent again
        del store.faults[1]
    async with projecting(log, store) as projection:
        await until(lambda: projection.build is not None and not projection.build.writer.healthy, "it is not ready")
        await caught_up(projection, log)
        assert projection.store_healthy
        assert store.faults == []
        assert_equals_fold(store, messages)


async def test_one_that_starts_is_not_ready_before_it_has_caught_up_or_waited_long_enough() -> None:
    log, store = await log_of(facts.begun(), *history()), store_on(new_database(), FaultyStore)
    assert isinstance(store, FaultyStore)
    store.faults = [(schema.REQUESTS, "before")] * 5
    connected: Any = SimpleNamespace(is_connected=True)
    now_s = 0.0
    async with projecting(log, store) as projection:
        early, late = (Readiness(Bus(connected, connected), projection, lambda: now_s) for _ in range(2))
        await until(lambda: projection.build is not None and not projection.build.writer.healthy, "it lags")
        assert not early.checks()["started"]
        now_s = START_S_MAX
        assert late.checks()["started"], "it serves what it has"
        now_s = START_S_MAX - 1
        await caught_up(projection, log)
        assert early.checks()["started"]
        store.faults = [(schema.REQUESTS, "before")] * 5
        await append(log, history(100))
        await until(lambda: projection.build is not None and not projection.build.writer.healthy, "it lags again")
        assert early.checks()["started"], "what comes later is lag"
        store.faults = []


class SlowStore(Store):
    """A store whose INSERTs wait until `go` is set."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.go = threading.Event()
        self.asked = threading.Event()

    def insert(self, table: str, columns: Sequence[str], data: bytes) -> None:
        self.asked.set()
        assert self.go.wait(UNTIL_S)
        super().insert(table, columns, data)


async def test_what_makes_no_row_is_not_done_before_the_rows_in_front_of_it() -> None:
    messages = [facts.begun(), *history(count=3)]
    log, store = await log_of(*messages), store_on(new_database(), SlowStore)
    assert isinstance(store, SlowStore)
    async with projecting(log, store) as projection:
        await until(store.asked.is_set, "an INSERT is on its way")
        await append(log, messages[-1:])  # a second copy, so it makes no row
        await until(lambda: build_of(projection).followed[0].folded == len(messages) + 1, "it is folded")
        assert build_of(projection).writer.done.get(0, 0) == 0
        assert await until_stored(projection, 0.05) == len(messages) + 1
        waiting = asyncio.ensure_future(until_stored(projection, UNTIL_S))
        await append(log, history(100, 1))  # what comes after the question is not waited for
        store.go.set()
        assert await waiting == 0
        head = head_of(projection, CHAIN)
        assert head is not None
        assert head[0] >= facts.fold(messages).records[-1].seq


async def test_nobody_waits_for_a_store_that_takes_nothing() -> None:
    log, store = await log_of(facts.begun()), store_on(new_database(), FaultyStore)
    assert isinstance(store, FaultyStore)
    store.faults = [(schema.RECORDS, "before")] * 1000
    async with projecting(log, store) as projection:
        await until(lambda: projection.build is not None and not projection.build.writer.healthy, "it is not ready")
        async with asyncio.timeout(UNTIL_S / 2):
            assert await until_stored(projection, UNTIL_S) == 1
        store.faults.clear()


async def rebuilt(projection: Projection) -> RebuildProgress:
    assert await projection.rebuild() is None
    await until(lambda: not projection.rebuilding.running, "rebuilt")
    return projection.rebuilding


async def delete(store: Store, condition: str) -> None:
    with store._client() as client:
        client.command(f"ALTER TABLE records DELETE WHERE {condition} SETTINGS mutations_sync = 1")


async def test_a_last_record_that_is_not_there_is_written_again() -> None:
    messages = [facts.begun(), *history()]
    log, database = await log_of(*messages), new_database()
    async with projecting(log, store_on(database)) as projection:
        await caught_up(projection, log)
    store = store_on(database)
    await delete(store, f"sequence = {len(messages)}")
    async with projecting(log, store) as projection:
        await caught_up(projection, log)
        assert_equals_fold(store, messages)


async def test_stored_records_verify_and_a_touched_one_does_not() -> None:
    messages = [facts.begun(), *history()]
    log, store = await log_of(*messages), store_on(new_database())
    async with projecting(log, store) as projection:
        await caught_up(projection, log)
        head = head_of(projection, CHAIN)
        assert head is not None
        found = store.records(CHAIN, 0, head[0], 1000)
        assert verify(CHAIN, found, MASTER, head=head).valid
        with store._client() as client:
            client.command(
                f"ALTER TABLE records UPDATE body = replaceOne(body, 'acme', 'evil') WHERE chain = '{CHAIN}'"
                " AND seq = 3 SETTINGS mutations_sync = 1"
            )
        verdict = verify(CHAIN, store.records(CHAIN, 0, head[0], 1000), MASTER, head=head)
        assert (verdict.valid, verdict.seq) == (False, 3)


async def test_one_insert_is_one_part() -> None:
    messages = [facts.begun(), *history(count=300)]
    log, database = await log_of(*messages), new_database()
    store = store_on(database)
    async with projecting(log, store) as projection:
        await caught_up(projection, log)
        await until(lambda: projection.build is not None and not projection.build.writer.waiting, "written")
        inserts = projection._metrics.registry.get_sample_value("keyforge_audit_insert_seconds_count")
        parts = rows(
            store,
            f"SELECT max(max_block_number) FROM system.parts WHERE database = '{database}' AND table = 'records'",
        )
        assert parts[0][0] <= inserts
