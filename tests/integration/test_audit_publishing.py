"""Stored records reach KF_AUDIT: at least once, in order, none skipped, whatever happens in between."""

from typing import Any

import pytest

from keyforge.audit.outbound import publisher, stored_tail
from keyforge.audit.outbound import tenant_rows as tenant_rows_module
from keyforge.audit.outbound.store import Store
from keyforge.audit.outbound.tables import TableSets
from keyforge.audit.outbound.tenant_rows import TenantRows
from keyforge.chain.seal import key_chain
from keyforge.contracts import sealed, subjects
from keyforge.contracts.ids import TenantId
from keyforge.eventlog.log import AppendUnknown, Expect, Outcome
from keyforge.eventlog.memory import MemoryLog
from keyforge.testkit.nats_client import until
from tests.integration.audit_attacks import delete, edit, update
from tests.integration.audit_engine import append, engine_path, head_of, log_of, new_database, projecting, store_on
from tests.integration.audit_publishing import (
    CHAIN,
    TENANT_CHAIN,
    has,
    is_at,
    messages,
    pair,
    position,
    published,
    publishing,
)
from tests.integration.test_audit_projection import caught_up
from tests.unit import audit_facts as facts

FULL_BYTES = 4096


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
        await until(lambda: is_at(log, 3))
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
    """A log that takes so many messages of the publisher, and then answers nothing of use."""

    def __init__(self, log: MemoryLog, messages: int) -> None:
        self._log = log
        self._left = messages

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def append(self, subject: str, message: bytes, *, expect: Expect | None = None) -> Outcome:
        self._left -= 1
        if self._left < 0:
            raise AppendUnknown("cut")
        return await self._log.append(subject, message, expect=expect)


