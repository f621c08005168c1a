"""Readers, however many and however slow the engine is, do not hold up what stores evidence."""

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from keyforge.audit.application import checking, examination
from keyforge.audit.application.chains import Chains
from keyforge.audit.application.examination import Examiner
from keyforge.audit.application.projection import Projection
from keyforge.audit.application.sharing import SharedWork
from keyforge.audit.core.evidence import StoredSpend
from keyforge.audit.outbound.store import Store
from keyforge.chain.verify import Stored
from keyforge.eventlog.log import LogClosed
from keyforge.eventlog.memory import MemoryLog
from tests.integration.audit_attacks import (
    OTHER_CHAIN,
    attacked,
    delete,
    edit,
    resealed,
    told,
    two_tenants,
    update,
)
from tests.integration.audit_engine import append, build_of, head_of, log_of, new_database, projecting, store_on
from tests.integration.test_audit_answers import asking
from tests.integration.test_audit_projection import CHAIN, UNTIL_S, caught_up, history, until
from tests.unit import audit_facts as facts
from tests.unit.audit_facts import KEY, TENANT

READERS = 100
SLOW_S = 0.1
READS_MAX = 24
"""Reads that may begin while two INSERTs are made: of 100 readers, that is next to none."""


class SlowReads(Store):
    """A store whose reads hold a client for SLOW_S, once that is switched on."""

    slow = False
    begun = 0

    def _wait(self) -> None:
        self.begun += 1
        if self.slow:
            with self._client():
                time.sleep(SLOW_S)  # the engine is slow: nothing is waited for

    def records(self, chain: str, after: int, upto: int, limit: int) -> list[Stored]:
        self._wait()
        return super().records(chain, after, upto, limit)

    def spend_of_keys(self, keys: Sequence[tuple[str, str]] = ()) -> list[StoredSpend]:
        self._wait()
        return super().spend_of_keys(keys)


async def _stored_meanwhile(projection: Projection, log: MemoryLog, store: SlowReads, reading: Any) -> None:
    """Append while `reading()` runs READERS times; the records are stored when few of them have read."""
    store.slow = True
    store.begun = 0
    readers = [asyncio.ensure_future(reading()) for _ in range(READERS)]
    try:
        await until(lambda: store.begun > 0, "they read")
        await append(log, history(100, 1))
        await caught_up(projection, log)
        assert store.begun < READS_MAX
    finally:
        store.slow = False
        await asyncio.gather(*readers, return_exceptions=True)


@pytest.mark.parametrize("what", ["chain", "spend"])
async def test_many_readers_of_a_slow_engine_do_not_hold_up_the_writer(what: str) -> None:
    log, store = await log_of(facts.begun(), *history()), store_on(new_database(), SlowReads)
    assert isinstance(store, SlowReads)
    async with projecting(log, store) as projection:
        await caught_up(projection, log)
        build, examiner = build_of(projection), projection.examiner
        await build.checked.wait()
        if what == "spend":  # it is looked at again between two blocks
            edit(store, update("requests", "settled_nusd = settled_nusd * 10", "1"))
            await _stored_meanwhile(projection, log, store, lambda: examiner.spend(build, TENANT, KEY, 20.0))
        else:
            await _stored_meanwhile(projection, log, store, lambda: examiner.chain(build, CHAIN, 0))


class HeldReads(Store):
    """A store whose reads of the chains in `held` hold a client until `go` is set."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.go, self.held, self.begun = threading.Event(), set[str](), list[str]()

    def records(self, chain: str, after: int, upto: int, limit: int) -> list[Stored]:
        if chain in self.held:
            self.begun.append(chain)
            with self._client():
                assert self.go.wait(UNTIL_S)
        return super().records(chain, after, upto, limit)


async def test_neither_slow_readers_nor_long_chains_hold_up_the_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    """All turns of readers are taken, and another tenant's chain is edited; then to read that takes long as well."""
    monkeypatch.setattr(checking, "CHECK_EVERY_S", 0.05)
    log, store = await log_of(*two_tenants()), store_on(new_database(), HeldReads)
    assert isinstance(store, HeldReads)
    async with projecting(log, store) as projection, asking(store, projection) as client:
        await caught_up(projection, log)
        found = projection.disagreements
        store.held.add(CHAIN)
        readers = [asyncio.ensure_future(told(client, VERIFY)) for _ in range(examination.READS_MAX + 1)]
        try:
            await until(lambda: store.begun == [CHAIN] * examination.READS_MAX, "they read")
            edit(store, delete("records", f"chain = '{OTHER_CHAIN}' AND seq = 2"))
            await until(lambda: [(one.chain, one.seq) for one in found()] == [(OTHER_CHAIN, 2)], "found and placed")
            store.held.add(OTHER_CHAIN)
            await until(lambda: OTHER_CHAIN in store.begun, "it is examined again")
            edit(store, update("requests", "settled_nusd = settled_nusd * 10", f"key_id = '{KEY}'"))
            await until(lambda: (CHAIN, "requests") in [(one.chain, one.table) for one in found()], "found meanwhile")
        finally:
            store.go.set()
            await asyncio.gather(*readers)


VERIFY = f"/v1/tenants/{TENANT}/keys/{KEY}/verify"
VERIFYING = 8


async def test_the_log_is_folded_once_for_all_who_ask_where_a_chain_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain that was sealed again with the right key differs where only the log can say. Half of them leave."""
    waiting, folds, go = list[object](), list[str](), asyncio.Event()
    share, read = SharedWork.run, MemoryLog.read

    async def counted(self: Any, about: Any, work: Any) -> Any:
        waiting.append(about)
        return await share(self, about, work)

    async def held(self: MemoryLog, stream: str, *args: Any, **kwargs: Any) -> Any:
        folds.append(stream)
        await go.wait()
        async for batch in read(self, stream, *args, **kwargs):
            yield batch

    async with attacked([facts.begun(), *history()], running=True) as attack:
        head = head_of(attack.projection, CHAIN)
        assert head is not None
        edit(attack.store, *resealed(attack.store, CHAIN, head.seq, 3))
        monkeypatch.setattr(SharedWork, "run", counted)
        monkeypatch.setattr(MemoryLog, "read", held)
        callers = [asyncio.ensure_future(told(attack.client, VERIFY)) for _ in range(VERIFYING)]
        await until(lambda: len(waiting) == VERIFYING and bool(folds), "they wait for the log")
        for one in callers[::2]:
            one.cancel()
        await asyncio.wait(callers[::2])
        go.set()
        for status, _, verdict in await asyncio.gather(*callers[1::2]):
            assert (status, verdict["valid"], verdict["seq"], verdict["exact"]) == (200, False, 4, True), verdict
        assert folds == ["KF_LOG_0"]
        assert (await told(attack.client, VERIFY))[2]["seq"] == 4
        assert len(folds) == 2, "the next one asks again"

        async def unread(*_args: Any) -> Any:
            raise LogClosed("no server answers")

        monkeypatch.setattr(Examiner, "_first_difference", unread)
        status, _, verdict = await told(attack.client, VERIFY)
        assert (status, verdict["valid"], verdict["exact"]) == (200, False, False), "without the place"
        monkeypatch.setattr(Chains, "verify", unread)
        assert (await told(attack.client, VERIFY))[:2] == (503, "log_unavailable")
