"""A rebuild builds beside, compares everything, and destroys nothing, wherever it is interrupted."""

import threading
from typing import Any

import pytest

from keyforge.audit.application import rebuild
from keyforge.audit.errors import StoreError
from keyforge.audit.outbound import schema
from keyforge.audit.outbound.store import Store
from keyforge.audit.outbound.tables import BESIDE, TableSets
from keyforge.contracts import frame, subjects
from keyforge.eventlog.log import LogMissing
from keyforge.eventlog.memory import MemoryLog
from keyforge.testkit.nats_client import until as polled
from tests.integration.audit_attacks import delete, edit, told, update
from tests.integration.audit_engine import append, build_of, log_of, new_database, projecting, store_on
from tests.integration.audit_publishing import has, publishing
from tests.integration.test_audit_answers import PATHS, asking
from tests.integration.test_audit_projection import (
    CHAIN,
    UNTIL_S,
    assert_equals_fold,
    caught_up,
    history,
    rebuilt,
    rows,
    until,
)
from tests.unit import audit_facts as facts

MESSAGES = [facts.begun(), *history()]
TENFOLD = update("requests", "settled_nusd = settled_nusd * 10", "1")


def tables_of(store: Store) -> set[str]:
    return {name for (name,) in rows(store, "SHOW TABLES")}


CURRENT = {schema.RECORDS, schema.REQUESTS, "spend_daily", "spend_hourly"}


async def test_nothing_differs() -> None:
    log, store = await log_of(*MESSAGES), store_on(new_database())
    async with projecting(log, store) as projection:
        await caught_up(projection, log)
        found = await rebuilt(projection)
        assert (found.state, found.identical, found.differences, found.kept) == ("done", True, [], "")
        assert (found.folded, found.messages) == (len(MESSAGES), len(MESSAGES))
        assert tables_of(store) == CURRENT
        await append(log, more := history(100, 5))
        await caught_up(projection, log)
        assert_equals_fold(store, [*MESSAGES, *more])


@pytest.mark.parametrize(
    ("change", "table", "seq"),
    [
        pytest.param(update("records", "body = concat(body, ' ')", f"chain = '{CHAIN}' AND seq = 4"), "records", 4,
                     id="a body"),
        pytest.param(update("records", "settled_nusd = 1", f"chain = '{CHAIN}' AND seq = 5"), "records", 5,
                     id="a column beside the header"),
        pytest.param(update("records", "sequence = 999", f"chain = '{CHAIN}' AND seq = 6"), "records", 6,
                     id="a position"),
        pytest.param(update("records", "tenant = 'globex'", f"chain = '{CHAIN}' AND seq = 7"), "records", 7,
                     id="a tenant"),
        pytest.param(TENFOLD, "requests", 2, id="spend"),
        pytest.param(update("requests", "model = 'other'", "1"), "requests", 2, id="a model"),
        pytest.param(update("requests", "admitted_at = admitted_at + 86400", "1"), "requests", 2, id="a day"),
        pytest.param(update("requests", "status = 500", "terminal = 'completed'"), "requests", 2, id="any column"),
    ],
)  # fmt: skip
async def test_what_differs_is_named_and_the_old_tables_are_kept(change: str, table: str, seq: int) -> None:
    log, store = await log_of(*MESSAGES), store_on(new_database())
    async with projecting(log, store) as projection, asking(store, projection) as client:
        await caught_up(projection, log)
        edit(store, change)
        altered = rows(store, f"SELECT * FROM {table} ORDER BY ALL")
        found = await rebuilt(projection)
        assert (found.state, found.identical) == ("done", False)
        first = found.differences[0]
        assert (first.table, first.log, first.chain, first.seq) == (table, "KF_LOG_0", CHAIN, seq)
        assert_equals_fold(store, MESSAGES)
        kept = {f"{name}_{found.kept}" for name in schema.TABLES}
        assert tables_of(store) == CURRENT | kept
        assert rows(store, f"SELECT * FROM {table}_{found.kept} ORDER BY ALL") == altered
        again = await rebuilt(projection)
        assert (again.identical, again.kept) == (True, "")
        listed = (await told(client, "/v1/rebuild"))[2]
        assert [one["name"] for one in listed["kept"]] == [found.kept]
        assert (await client.delete("/v1/rebuild/kept/before_1Z")).status_code == 404
        assert tables_of(store) == CURRENT | kept
        assert (await client.delete(f"/v1/rebuild/kept/{found.kept}")).json()["kept"] == []
        assert tables_of(store) == CURRENT


