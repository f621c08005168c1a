"""A rebuild: all logs are folded again into tables beside the current ones, which are compared and then exchanged.

Answers come from the current tables until then. Where the two differ the old ones are kept under a name of their own.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from keyforge.audit.application.build import Build, Opened
from keyforge.audit.application.follow import end_of, fold_up_to
from keyforge.audit.application.patience import WATCH_S, patiently, while_stored
from keyforge.audit.application.ports import StoredTables, StorePorts, TableDifference
from keyforge.audit.application.reached import Reached, reached, settled
from keyforge.audit.application.rebuild_progress import RebuildProgress
from keyforge.audit.application.watching import unless_ended
from keyforge.audit.core.evidence import Disagreement
from keyforge.audit.core.folded_chain import FoldedChain, sum_up
from keyforge.audit.core.position import NOTHING_STORED
from keyforge.audit.core.sealed import Sealed
from keyforge.audit.errors import BesideLostError, DivergedError, StoreError, TablesRefusedError
from keyforge.eventlog.log import EventLog, LogShrunk
from keyforge.runtime import logs
from keyforge.runtime.threads import in_thread

DIFFERENCES_MAX: Final = 20
"""Differences of each comparison that are named. Chosen: a terminal of 24 lines shows 20 with a line of heading."""
KEPT_MAX: Final = 8
"""Sets of tables that are kept. Chosen: doubled, they take 17 times the room of the current one; halved, four tries to
find out what alters the tables fill it."""
PATIENCE_S: Final = 600.0
"""How long one call of the store is tried, or one block is offered to it. Chosen: twice the 300 s for which a
ClickHouse server holds a query by default (`receive_timeout`), so a restart of it is waited for; what it always refuses
ends the rebuild."""
LOOK_S: Final = 2.0
"""How often it looks whether the tables that it builds are there. Chosen: as gauges are refreshed
(`projection.REFRESH_S`)."""
ROOM: Final = 2
"""Free room that a rebuild needs, in sizes of the current tables: the new ones, and a merge that writes them again."""

EXCHANGING: Final = "; the exchange may have begun: then audit finishes it once the store answers"

T = TypeVar("T")


class RebuildRefused(NamedTuple):
    """Why a rebuild is not begun. `kept`: the sets of tables that take up the room."""

    why: str
    kept: tuple[str, ...] = ()


class Current(NamedTuple):
    """The current build, and how to stop and replace it."""

    build: Build | None
    """None if the tables are another version's: there is nothing to compare with."""
    stop: Callable[[], Awaitable[None]]
    """Stop writing the current tables; a block on its way is stored first."""


def refusal(build: Build | None, tables: StoredTables) -> RebuildRefused | None:
    """Return why no rebuild can be begun now. Raises StoreError. Blocking: call it from a thread."""
    if build is not None:
        for followed in build.followed:
            if followed.halted:
                return RebuildRefused(f"The log cannot be rebuilt from: {followed.halted}.")
    kept = tables.kept()
    names = tuple(one.name for one in kept)
    if len(kept) >= KEPT_MAX:
        return RebuildRefused(f"{KEPT_MAX} sets of tables are kept, drop one first: {', '.join(names)}.", names)
    needed, free = ROOM * tables.current_bytes(), tables.free_bytes()
    if needed > free:
        return RebuildRefused(f"The rebuild needs {needed} bytes, {free} are free where tables are stored.", names)
    return None


