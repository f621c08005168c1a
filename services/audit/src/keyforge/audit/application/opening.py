"""Opens the store: waits for it, reads where it stands, and empties it for a rebuild once the logs are long enough."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from keyforge.audit.application.ports import RecordStore
from keyforge.audit.application.rebuild import Rebuild
from keyforge.audit.core.position import NOTHING, Held
from keyforge.audit.errors import DivergedError, SchemaDiffersError, StoreError
from keyforge.eventlog.log import EventLog, LogMissing
from keyforge.runtime import logs

OPEN_AGAIN_S: Final = 0.5


class Opening:
    """The store before it is written to."""

    def __init__(self, eventlog: EventLog, store: RecordStore, streams: Sequence[tuple[int, str]]) -> None:
        """`streams`: partition and stream of every log."""
        self._eventlog = eventlog
        self._store = store
        self._streams = streams
        self._logger = logs.get("projection")

    async def open(self, rebuild: Rebuild | None, emptying: Callable[[], None]) -> Held:
        """Wait for the store; return what it held. For a rebuild it is then emptied, right after `emptying` is called.

        Raises SchemaDiffersError, and for a rebuild DivergedError where a log is shorter than what is stored.
        """
        warned = False
        held: Held | None = None  # asked for once: a rebuild that begins again finds its tables empty
        while True:
            try:
                if held is None:
                    held = await asyncio.to_thread(self._held, rebuild)
                if rebuild is not None:
                    await self._check_ends(held)
                    emptying()
                    await asyncio.to_thread(self._empty)
            except SchemaDiffersError:
                raise
            except (StoreError, LogMissing) as error:
                if not warned:
                    self._logger.warning("what the projection needs cannot be used yet", error=str(error)[:500])
                    warned = True
                await asyncio.sleep(OPEN_AGAIN_S)
            else:
                return held

    def _held(self, rebuild: Rebuild | None) -> Held:
        try:
            self._store.create()
        except SchemaDiffersError:
            if rebuild is None:
                raise
            rebuild.comparable = False  # tables of another version cannot be compared
            return NOTHING
        return self._store.held()

    def _empty(self) -> None:
        self._store.drop()
        self._store.create()

    async def _check_ends(self, held: Held) -> None:
        for partition, stream in self._streams:
            end = await self._eventlog.end(stream)
            if end < held.sequence(partition):
                raise DivergedError(f"{stream} ends at {end}, records are stored up to {held.sequence(partition)}")