async def test_a_deleted_row_is_named() -> None:
    log, store = await log_of(*MESSAGES), store_on(new_database())
    async with projecting(log, store) as projection:
        await caught_up(projection, log)
        edit(store, delete("records", "chain = 'tenant/acme'"))
        found = await rebuilt(projection)
        assert [(one.chain, one.seq, one.why) for one in found.differences] == [
            ("tenant/acme", 1, "missing"),
            ("tenant/acme", 2, "missing"),
        ]


async def test_ranges_of_one_record_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keyforge.audit.outbound.comparison.RANGE_RECORDS", 1)
    log, store = await log_of(*MESSAGES), store_on(new_database())
    async with projecting(log, store) as projection:
        await caught_up(projection, log)
        edit(store, *[update("records", "body = 'x'", f"chain = '{CHAIN}' AND seq = {seq}") for seq in (3, 9, 40)])
        found = await rebuilt(projection)
        assert [one.seq for one in found.differences] == [3, 9, 40]


async def test_each_keeps_its_set_until_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuild, "KEPT_MAX", 2)
    log, store = await log_of(*MESSAGES), store_on(new_database())
    async with projecting(log, store) as projection, asking(store, projection) as client:
        await caught_up(projection, log)
        kept = []
        for _ in range(2):
            edit(store, TENFOLD)
            kept.append((await rebuilt(projection)).kept)
        edit(store, TENFOLD)
        refused = await client.post("/v1/rebuild")
        error = refused.json()["error"]
        assert (refused.status_code, error["type"], error["metadata"]["kept"]) == (409, "rebuild_refused", kept)
        assert (await client.delete(f"/v1/rebuild/kept/{kept[0]}")).status_code == 200
        kept.append((await rebuilt(projection)).kept)
        assert {one.name for one in await projection.kept()} == set(kept[1:])


async def test_a_full_disk_is_said_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TableSets, "free_bytes", lambda _self: 1000)
    log, store = await log_of(*MESSAGES), store_on(new_database())
    async with projecting(log, store) as projection, asking(store, projection) as client:
        await caught_up(projection, log)
        refused = await client.post("/v1/rebuild")
        assert (refused.status_code, refused.json()["error"]["type"]) == (409, "rebuild_refused")
        assert "1000 are free" in refused.json()["error"]["message"]
        assert (await client.get("/v1/rebuild")).json()["state"] == "none"


