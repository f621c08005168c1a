"""Opens the store: waits until it answers, and reads up to where it goes and how it begins."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import Final

from keyforge.audit.application.build import Opened
from keyforge.audit.application.follow import nanoseconds
from keyforge.audit.application.ports import RecordStore, StoredTables
from keyforge.audit.core.beginning import BEGINNING_RECORDS
from keyforge.audit.core.evidence import StoredEnd, is_authentic
from keyforge.audit.core.fold import Fold
from keyforge.audit.core.position import evidence_positions, stored_state
from keyforge.audit.core.sealed import Sealed
from keyforge.audit.errors import SchemaDiffersError, StoreError
from keyforge.chain import record as rec
from keyforge.chain.seal import MasterKey
from keyforge.eventlog.log import EventLog, LogMissing, LogShrunk
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
        found, requests = await in_thread(self._read_store, ends)
        evidence = evidence_positions(found)
        for partition, stream in self._streams:
            stored = evidence.get(partition, 0)
            if requests.get(partition, 0) > stored:
                proven = await self._proven(partition, stream, after=stored, upto=requests[partition])
                requests[partition] = proven or await self._requests_up_to(partition, stored)
        beginnings = {partition: await self._beginning(partition, found) for partition, _ in self._streams}
        return Opened(stored_state(evidence, requests), beginnings)

    def _read_store(self, ends: dict[int, int]) -> tuple[list[StoredEnd], dict[int, int]]:
        return self._store.chain_ends(master=self._master), self._store.requests_positions(ends)

    async def _requests_up_to(self, partition: int, end: int) -> int:
        found = await in_thread(self._store.requests_positions, {partition: end})
        return found.get(partition, 0)

    async def _proven(self, partition: int, stream: str, *, after: int, upto: int) -> int:
        """Return the last message from `after` to `upto` that ended a request as a stored row says; 0 if there is none.

        A row of `requests` proves nothing by itself, and one that is made up must not make us leave out what others
        did since then. So the log is folded beforehand, which is needed only where the tables were edited.
        """
        fold, proven = Fold(partition, self._master), 0
        with suppress(LogShrunk):  # the log is halted when it is followed
            async with aclosing(self._eventlog.read(stream)) as batches:
                async for batch in batches:
                    out = Sealed()
                    for message in batch:
                        time_ns = nanoseconds(message.time)
                        if message.seq > upto or fold.fold(message.seq, message.subject, time_ns, message.data, out):
                            break
                    ends = [end for end in out.ends if end.sequence > after]
                    if ends:
                        proven = max(proven, await in_thread(self._store.last_stored_of, ends))
                    if batch[-1].seq >= upto or fold.sequence < batch[-1].seq:
                        break
                    await asyncio.sleep(0)
        return proven

    async def _beginning(self, partition: int, ends: Sequence[StoredEnd]) -> list[tuple[int, bytes]]:
        """Return message and hash of the first stored records of a log, of those that are authentic.

        If none of the first ones is, those at the ends of chains.
        """
        rows = await in_thread(self._store.beginning, partition, BEGINNING_RECORDS)
        first = [
            (header.sequence, stored.hash)
            for chain, stored in rows
            if is_authentic(chain, stored, self._master)
            and (header := rec.unpack(stored.header)).partition == partition
        ]
        last = sorted((end.sequence, end.hash) for end in ends if end.authentic and end.partition == partition)
        return first or last[:BEGINNING_RECORDS]
