"""Tables, views and other things of ClickHouse that are not what audit left: it opens, and says only what is true."""

import asyncio
import threading
from typing import Any

import pytest

from keyforge.audit.application import checking
from keyforge.audit.errors import SchemaDiffersError, StoreError
from keyforge.audit.outbound import clients, schema
from keyforge.audit.outbound.clients import Clients
from keyforge.audit.outbound.store import Store
from keyforge.audit.outbound.tables import BESIDE, TableSets
from tests.integration.audit_attacks import edit, told
from tests.integration.audit_engine import append, engine_path, log_of, new_database, projecting, store_on
from tests.integration.test_audit_answers import asking
from tests.integration.test_audit_projection import UNTIL_S, caught_up, history, rebuilt, rows, until
from tests.integration.test_audit_rebuild import CURRENT, MESSAGES, tables_of
from tests.integration.test_audit_rebuild_swap import _wrapped

DICTIONARY = "(id UInt64) PRIMARY KEY id SOURCE(NULL()) LAYOUT(FLAT()) LIFETIME(0)"
ROW = "INSERT INTO {} (chain) VALUES ('x')"


def bounded() -> Any:
    """A client of a server whose tables are all too large to drop: a byte stands for the 50 GB of the default."""
    client = clients.engine(engine_path())()
    client.set_client_setting("max_table_size_to_drop", 1)
    return client


def test_tables_of_any_size_are_dropped() -> None:
    store = Store(bounded, new_database())
    tables = TableSets(store.clients)
    tables.open()
    edit(store, ROW.format(schema.RECORDS))
    with pytest.raises(StoreError, match="was not dropped"):
        edit(store, f"DROP TABLE {schema.RECORDS}")
    for keep in ("", "before_1Z"):  # the old set is dropped, then one is kept
        tables.create_beside()
        edit(store, ROW.format(schema.RECORDS + BESIDE))
        tables.swap(keep)
    assert tables.drop_kept("before_1Z")
    for drop in (tables.drop_built, tables.open):
        tables.create_beside()
        edit(store, ROW.format(schema.RECORDS + BESIDE))
        drop()
    assert tables_of(store) == CURRENT
    store.close()


