"""Keeps ClickHouse a projection of the logs: opens the store, follows the logs, compares what is stored, rebuilds.

States: opening -> following, or -> halted (the tables are another version's: nothing is written until an operator
rebuilds them). A log that is shorter than what is stored of it, or another one, is halted alone, and so is one with a
message that this version cannot read (core/fold.py); the other logs go on. A chain that is stored differently than the
log has it stops nothing but answers from that chain.
"""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from functools import partial
from typing import Any, Final, Literal

from keyforge.audit.application import checking
from keyforge.audit.application.build import Build, Opened, streams_of
from keyforge.audit.application.checking import Checker
from keyforge.audit.application.examination import PLACING_READS_MAX, Examiner
from keyforge.audit.application.follow import GATHER_PART, FollowedLog
from keyforge.audit.application.opening import Opening
from keyforge.audit.application.ports import KeptTables, RecordPublisher, StorePorts, WriterOf
from keyforge.audit.application.rebuild import Current, Rebuild, RebuildRefused, refusal
from keyforge.audit.application.rebuild_progress import RebuildProgress
from keyforge.audit.core.evidence import Disagreement
from keyforge.audit.core.sealed import Sealed
from keyforge.audit.errors import SchemaDiffersError, StoreError
from keyforge.audit.metrics import Metrics
from keyforge.chain.record import PLATFORM_PARTITION
from keyforge.contracts import subjects
from keyforge.eventlog.log import EventLog
from keyforge.eventlog.retry import repeating
from keyforge.runtime import logs
from keyforge.runtime.clock import Clock
from keyforge.runtime.threads import in_thread

REJECTED_SHOWN_MAX: Final = 20
"""Rejected events of a batch that are logged one by one; all are counted. Chosen: a screen of 24 lines shows them
all."""
REFRESH_S: Final = 2.0
"""How often gauges are refreshed. Chosen: small beside Prometheus' scrape interval, a minute by default and 15 s in its
examples."""

NO_LOG: Final = "none"
"""The label of chains that are stored and that no log has."""

State = Literal["opening", "following", "halted"]


