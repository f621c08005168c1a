"""Opens the store: waits until it answers, and reads up to where it goes and how it begins."""

from collections.abc import Sequence
from functools import partial
from typing import Final

from keyforge.audit.application.build import Opened
from keyforge.audit.application.ports import RecordStore, StoredTables
from keyforge.audit.core.beginning import BEGINNING_RECORDS
from keyforge.audit.core.evidence import is_authentic
from keyforge.audit.core.position import evidence_positions, stored_state
from keyforge.audit.errors import SchemaDiffersError, StoreError
from keyforge.chain.seal import MasterKey
from keyforge.chain.verify import Stored
from keyforge.eventlog.log import EventLog, LogMissing
from keyforge.eventlog.retry import Backoff, retrying
from keyforge.runtime import logs
from keyforge.runtime.threads import in_thread

BACKOFF: Final = Backoff(0.5, 0.5)
"""Chosen: a server takes seconds to start, to which this adds half a one at most."""


class Opening:
    """The store before it is written to."""

    def __init__(
        self,
        eventlog: EventLog,
        store: RecordStore,
        tables: StoredTables,
        master: MasterKey,
        streams: Sequence[tuple[int, str]],
    ) -> None:
        """`streams`: partition and stream of every log."""
        self._eventlog = eventlog
        self._store = store
        self._tables = tables
        self._master = master
        self._streams = streams
        self._logger = logs.get("projection")

    async def open(self) -> Opened:
        """Wait for the store and the logs; return what the store holds. Raises SchemaDiffersError."""
        warned = False

        def failed(error: Exception) -> None:
            nonlocal warned
            if not warned:
                self._logger.warning("the store or a log is unavailable; trying again", error=str(error)[:500])
                warned = True

        patiently = partial(
            retrying, backoff=BACKOFF, retry_on=(StoreError, LogMissing), raise_on=SchemaDiffersError, failed=failed
        )
        await patiently(partial(in_thread, self._tables.open))
        opened: Opened = await patiently(self._read)
        return opened

    async def _read(self) -> Opened:
        ends = {partition: await self._eventlog.end(stream) for partition, stream in self._streams}
        return await in_thread(self._read_store, ends)

    def _read_store(self, ends: dict[int, int]) -> Opened:
        stored = stored_state(
            evidence_positions(self._store.chain_ends(master=self._master)), self._store.requests_positions(ends)
        )
        return Opened(stored, {partition: self._beginning(partition) for partition, _ in self._streams})

    def _beginning(self, partition: int) -> list[Stored]:
        """Return the first stored records of a log, of those that are authentic."""
        return [
            stored
            for chain, stored in self._store.beginning(partition, BEGINNING_RECORDS)
            if is_authentic(chain, stored, self._master)
        ]
