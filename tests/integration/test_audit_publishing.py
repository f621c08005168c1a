"""Stored records reach KF_AUDIT: at least once, in order, none skipped, whatever happens in between."""

from types import SimpleNamespace
from typing import Any

import pytest

from keyforge.audit.app import Readiness
from keyforge.audit.outbound import audit_messages, publisher
from keyforge.audit.outbound.publisher import CONTENDED_MAX
from keyforge.audit.outbound.store import Store
from keyforge.audit.outbound.tables import TableSets
from keyforge.audit.outbound.tenant_rows import TenantRows
from keyforge.chain.seal import key_chain
from keyforge.contracts import sealed, subjects
from keyforge.contracts.ids import TenantId
from keyforge.eventlog.log import AppendUnknown, Busy, Expect, Outcome, Stale
from keyforge.eventlog.memory import MemoryLog
from keyforge.eventlog.retry import Backoff
from keyforge.runtime.bus import Bus
from keyforge.testkit.nats_client import until
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
from tests.unit import audit_facts as facts

FULL_BYTES = 4096


async def test_each_stored_record_once_and_in_order() -> None:
    log = await log_of(facts.begun(), *pair(1), *pair(2))
    async with publishing(log, store_on(new_database())) as projection:
        await until(lambda: has(log, 5))
        await append(log, pair(3))
        await until(lambda: has(log, 7))
        assert await published(log) == list(range(1, 8))
        assert projection.publish_failure == ""


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
            return bool(projection.publish_failure)

        await until(unserved)
        assert projection.store_healthy
        connected: Any = SimpleNamespace(is_connected=True)
        readiness = Readiness(Bus(connected, connected), projection, lambda: 0.0)
        assert "subscribers" not in readiness.checks()  # every audit lacks it: nobody would answer
        assert "Full" in readiness.details()["subscribers"]
        assert len(set(await published(log))) < 13
        # A larger stream, empty: what the old one had is lost with it, what it had not must come.
        before = set(await published(log))
        log.declare(subjects.AUDIT_STREAM, [subjects.AUDIT_ALL])

        async def rest() -> bool:
            return before | set(await published(log)) == set(range(1, 14))

        await until(rest)
        assert "subscribers" not in readiness.details()


async def test_too_much_waiting_is_read_from_the_store() -> None:
    log = await log_of(facts.begun())
    async with publishing(log, store_on(new_database()), waiting_bytes_max=1) as projection:
        await until(lambda: has(log, 1))
        for number in range(4):
            await append(log, pair(number))
        await until(lambda: has(log, 9))
        assert projection._publisher is not None
        assert projection._publisher.waiting_bytes == 0


class Contended:
    """A log where others write a position as often as this one does, so many times in a row."""

    def __init__(self, log: MemoryLog, times: int, outcome: Outcome) -> None:
        self._log = log
        self._left = times
        self._outcome = outcome

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def append(self, subject: str, message: bytes, *, expect: Expect | None = None) -> Outcome:
        if expect is not None and self._left:
            self._left -= 1
            return self._outcome
        return await self._log.append(subject, message, expect=expect)


@pytest.mark.parametrize("outcome", [Busy(), Stale(7)], ids=["busy", "stale"])
@pytest.mark.parametrize("times", [1, CONTENDED_MAX, CONTENDED_MAX + 1])
async def test_two_audits_that_write_a_position_are_both_healthy(
    times: int, outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "BACKOFF", Backoff(0.001, 0.001))
    log = await log_of(facts.begun(), *pair(1))
    async with publishing(Contended(log, times, outcome), store_on(new_database())) as projection:
        await until(lambda: is_at(log, 3))
        failures = projection._metrics.publish_failures._value.get()
    assert failures == (1 if times > CONTENDED_MAX else 0)


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
            return bool(projection.publish_failure)

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
    assert [len(batch) for batch in audit_messages.batches(events)] == [2, 2, 1]
    assert audit_messages.batches([b"x" * sealed.RECORD_BYTES_MAX]) == [[b"x" * sealed.RECORD_BYTES_MAX]]


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