class HeldStore(Store):
    """A store whose INSERTs beside the current tables wait for `go`."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.go, self.reached = threading.Event(), threading.Event()

    def insert(self, table: str, *args: Any) -> None:
        if table.endswith(BESIDE):
            self.reached.set()
            assert self.go.wait(UNTIL_S)
        super().insert(table, *args)


async def test_answers_come_from_the_old_tables_and_it_follows_until_the_swap() -> None:
    log, store = await log_of(*MESSAGES), store_on(new_database(), HeldStore)
    assert isinstance(store, HeldStore)
    async with projecting(log, store) as projection, asking(store, projection) as client:
        await caught_up(projection, log)
        assert await projection.rebuild() is None
        await until(store.reached.is_set, "building")
        await append(log, more := history(100, 5))
        for path in PATHS:
            status, _, found = await told(client, path)
            assert (status, found["lag"]) == (200, 0)
        assert (await told(client, PATHS[1]))[2]["log_end"] == len(MESSAGES) + len(more)
        assert (await client.post("/v1/rebuild")).status_code == 200, "it is the one that runs"
        old = build_of(projection)
        store.go.set()
        await until(lambda: projection.rebuilding.state == "done", "rebuilt")
        assert projection.rebuilding.identical
        await until(lambda: projection.build is not old, "swapped")
        assert_equals_fold(store, [*MESSAGES, *more])
        await append(log, [facts.adm(facts.admitted(900))])
        await caught_up(projection, log)
        assert (await told(client, PATHS[1]))[2]["valid"]


async def test_subscribers_are_not_told_again() -> None:
    log, store = await log_of(*MESSAGES), store_on(new_database())
    count = len([record for record in facts.fold(MESSAGES).records if record.chain.name == CHAIN])
    async with publishing(log, store) as projection:
        await polled(lambda: has(log, count))
        end = await log.end(subjects.AUDIT_STREAM)
        edit(store, TENFOLD)
        assert (await rebuilt(projection)).identical is False
        await append(log, [facts.adm(facts.admitted(900))])
        await polled(lambda: has(log, count + 1))
        assert await log.end(subjects.AUDIT_STREAM) == end + 1


class LostLog(MemoryLog):
    """A log whose end nobody knows, as often as `lost` says."""

    lost = 0

    async def end(self, stream: str) -> int:
        if self.lost:
            self.lost -= 1
            raise LogMissing(f"nobody answers for {stream}")
        return await super().end(stream)


async def test_it_waits_for_a_log_that_nobody_answers_for() -> None:
    log, store = LostLog.of_partitions(1, clock=lambda: facts.NOW), store_on(new_database())
    assert isinstance(log, LostLog)
    await append(log, MESSAGES)
    async with projecting(log, store) as projection:
        await caught_up(projection, log)
        log.lost = 6
        found = await rebuilt(projection)
        assert not projection.failed.done(), projection.failed.exception()
        assert found.identical
        assert_equals_fold(store, MESSAGES)


async def test_a_store_that_fails_in_between_is_asked_again() -> None:
    class FailingStore(Store):
        failures = 3

        def insert(self, table: str, *args: Any) -> None:
            if table.endswith(BESIDE) and self.failures:
                self.failures -= 1
                raise StoreError("the connection broke")
            super().insert(table, *args)

    log, store = await log_of(*MESSAGES), store_on(new_database(), FailingStore)
    async with projecting(log, store) as projection:
        await caught_up(projection, log)
        found = await rebuilt(projection)
        assert (found.state, found.identical) == ("done", True)
        assert_equals_fold(store, MESSAGES)


@pytest.mark.parametrize(
    ("late", "state"),
    [pytest.param(False, "failed", id="the log holds it"), pytest.param(True, "done", id="it came later")],
)
async def test_a_message_of_a_newer_version(late: bool, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    newer = facts.of_newer_version(facts.adm(facts.admitted(50)))
    log, store = await log_of(*MESSAGES), store_on(new_database(), HeldStore)
    assert isinstance(store, HeldStore)
    async with projecting(log, store) as projection:
        await caught_up(projection, log)
        if not late:
            await append(log, [newer])
        assert await projection.rebuild() is None
        if late:
            await until(store.reached.is_set, "building")
            await append(log, [newer])
        store.go.set()
        await until(lambda: not projection.rebuilding.running, "ended")
        found = projection.rebuilding
        assert found.state == state, found.error
        if late:
            assert found.identical
        else:
            assert f"KF_LOG_0: this version cannot read message {len(MESSAGES) + 1}" in found.error
        assert tables_of(store) == CURRENT
        assert_equals_fold(store, MESSAGES)
        await until(lambda: not projection.logs_readable, "stopped there")
    monkeypatch.setattr(frame, "decode", facts.decode_newer)
    store = store_on(store.clients.database)
    async with projecting(log, store) as projection:
        await caught_up(projection, log)
        assert_equals_fold(store, [*MESSAGES, newer])


async def test_tables_of_another_version_are_kept_and_called_neither_identical_nor_not() -> None:
    log, database = await log_of(*MESSAGES), new_database()
    async with projecting(log, store_on(database)) as projection:
        await caught_up(projection, log)
    store = store_on(database)
    edit(store, "ALTER TABLE records ADD COLUMN later UInt8")
    async with projecting(log, store) as projection:
        await until(lambda: projection.state == "halted", "halted")
        assert "other columns" in projection.halt_reason
        found = await rebuilt(projection)
        assert (found.state, found.identical) == ("done", None)
        assert_equals_fold(store, MESSAGES)
        assert rows(store, f"SELECT count() FROM records_{found.kept} WHERE later = 0") != [(0,)]
