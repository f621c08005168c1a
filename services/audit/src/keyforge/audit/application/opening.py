"""Opens the store: waits until it answers, reads what it holds, and for a rebuild empties it."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from keyforge.audit.application.ports import RecordStore
from keyforge.audit.application.rebuild import Rebuild
from keyforge.audit.core.position import NOTHING_STORED, StoredState
from keyforge.audit.errors import DivergedError, SchemaDiffersError, StoreError
from keyforge.eventlog.log import EventLog, LogMissing
from keyforge.eventlog.retry import Backoff, retrying
from keyforge.runtime import logs

BACKOFF: Final = Backoff(0.5, 0.5)
"""Chosen: a server takes seconds to start, to which this adds half a one at most."""


class Opening:
    """The store before it is written to."""

    def __init__(self, eventlog: EventLog, store: RecordStore, streams: Sequence[tuple[int, str]]) -> None:
        """`streams`: partition and stream of every log."""
        self._eventlog = eventlog
        self._store = store
        self._streams = streams
        self._logger = logs.get("projection")

    async def open(self, rebuild: Rebuild | None, emptying: Callable[[], None]) -> StoredState:
        """Wait for the store; return what it held. For a rebuild empty it then; `emptying` is called just before.

        Raises SchemaDiffersError, and for a rebuild DivergedError if a log ends before what is stored of it.
        """
        warned = False

        def failed(error: Exception) -> None:
            nonlocal warned
            if not warned:
                self._logger.warning("the store or a log is unavailable; trying again", error=str(error)[:500])
                warned = True

        async def emptied() -> None:
            await self._check_ends(stored)
            emptying()
            await asyncio.to_thread(self._empty)

        patiently = partial(
            retrying, backoff=BACKOFF, retry_on=(StoreError, LogMissing), raise_on=SchemaDiffersError, failed=failed
        )
        # Read once: a rebuild that has to begin again finds its tables empty.
        stored: StoredState = await patiently(partial(asyncio.to_thread, self._read, rebuild))
        if rebuild is not None:
            await patiently(emptied)
        return stored

    def _read(self, rebuild: Rebuild | None) -> StoredState:
        try:
            self._store.create()
        except SchemaDiffersError:
            if rebuild is None:
                raise
            rebuild.comparable = False  # these are another version's tables
            return NOTHING_STORED
        return self._store.stored_state()

    def _empty(self) -> None:
        self._store.drop()
        self._store.create()

    async def _check_ends(self, stored: StoredState) -> None:
        for partition, stream in self._streams:
            end = await self._eventlog.end(stream)
            if end < stored.sequence(partition):
                raise DivergedError(f"{stream} ends at {end}, records are stored up to {stored.sequence(partition)}")