class Projection:
    """The projection of all logs: the current build of the tables, and a rebuild beside it."""

    def __init__(
        self,
        eventlog: EventLog,
        ports: StorePorts,
        *,
        partitions: int,
        linger_s: float,
        metrics: Metrics,
        clock: Clock,
        writer_of: WriterOf,
        publisher: RecordPublisher | None = None,
    ) -> None:
        """`publisher`: publishes what is stored to subscribers, if there are any."""
        self.state: State = "opening"
        self.halt_reason = ""
        self.rebuilding = RebuildProgress()
        """Of the last rebuild, or the one that runs."""
        self.build: Build | None = None
        self.examiner = Examiner(eventlog, ports.store, ports.master)
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Fails with the error that must end the process."""
        self._eventlog = eventlog
        self._ports = ports
        self._linger_s = linger_s
        self._metrics = metrics
        self._clock = clock
        self._writer_of = writer_of
        self._publisher = publisher
        self._streams = streams_of(partitions)
        self._opening = Opening(eventlog, ports.store, ports.tables, ports.master, self._streams)
        placing = Examiner(eventlog, ports.store, ports.master, reads_max=PLACING_READS_MAX)
        self._checker = Checker(ports.store, placing, ports.master)
        self._running: asyncio.Task[None] | None = None
        self._rebuild_task: asyncio.Task[None] | None = None
        self._logger = logs.get("projection")

    # --- state --------------------------------------------------------------------------------------------------------

    @property
    def store_healthy(self) -> bool:
        """Whether the last call of the store succeeded."""
        return self.build is not None and self.build.writer.healthy and not self.build.check_failed

    @property
    def caught_up(self) -> bool:
        """Whether all is stored that the logs had when this build began to follow them."""
        return self.build is not None and self.build.caught_up()

    @property
    def publish_failure(self) -> str:
        """Why the last message for KF_AUDIT was not stored; empty if it was."""
        return "" if self._publisher is None else self._publisher.failure

    @property
    def logs_readable(self) -> bool:
        """Whether no log is stopped at a message that this version cannot read."""
        return self.build is None or all(followed.unreadable is None for followed in self.build.followed)

    def halted(self) -> dict[str, str]:
        """Return by log why it is halted: it is shorter than what is stored of it, or another one."""
        followed = self.build.followed if self.build is not None else []
        return {one.stream: one.halted for one in followed if one.halted}

    def left_out(self) -> int:
        """Return how many more chains that no log has are stored than `disagreements` returns."""
        return sum(self.build.left_out.values()) if self.build is not None else 0

    def disagreements(self) -> list[Disagreement]:
        """Return where the store and the logs were found to disagree."""
        return list(self.build.disagreements.values()) if self.build is not None else []

    # --- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin. Returns at once; the store need not answer yet."""
        self._begin(self._run())

    async def stop(self) -> None:
        """Stop; a block on its way to the store is finished first."""
        if self._rebuild_task is not None:
            self._rebuild_task.cancel()
            await asyncio.wait([self._rebuild_task])
        await self._stop_following()

    async def rebuild(self) -> RebuildRefused | None:
        """Fold all logs again beside the current tables, in the background; one that runs already goes on.

        Return why it is not begun, if so. Raises StoreError.
        """
        if self.rebuilding.running:
            return None
        if self.state == "opening":
            raise StoreError("the store is not open")
        before, progress = self.rebuilding, RebuildProgress(state="running")
        self.rebuilding = progress
        try:
            refused = await in_thread(refusal, self.build, self._ports.tables)
        except BaseException:  # its caller may be cancelled as well: nothing runs
            self.rebuilding = before
            raise
        if refused is not None:
            self.rebuilding = before
            return refused
        self._rebuild_task = asyncio.get_running_loop().create_task(self._run_rebuild(progress))
        self._rebuild_task.add_done_callback(self._ended)
        return None

    async def kept(self) -> list[KeptTables]:
        """Return the sets of tables that rebuilds kept, oldest first. Raises StoreError."""
        return await in_thread(self._ports.tables.kept)

    async def drop_kept(self, name: str) -> bool:
        """Drop a set of tables that a rebuild kept; return whether there was one of this name. Raises StoreError."""
        return await in_thread(self._ports.tables.drop_kept, name)

    def _begin(self, following: Coroutine[Any, Any, None]) -> None:
        self._running = asyncio.get_running_loop().create_task(following)
        self._running.add_done_callback(self._ended)

    async def _stop_following(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    def fail(self, error: BaseException) -> None:
        """End the process with this error, unless another one ends it already."""
        if not self.failed.done():
            self.failed.set_exception(error)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)

    async def _run(self) -> None:
        self.state, self.halt_reason, self.build = "opening", "", None
        try:
            opened = await self._opening.open()
        except SchemaDiffersError as error:
            self.state, self.halt_reason = "halted", str(error)
            self._logger.error("halted: the tables are another version's; rebuild them", why=self.halt_reason)
            return
        await self._follow(self._new_build(opened, beside=False))

    def _new_build(self, opened: Opened, *, beside: bool) -> Build:
        writer = self._writer_of(opened.stored, beside=beside)
        return Build(self._eventlog, self._ports.master, self._streams, opened, writer)

    async def _run_rebuild(self, progress: RebuildProgress) -> None:
        new_build = partial(self._new_build, beside=True)
        rebuild = Rebuild(progress, self._eventlog, self._ports, new_build, self._on_folded)
        new = await rebuild.run(Current(self.build, self._stop_following), self._clock.now)
        if new is not None:
            self.build = new
            self._begin(self._follow(new))
        elif self._running is None or self._running.done():
            self._begin(self._run())

    async def _follow(self, build: Build) -> None:
        await build.begin()
        self.build, self.state = build, "following"
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(build.writer.run())
                if self._publisher is not None:
                    group.create_task(self._publisher.run(build.writer.done))
                group.create_task(self._refresh_gauges(build))
                group.create_task(self._checker.run(build))
                group.create_task(self._keep_views())
                for followed in build.followed:
                    group.create_task(self._following(build, followed))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _following(self, build: Build, followed: FollowedLog) -> None:
        def on_folded(sealed: Sealed) -> None:
            self._on_folded(sealed)
            self._count_folded(followed, sealed.sequence)

        self._count_folded(followed, followed.folded)  # by a rebuild
        await build.follow(followed, gather_s=self._linger_s * GATHER_PART, on_folded=on_folded)
        self._show_stopped(followed)

    def _count_folded(self, followed: FollowedLog, sequence: int) -> None:
        if self._publisher is not None:
            self._publisher.folded(followed.partition, sequence, followed.tenants_records)

    def _show_stopped(self, followed: FollowedLog) -> None:
        self._metrics.unreadable.labels(followed.stream).set(followed.unreadable is not None)
        self._metrics.halted.labels(followed.stream).set(bool(followed.halted))

    async def _keep_views(self) -> None:
        """Restore the views for readers of SQL as often as all else is compared: what they show can be made again."""

        async def restore() -> None:
            for name in await in_thread(self._ports.tables.restore_views):
                self._logger.error("a view was altered or removed; it was created again", view=name)

        def failed(fault: Exception) -> None:
            self._logger.warning("the views cannot be compared; trying again", error=str(fault)[:500])

        await repeating(restore, pause_s=lambda: checking.CHECK_EVERY_S, failed=failed)

    # --- what the folds report ----------------------------------------------------------------------------------------

    def _on_folded(self, sealed: Sealed) -> None:
        self._metrics.events.inc(sealed.events)
        if sealed.repeated:
            self._metrics.repeated.inc(sealed.repeated)
        if sealed.rejected:
            self._metrics.rejected.inc(len(sealed.rejected))
        for rejected in sealed.rejected[:REJECTED_SHOWN_MAX]:
            self._logger.warning(
                "event rejected",
                log=subjects.log_stream(rejected.partition) if rejected.partition != PLATFORM_PARTITION else "platform",
                sequence=rejected.sequence,
                index=rejected.frame_index,
                type=rejected.type[:100],
                why=rejected.why[:200],
            )

    async def _refresh_gauges(self, build: Build) -> None:
        """Keep the gauges and the known ends of the logs up to date. What is remembered is counted as it changes, and
        nothing here walks over it."""
        metrics = self._metrics
        while True:
            await build.refresh_ends()
            disagreeing = Counter(build.disagreeing)
            for followed in build.followed:
                metrics.open.labels(followed.stream).set(followed.fold.open)
                metrics.lag.labels(followed.stream).set(build.lag_of(followed))
                self._show_stopped(followed)
                metrics.disagreeing.labels(followed.stream).set(disagreeing.pop(followed.stream, 0))
            metrics.disagreeing.labels(NO_LOG).set(disagreeing.total() + sum(build.left_out.values()))
            oldest = build.oldest_unstored()
            metrics.lag_seconds.set(0 if oldest is None else (self._clock.now() - oldest).total_seconds())
            metrics.waiting.set(build.writer.waiting)
            if self._publisher is not None:
                metrics.publish_failing.set(bool(self._publisher.failure))
                metrics.publish_waiting.set(self._publisher.waiting_bytes)
            await asyncio.sleep(REFRESH_S)
