"""A block is two INSERTs: what a rebuild, a stop, a lost answer or another audit may find between them accuses nobody,
and nothing of it is lost."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from keyforge.audit.errors import StoreError
from keyforge.audit.outbound import rows as encoded
from keyforge.audit.outbound import schema
from keyforge.audit.outbound.comparison import Comparison
from keyforge.audit.outbound.store import Store
from tests.integration.audit_attacks import CHAIN, OTHER_KEY, two_tenants
from tests.integration.audit_engine import append, log_of, new_database, projecting, store_on
from tests.integration.test_audit_projection import UNTIL_S, assert_equals_fold, caught_up, rebuilt, rows, until
from tests.integration.test_audit_rebuild_edited import before
from tests.unit import audit_facts as facts

MESSAGES = [*two_tenants(count=3), facts.adm(facts.admitted(900))]
MORE = [facts.use(facts.completed(900))]
"""One message, so one block: a record and the end of a request."""


class HeldBetween(Store):
    """Once `held`, evidence is stored, and then `go` awaited; requests are not taken while `refusing`."""

    held = refusing = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.between, self.go = threading.Event(), threading.Event()

    def insert(self, table: str, columns: Sequence[str], data: bytes) -> None:
        if table == schema.REQUESTS and self.refusing:
            raise StoreError("the connection broke")
        super().insert(table, columns, data)
        if table == schema.RECORDS and self.held:
            self.between.set()
            assert self.go.wait(UNTIL_S)


@pytest.mark.parametrize("refusing", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["healthy", "failing"])
async def test_who_stops_stores_its_block_in_both_tables(refusing: bool) -> None:
    """If the store takes it: one that does not keeps nobody from stopping, and the next start stores the rest."""
    log, database = await log_of(*MESSAGES), new_database()
    store = store_on(database, HeldBetween)
    assert isinstance(store, HeldBetween)
    async with projecting(log, store) as projection:
        await caught_up(projection, log)
        store.held, store.refusing = True, refusing
        await append(log, MORE)
        await until(store.between.is_set, "between the two")
        stopping = asyncio.ensure_future(projection.stop())
        await asyncio.sleep(0.05)  # it reaches the writer, which waits
        store.go.set()
        async with asyncio.timeout(UNTIL_S):
            await stopping
    if refusing:
        async with projecting(log, store_on(database)) as projection:
            await caught_up(projection, log)
    store = store_on(database)
    assert_equals_fold(store, [*MESSAGES, *MORE])
    store.close()


async def test_a_block_of_which_only_the_evidence_is_stored_is_no_edit(monkeypatch: pytest.MonkeyPatch) -> None:
    """As another audit has it stored at this moment, or one that was killed."""
    log, store = await log_of(*MESSAGES), store_on(new_database(), HeldBetween)
    assert isinstance(store, HeldBetween)
    async with projecting(log, store) as projection:
        await caught_up(projection, log)

        def evidence_alone() -> None:
            store.held = store.refusing = True
            store.go.set()
            appending(log)
            assert store.between.wait(UNTIL_S)

        appending = in_loop(lambda on: append(on, MORE))
        before(monkeypatch, Comparison, "records", evidence_alone)
        found = await rebuilt(projection)
        assert (found.state, found.identical, found.differences) == ("done", True, []), found.error
        store.refusing = False
        await caught_up(projection, log)
        assert_equals_fold(store, [*MESSAGES, *MORE])


@pytest.mark.slow
async def test_what_another_audit_stores_while_a_rebuild_compares_is_no_edit(monkeypatch: pytest.MonkeyPatch) -> None:
    log, database = await log_of(*MESSAGES), new_database()
    async with projecting(log, store_on(database)) as projection, projecting(log, store_on(database)) as other:
        await caught_up(projection, log)
        await caught_up(other, log)

        async def stored_by_the_other(on: Any) -> None:
            await append(on, MORE)
            await caught_up(other, on)

        storing = in_loop(stored_by_the_other)
        before(monkeypatch, Comparison, "requests", lambda: storing(log))
        found = await rebuilt(projection)
        assert (found.state, found.identical, found.differences) == ("done", True, []), found.error


def in_loop(call: Callable[[Any], Any]) -> Callable[[Any], None]:
    """`call` for another thread, run by the event loop of the test."""
    loop = asyncio.get_running_loop()
    return lambda log: asyncio.run_coroutine_threadsafe(call(log), loop).result(UNTIL_S)


class LostInsert(Store):
    """A store that loses the next INSERT of evidence; another audit has stored `part` of the same by then."""

    part = b""

    def insert(self, table: str, columns: Sequence[str], data: bytes) -> None:
        if table == schema.RECORDS and self.part:
            part, self.part = self.part, b""
            super().insert(table, columns, part)
            raise StoreError("the connection broke before it was sent")
        super().insert(table, columns, data)


async def test_a_part_of_a_block_that_another_audit_stored_is_not_the_block() -> None:
    """It has the end of the block's first chain; the other chain is not in it."""
    both = facts.adm(facts.admitted(950), facts.admitted(951, key_id=OTHER_KEY, tenant="globex"))
    log, store = await log_of(*MESSAGES), store_on(new_database(), LostInsert)
    assert isinstance(store, LostInsert)
    async with projecting(log, store) as projection:
        await caught_up(projection, log)
        first, _ = facts.fold([*MESSAGES, both]).records[-2:]
        assert first.chain.name == CHAIN
        store.part = encoded.records([first], {})
        await append(log, [both])
        await caught_up(projection, log)
        assert not store.part
        assert_equals_fold_but_copies(store, [*MESSAGES, both])


def assert_equals_fold_but_copies(store: Store, messages: Sequence[facts.Sent]) -> None:
    expected = sorted((record.chain.name, record.seq, record.hash) for record in facts.fold(messages).records)
    found = rows(store, "SELECT DISTINCT chain, seq, hash FROM records ORDER BY chain, seq")
    assert [(chain, seq, bytes(hash_)) for chain, seq, hash_ in found] == expected