class Rebuild:
    """One rebuild."""

    def __init__(
        self,
        progress: RebuildProgress,
        eventlog: EventLog,
        ports: StorePorts,
        new_build: Callable[[Opened], Build],
        on_folded: Callable[[Sealed], None],
    ) -> None:
        self._progress = progress
        self._eventlog = eventlog
        self._ports = ports
        self._new_build = new_build
        self._on_folded = on_folded
        self._stopped = False
        self._exchanging = False
        self._comparing = False
        self._folded_chains: dict[str, FoldedChain] = {}
        self._logger = logs.get("projection")

    async def run(self, current: Current, now: Callable[[], datetime]) -> Build | None:
        """Build, compare, exchange. Return the new build, which goes on from where it is; None if it failed.

        The current build is stopped only for the last part, and stays stopped.
        """
        try:
            await self._patiently(self._ports.tables.create_beside)
            new = await self._unless_lost(self._compared(current))
            await self._exchange(new, now())
        except (DivergedError, LogShrunk, StoreError) as error:
            exchanging = self._exchanging and not isinstance(error, BesideLostError)
            if not exchanging:
                with suppress(StoreError):  # the next start drops them
                    await in_thread(self._ports.tables.drop_built)
            self._progress.fail(f"{error}{EXCHANGING if exchanging else ''}")  # last: the next rebuild may begin now
            return None
        finally:
            self._stopped = True
        return new

    async def _compared(self, current: Current) -> Build:
        """Build beside the current tables, compare and examine.

        Raises DivergedError, LogShrunk, StoreError; DivergedError also if a log cannot be read as far as it goes.
        """
        old = current.build
        new = self._new_build(Opened(NOTHING_STORED, old.beginnings if old is not None else {}))
        writing = asyncio.ensure_future(new.writer.run())
        try:
            await unless_ended(writing, self._folded_and_compared(current, new))
            await self._examine(new)
            return new
        finally:
            writing.cancel()
            await asyncio.wait([writing])

    async def _unless_lost(self, working: Coroutine[Any, Any, T]) -> T:
        """Return what `working` returns. Raises BesideLostError when the tables that it builds are gone."""
        lost = asyncio.ensure_future(self._lost())
        try:
            return await unless_ended(lost, working)
        finally:
            lost.cancel()
            await asyncio.wait([lost])

    async def _lost(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await in_thread(self._ports.tables.check_beside)
            except BesideLostError:
                raise
            except StoreError as error:
                self._failed(error)

    async def _folded_and_compared(self, current: Current, new: Build) -> None:
        old = current.build
        ends = {followed.partition: await end_of(self._eventlog, followed.stream) for followed in new.followed}
        self._progress.messages = sum(ends.values())
        await self._fold(new, ends)
        comparable = old is not None and await self._comparable(self._compare_folded(old, new, ends))
        await current.stop()
        if old is not None:
            for followed in old.followed:
                if followed.halted:
                    raise DivergedError(followed.halted)
            if comparable and await self._comparable(self._compare_rest(old, new, ends)):
                self._progress.identical = not self._progress.differences

    async def _comparable(self, comparing: Coroutine[Any, Any, None]) -> bool:
        """Compare; return whether the store let us. Where it refuses the current tables they are kept, not compared."""
        self._comparing = True
        try:
            await comparing
        except TablesRefusedError as error:
            why = f"the tables of before could not be compared: {str(error)[:500]}"
            self._progress.differences.append(Disagreement("records", "", "", None, why))
            self._logger.warning("the store refuses the current tables; they will be kept, and not compared", why=why)
            return False
        finally:
            self._comparing = False
        return True

    async def _compare_folded(self, old: Build, new: Build, ends: Mapping[int, int]) -> None:
        stored = partial(while_stored, old.writer, patience_s=0)
        await self._tried(lambda: stored(old.writer.until(ends)))
        self._differ(new, await self._records(ends, beyond=False))

    async def _compare_rest(self, old: Build, new: Build, ends: Mapping[int, int]) -> None:
        reach = partial(reached, self._ports, self._patiently, old, ends)
        self._differ(new, await settled(reach, partial(self._rest, new, ends)))

    async def _rest(self, new: Build, ends: Mapping[int, int], upto: Reached) -> list[TableDifference]:
        """Return how the requests differ, and the records after these messages, up to where the old tables go."""
        await self._fold(new, upto.requests)
        requests = await self._patiently(self._ports.comparison.requests, DIFFERENCES_MAX)
        await self._fold(new, upto.records)
        return [*await self._records(ends, beyond=True), *requests]

    async def _fold(self, new: Build, ends: Mapping[int, int]) -> None:
        """Fold all logs up to these messages and store what they become."""
        watching = asyncio.ensure_future(self._watch(new, ends))
        try:
            await while_stored(new.writer, self._folded(new, ends), PATIENCE_S)
        finally:
            watching.cancel()
        self._progress.folded = sum(ends.values())

    async def _folded(self, new: Build, ends: Mapping[int, int]) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for followed in new.followed:
                    folding = fold_up_to(
                        self._eventlog,
                        followed,
                        new.writer,
                        ends[followed.partition],
                        stored=NOTHING_STORED,
                        on_folded=self._sum_up,
                    )
                    group.create_task(folding)
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        for followed in new.followed:
            if followed.unreadable is not None:
                raise DivergedError(f"{followed.stream}: {followed.unreadable}")
        await new.writer.until(ends)

    def _sum_up(self, sealed: Sealed) -> None:
        """Keep what the records of each chain come to: the new tables are examined against that."""
        self._on_folded(sealed)
        sum_up(self._folded_chains, sealed.records)

    async def _watch(self, new: Build, ends: Mapping[int, int]) -> None:
        while True:
            self._progress.folded = sum(min(new.writer.done.get(log, 0), end) for log, end in ends.items())
            await asyncio.sleep(WATCH_S)

    async def _records(self, upto: Mapping[int, int], *, beyond: bool) -> list[TableDifference]:
        compare = partial(self._ports.comparison.records, upto, beyond=beyond, stopped=lambda: self._stopped)
        return await self._patiently(compare, limit=DIFFERENCES_MAX)

    def _differ(self, new: Build, found: list[TableDifference]) -> None:
        for one in found:
            followed = new.log_of(one.chain) or (new.log(one.partition) if one.partition is not None else None)
            log = followed.stream if followed is not None else ""
            self._progress.differences.append(Disagreement(one.table, log, one.chain, one.seq, one.why))

    async def _examine(self, new: Build) -> None:
        """Examine the new tables, which somebody may have edited too, alike or after they were compared."""
        examine = partial(
            self._ports.built.faults, self._folded_chains, new.writer.spend, stopped=lambda: self._stopped
        )
        before = len(self._progress.differences)
        self._differ(new, await self._patiently(examine, limit=DIFFERENCES_MAX))
        for one in self._progress.differences[before:]:
            new.disagrees(one)  # no answer comes from it
            self._progress.identical = False

    async def _exchange(self, new: Build, now: datetime) -> None:
        keep = "" if self._progress.identical else await self._new_name(now)
        self._exchanging = True
        await self._patiently(self._ports.tables.swap, keep)
        new.writer.tables_swapped()
        self._progress.kept = keep
        self._progress.records = sum(head.seq for head in new.writer.heads.values())
        self._progress.state = "done"
        self._logger.info("rebuilt", identical=self._progress.identical, kept=keep)

    async def _new_name(self, now: datetime) -> str:
        """Return a name that no kept tables have, also where the clock has stepped back."""
        taken = {kept.name for kept in await self._patiently(self._ports.tables.kept)}
        while (name := f"{now:before_%Y%m%dT%H%M%S%fZ}") in taken:
            now += timedelta(microseconds=1)
        return name

    async def _patiently(self, call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call the store until it answers. Raises StoreError once it has not for PATIENCE_S; while we compare,
        TablesRefusedError once it refuses the current tables."""
        return await self._tried(partial(in_thread, partial(call, *args, **kwargs)))

    async def _tried(self, call: Callable[[], Awaitable[T]]) -> T:
        answers = partial(in_thread, self._ports.tables.check_beside) if self._comparing else None
        return await patiently(call, failed=self._failed, patience_s=PATIENCE_S, answers=answers)

    def _failed(self, error: Exception) -> None:
        self._logger.warning("the store does not answer the rebuild; trying again", error=str(error)[:500])
