"""Readers, however many and however slow the engine is, do not hold up what stores evidence."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest

from keyforge.audit.application.projection import Projection
from keyforge.audit.core.evidence import StoredSpend
from keyforge.audit.outbound.store import Store
from keyforge.chain.verify import Stored
from keyforge.eventlog.memory import MemoryLog
from tests.integration.audit_attacks import edit, update
from tests.integration.audit_engine import append, build_of, log_of, new_database, projecting, store_on
from tests.integration.test_audit_projection import CHAIN, caught_up, history, until
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