@pytest.mark.parametrize("sent", range(8))
async def test_a_crash_in_the_middle_of_a_block_goes_back_to_its_beginning(
    sent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seventh message is the last of KF_AUDIT, the eighth the position."""
    monkeypatch.setattr(sealed, "BATCH_BYTES_MAX", 1)  # each record a message
    log = await log_of(facts.begun(), *pair(1), *pair(2))
    database = new_database()
    async with publishing(Cut(log, sent), store_on(database)) as projection:

        async def cut() -> bool:
            return not projection.subscribers_served

        await until(cut)
    assert len(await messages(log)) == sent
    assert await position(log) == 0
    async with publishing(log, store_on(database)):
        await until(lambda: is_at(log, 5))
    assert await has(log, 5)
    assert set(await published(log, TENANT_CHAIN)) == {1, 2}


async def test_records_of_a_tenant_go_out_together() -> None:
    """480 keys of two tenants: a message for the keys of each and one for each tenant's own chain, in order."""
    keys = {tenant: [f"Key{tenant[0]}{number:08}" for number in range(240)] for tenant in ("acme", "beta")}
    created = [facts.key_created(key, tenant=tenant) for tenant in keys for key in keys[tenant]]
    frames = [facts.ctl(*(facts.tenant_created(tenant) for tenant in keys))]
    frames += [facts.ctl(*created[first : first + 120]) for first in range(0, 480, 120)]
    log = await log_of(*frames)
    async with publishing(log, store_on(new_database())):
        await until(lambda: is_at(log, 5))
    found = await messages(log)
    assert len(found) <= 4 * 5  # 5 blocks at most
    for tenant, its_keys in keys.items():
        own, of_keys = subjects.audit_tenant(TenantId(tenant)), subjects.audit_keys(TenantId(tenant))
        assert [one.chain for to, all_ in found if to == of_keys for one in all_] == [
            key_chain(tenant, key) for key in its_keys
        ]
        assert [one.seq for to, all_ in found if to == own for one in all_] == list(range(1, 242))
    assert {to for to, _ in found} == {"kf.audit.acme.keys", "kf.audit.acme.tenant"} | {
        "kf.audit.beta.keys",
        "kf.audit.beta.tenant",
    }


async def test_what_the_stream_holds_is_measured() -> None:
    log = await log_of(facts.begun(), *pair(1))
    async with publishing(log, store_on(new_database())) as projection:
        read = projection._metrics.registry.get_sample_value

        async def measured() -> bool:
            return (read("keyforge_audit_stream_bytes") or 0) > 0

        await until(measured)
        assert read("keyforge_audit_stream_bytes") == (await log.state(subjects.AUDIT_STREAM)).bytes
        assert read("keyforge_audit_stream_oldest_timestamp_seconds") == facts.NOW.timestamp()


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
    tenant_rows = TenantRows(store.clients)
    page = tenant_rows.page(0, 7, 25)
    assert page is not None
    assert [(row.sequence, row.seq) for row in page.rows] == [
        (sequence, sequence) for sequence in (8, 9, 10) for _ in range(10)
    ]
    assert tenant_rows.page(0, 20_000, 25) is None
    store.close()


async def test_a_record_that_was_altered_in_the_store_is_not_published_from_there() -> None:
    """A body, a MAC, a record of another key under this one's name: after a start they would go out as evidence."""
    log, database = await log_of(facts.begun(), *pair(1), *pair(2)), new_database()
    async with projecting(log, store_on(database)) as projection:
        await caught_up(projection, log)
    store = store_on(database)
    own = f"chain = '{CHAIN}' AND seq"
    edit(
        store,
        update("records", "body = replaceOne(body, 'acme', 'evil')", f"{own} = 2"),
        update("records", "mac = reverse(mac)", f"{own} = 3"),
    )
    async with publishing(log, store) as projection:

        async def found() -> bool:
            return {1, 4, 5} <= set(await published(log))

        await until(found)
        assert set(await published(log)) == {1, 4, 5}
        withheld = projection._metrics.registry.get_sample_value("keyforge_audit_records_withheld_total")
        assert withheld == 2


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        pytest.param("UPDATE tenant = ''", 0, id="no tenant"),
        pytest.param("UPDATE tenant = 'globex'", 0, id="another tenant"),
        pytest.param("UPDATE partition = 7", 0, id="another log"),
        pytest.param("UPDATE sequence = 0", 0, id="an earlier message"),
        pytest.param("UPDATE sequence = 900", 0, id="a later message"),
        pytest.param("UPDATE frame_index = 9", 0, id="another event"),
        pytest.param("UPDATE seq = 3", 0, id="another seq"),
        pytest.param("DELETE", 1, id="removed"),
    ],
)
async def test_columns_that_are_altered_hide_nothing_and_what_is_missing_is_counted(change: str, missed: int) -> None:
    log, database = await log_of(facts.begun(), *pair(1), *pair(2)), new_database()
    async with projecting(log, store_on(database)) as projection:
        await caught_up(projection, log)
    store, second = store_on(database), f"chain = '{CHAIN}' AND seq = 2"
    if "seq = 3" in change:  # a column of the table's order cannot be altered: the row is written again
        columns = "chain, tenant, key_id, header, hash, mac, body"
        edit(
            store,
            f"INSERT INTO records (seq, {columns}) SELECT 9, {columns} FROM records WHERE {second}",
            delete("records", second),
        )
    else:
        edit(store, f"ALTER TABLE records {change} WHERE {second} SETTINGS mutations_sync = 2")
    async with publishing(log, store) as projection:
        await until(lambda: is_at(log, 5))
        assert await published(log) == [seq for seq in range(1, 6) if not missed or seq != 2]
        withheld = projection._metrics.registry.get_sample_value("keyforge_audit_records_withheld_total")
        assert withheld == missed


@pytest.mark.parametrize("by_header", [False, True], ids=["by columns", "by header"])
async def test_a_flood_of_made_up_rows_at_one_message_is_read_in_parts(
    by_header: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_tail, "PAGE_RECORDS", 10)
    log, database = await log_of(facts.begun(), *pair(1), *pair(2)), new_database()
    async with projecting(log, store_on(database)) as projection:
        await caught_up(projection, log)
    store = store_on(database)
    edit(
        store,
        "INSERT INTO records (chain, tenant, key_id, header, hash, mac, body)"
        " SELECT chain, tenant, key_id, header, hash, mac, concat(body, toString(number))"
        " FROM records CROSS JOIN numbers(300) AS n"
        f" WHERE chain = '{CHAIN}' AND seq = 3",
        *([update("records", "partition = 7", f"chain = '{CHAIN}' AND seq = 2")] if by_header else []),
    )
    longest = 0
    real = tenant_rows_module._rows

    def rows_of(*args: Any, **kwargs: Any) -> Any:
        nonlocal longest
        found = real(*args, **kwargs)
        longest = max(longest, len(found))
        return found

    monkeypatch.setattr(tenant_rows_module, "_rows", rows_of)
    async with publishing(log, store) as projection:
        await until(lambda: is_at(log, 5))
        assert await published(log) == [1, 2, 3, 4, 5]
        withheld = projection._metrics.registry.get_sample_value("keyforge_audit_records_withheld_total")
        assert withheld == 300
    assert longest <= tenant_rows_module.FLOOD * 10