def test_what_cannot_be_dropped_does_not_keep_it_from_opening(monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_on(new_database())
    tables = TableSets(store.clients)
    tables.open()
    tables.create_beside()
    with monkeypatch.context() as patching:
        patching.setattr(Clients, "lend", refusing(Clients.lend, "DROP TABLE"))
        TableSets(store.clients).open()
    assert tables_of(store) == CURRENT | {table + BESIDE for table in schema.TABLES}
    tables.open()
    assert tables_of(store) == CURRENT
    store.close()


def refusing(lend: Any, step: str) -> Any:
    """`lend` with clients that refuse a statement."""

    class Refusing:
        def __init__(self, client: Any) -> None:
            self._client = client

        def __getattr__(self, name: str) -> Any:
            return getattr(self._client, name)

        def command(self, statement: str, *args: Any, **kwargs: Any) -> Any:
            if statement.startswith(step):
                raise StoreError("not enough privileges")
            return self._client.command(statement, *args, **kwargs)

    return lambda self, **kwargs: _wrapped(lend(self, **kwargs), Refusing)


def test_dictionaries_of_our_names_are_replaced_or_can_be_dropped() -> None:
    """ClickHouse drops no dictionary as a table."""
    store = store_on(new_database())
    tables = TableSets(store.clients)
    ours = (schema.RECORDS + BESIDE, "rebuild_swap", "spend_daily", "records_before_1Z")
    for make_way in (tables.open, tables.create_beside, lambda: tables.swap("")):
        tables.open()
        tables.create_beside()
        with store.clients.lend() as client:
            for name in ours[1:] if make_way not in (tables.open, tables.create_beside) else ours:
                client.command(f"DROP TABLE IF EXISTS {name}")
                client.command(f"CREATE DICTIONARY {name} {DICTIONARY}")
        make_way()
        assert tables.drop_kept("before_1Z")
    assert tables_of(store) == CURRENT
    store.close()


async def test_days_are_those_of_utc_whatever_zone_a_column_was_given() -> None:
    """It alters no row and no sum."""
    zone = "ALTER TABLE requests MODIFY COLUMN admitted_at DateTime64(6, 'Pacific/Kiritimati')"
    log, store = await log_of(*MESSAGES), store_on(new_database())
    async with projecting(log, store) as projection, asking(store, projection) as client:
        await caught_up(projection, log)
        was = await told(client, "/v1/spend", by="day,hour")
        edit(store, zone)
        assert (await told(client, "/v1/spend", by="day,hour")) == was
        assert (await rebuilt(projection)).identical
        edit(store, zone)
        with pytest.raises(SchemaDiffersError, match=r"admitted_at DateTime64[(]6, 'Pacific/Kiritimati'[)] in"):
            TableSets(store.clients).open()


def test_a_column_with_another_default_is_not_ours() -> None:
    store = store_on(new_database())
    tables = TableSets(store.clients)
    tables.open()
    tables.open()
    edit(store, "ALTER TABLE records MODIFY COLUMN settled_nusd DEFAULT 1")
    with pytest.raises(SchemaDiffersError, match="settled_nusd Int64 DEFAULT 1 in place of settled_nusd Int64 DEFAULT"):
        tables.open()
    store.close()


def test_a_default_in_another_servers_spelling_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_on(new_database())
    tables = TableSets(store.clients)
    tables.open()
    definition = [one._replace(default=one.default.replace(", ", ",")) for one in schema.DEFINITIONS[schema.RECORDS]]
    assert definition != schema.DEFINITIONS[schema.RECORDS]
    monkeypatch.setitem(schema.DEFINITIONS, schema.RECORDS, definition)
    tables.open()
    store.close()


NARROW = (
    "CREATE OR REPLACE VIEW spend_daily (period DateTime('UTC'), tenant String, key_id String, provider String,"
    " model String, requests UInt64, settled_nusd UInt8, settled_tokens Int64) AS "
)


@pytest.mark.parametrize("another", [False, True], ids=["ours", "after a rebuild of another version's tables"])
async def test_views_are_restored(another: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "CHECK_EVERY_S", 0.05)
    log, database = await log_of(*MESSAGES), new_database()
    store = store_on(database)
    async with projecting(log, store) as projection:
        await caught_up(projection, log)
        was = rows(store, "SELECT * FROM spend_daily ORDER BY ALL")
        (select,) = rows(store, "SELECT as_select FROM system.tables WHERE name = 'spend_daily' AND database = "
                                "currentDatabase()")[0]  # fmt: skip
        if another:
            edit(store, "ALTER TABLE requests ADD COLUMN later UInt8")
    store = store_on(database)
    async with projecting(log, store) as projection:
        if another:
            await until(lambda: projection.state == "halted", "halted")
            assert (await rebuilt(projection)).identical is None
        await until(lambda: projection.state == "following", "following")
        for change in ("CREATE OR REPLACE VIEW spend_daily AS SELECT 1 AS settled_nusd", f"{NARROW}{select}"):
            edit(store, change, "DROP VIEW spend_hourly")
            await until(lambda: rows(store, "SHOW TABLES LIKE 'spend_hourly'") != [], "it is there")
            await until(lambda: rows(store, "SELECT * FROM spend_daily ORDER BY ALL") == was, "it is as it was")


async def test_evidence_does_not_wait_for_a_view_that_cannot_be_created(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "CHECK_EVERY_S", 0.05)
    log, database = await log_of(*MESSAGES), new_database()
    store = store_on(database)
    async with projecting(log, store) as projection:
        await caught_up(projection, log)
        edit(store, "DETACH TABLE spend_daily PERMANENTLY", "DROP VIEW spend_hourly")
        await until(lambda: rows(store, "SHOW TABLES LIKE 'spend_hourly'") != [], "the other one is restored")
        assert (await rebuilt(projection)).identical
        await append(log, history(100, 1))
        await caught_up(projection, log)
    store = store_on(database)
    async with projecting(log, store) as projection:
        await caught_up(projection, log)
        edit(store, "ATTACH TABLE spend_daily")
        await until(lambda: rows(store, "SHOW TABLES LIKE 'spend_daily'") != [], "it is there")


async def test_one_who_asks_for_a_rebuild_and_leaves_does_not_keep_others_from_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, go = threading.Event(), threading.Event()
    free = TableSets.free_bytes

    def slowly(self: TableSets) -> int:
        asked.set()
        assert go.wait(UNTIL_S)
        return free(self)

    monkeypatch.setattr(TableSets, "free_bytes", slowly)
    log, store = await log_of(*MESSAGES), store_on(new_database())
    async with projecting(log, store) as projection:
        await caught_up(projection, log)
        asking_for_it = asyncio.ensure_future(projection.rebuild())
        await until(asked.is_set, "asked whether there is room")
        asking_for_it.cancel()
        go.set()
        await asyncio.wait([asking_for_it])
        assert not projection.rebuilding.running
        assert (await rebuilt(projection)).identical
