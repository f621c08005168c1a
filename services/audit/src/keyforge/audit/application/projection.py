"""Keeps ClickHouse a projection of the logs: opens the store, checks what it holds, follows the logs, rebuilds.

States: opening -> following, or -> halted (the evidence and the log disagree: nothing more is written until an operator
decides, and perhaps rebuilds). A rebuild drops the tables and folds every log again; the bytes must be the same.

A log stops at a message that this version cannot read (core/fold.py), while the other logs are followed.
"""

import asyncio
from contextlib import suppress
from typing import Final, Literal

from keyforge.audit.application.follow import GATHER_PART, FollowedLog, end_of, follow
from keyforge.audit.application.opening import Opening
from keyforge.audit.application.ports import RecordPublisher, RecordStore, RecordWriter, WriterOf
from keyforge.audit.application.rebuild import Rebuild
from keyforge.audit.core.fold import Fold
from keyforge.audit.core.position import NOTHING_STORED, StoredState
from keyforge.audit.core.sealed import Sealed
from keyforge.audit.errors import DivergedError, SchemaDiffersError
from keyforge.audit.metrics import Metrics
from keyforge.chain.record import PLATFORM_PARTITION
from keyforge.chain.seal import MasterKey
from keyforge.contracts import subjects
from keyforge.eventlog.log import EventLog, LogMissing, LogShrunk
from keyforge.runtime import logs

REJECTED_SHOWN_MAX: Final = 20
"""Rejected events of a batch that are logged one by one; all are counted. Chosen: a screen of 24 lines shows them
all."""
REFRESH_S: Final = 2.0
"""How often gauges are refreshed. Chosen: small beside Prometheus' scrape interval, a minute by default and 15 s in its
examples."""

State = Literal["opening", "following", "halted"]


class Projection:
    """The projection of all logs: their folds, the writer, the rebuild."""

    def __init__(
        self,
        eventlog: EventLog,
        store: RecordStore,
        master: MasterKey,
        *,
        partitions: int,
        linger_s: float,
        metrics: Metrics,
        writer_of: WriterOf,
        publisher: RecordPublisher | None = None,
    ) -> None:
        """`publisher`: publishes what is stored to subscribers, if there are any."""
        self.state: State = "opening"
        self.halt_reason = ""
        self.rebuilding = Rebuild()
        self.writer: RecordWriter | None = None
        self.followed: list[FollowedLog] = []
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Fails with the error that must end the process."""
        self._eventlog = eventlog
        self._master = master
        self._linger_s = linger_s
        self._metrics = metrics
        self._writer_of = writer_of
        self._publisher = publisher
        self._streams = [(partition, subjects.log_stream(partition)) for partition in range(partitions)]
        self._streams.append((PLATFORM_PARTITION, subjects.PLATFORM_STREAM))
        self._opening = Opening(eventlog, store, self._streams)
        self._running: asyncio.Task[None] | None = None
        self._logger = logs.get("projection")

    # --- state --------------------------------------------------------------------------------------------------------

    @property
    def store_healthy(self) -> bool:
        """Whether the last call of the store succeeded."""
        return self.writer is not None and self.writer.healthy

    @property
    def subscribers_served(self) -> bool:
        """Whether the last message for KF_AUDIT was stored."""
        return self._publisher is None or self._publisher.healthy

    @property
    def logs_readable(self) -> bool:
        """Whether no log is stopped at a message that this version cannot read."""
        return all(followed.unreadable is None for followed in self.followed)

    def stored_head(self, chain: str) -> tuple[int, bytes] | None:
        """Return the stored end of a chain, seq and hash; None if nothing of it is stored."""
        return self.writer.heads.get(chain) if self.writer else None

    def folded_seq(self, chain: str) -> int:
        """Return the last seq of a chain that was folded, whether or not it is known to be stored."""
        return max(((followed.fold.head(chain) or (0, b""))[0] for followed in self.followed), default=0)

    def lag(self) -> dict[str, int]:
        """Return how many messages of each log are not stored yet."""
        done = self.writer.done if self.writer else {}
        return {followed.stream: max(0, followed.end - done.get(followed.partition, 0)) for followed in self.followed}

    def ends(self) -> dict[int, int]:
        """Return the last message that each log is known to have."""
        return {followed.partition: followed.end for followed in self.followed}

    async def refresh_ends(self) -> None:
        """Ask for the last sequence of each log. One that no server answers for keeps what was known."""
        await asyncio.gather(*[self._refresh_end(followed) for followed in self.followed])

    # --- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin. Returns at once; the store need not answer yet."""
        self._begin(rebuild=None)

    async def stop(self) -> None:
        """Stop; a block on its way to the store is finished first."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    async def rebuild(self) -> bool:
        """Drop the tables and fold all logs again, in the background. False if a rebuild is running already."""
        if self.rebuilding.running:
            return False
        self.rebuilding = Rebuild(state="running")
        await self.stop()
        self._begin(rebuild=self.rebuilding)
        return True

    def _begin(self, *, rebuild: Rebuild | None) -> None:
        self._running = asyncio.get_running_loop().create_task(self._run(rebuild))
        self._running.add_done_callback(self._ended)

    async def _run(self, rebuild: Rebuild | None) -> None:
        self.state, self.halt_reason = "opening", ""
        try:
            stored = await self._opening.open(rebuild, self._forget_writer)
            await self._follow(stored, NOTHING_STORED if rebuild else stored)
        except (DivergedError, LogShrunk, SchemaDiffersError) as error:
            self._halt(str(error))

    def _halt(self, why: str) -> None:
        self.state, self.halt_reason = "halted", why
        self._logger.error("halted: nothing more is stored; rebuild if the log is right", why=why)
        if self.rebuilding.running:
            self.rebuilding.fail(why)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and not self.failed.done():
            self.failed.set_exception(error)

    def _forget_writer(self) -> None:
        self.writer = None  # what it has stored is about to be dropped

    async def _follow(self, stored: StoredState, skip: StoredState) -> None:
        self.followed = [
            FollowedLog(partition, stream, Fold(partition, self._master)) for partition, stream in self._streams
        ]
        await self.refresh_ends()  # or `lag` would be 0
        writer = self.writer = self._writer_of(skip)
        self.state = "following"
        for followed in self.followed:
            self._metrics.unreadable.labels(followed.stream).set(0)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(writer.run())
                if self._publisher is not None:
                    group.create_task(self._publisher.run())
                group.create_task(self._refresh_gauges())
                if self.rebuilding.running:
                    group.create_task(self._watch(self.rebuilding, writer))
                for followed in self.followed:
                    group.create_task(self._following(followed, stored, writer))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _following(self, followed: FollowedLog, stored: StoredState, writer: RecordWriter) -> None:
        gather_s = self._linger_s * GATHER_PART
        unreadable = await follow(
            self._eventlog,
            followed,
            stored,
            writer,
            gather_s=gather_s,
            on_folded=self._on_folded,
            on_difference=self._on_difference,
        )
        followed.unreadable = unreadable
        writer.end_at(followed.partition, followed.folded)
        self._metrics.unreadable.labels(followed.stream).set(1)
        self._logger.error(
            "log stopped at a message that this version cannot read; it continues with one that can",
            log=followed.stream,
            sequence=unreadable.sequence,
            index=unreadable.frame_index,
            type=unreadable.type[:100],
            why=unreadable.why[:200],
        )

    async def _watch(self, rebuild: Rebuild, writer: RecordWriter) -> None:
        ends = {partition: await end_of(self._eventlog, stream) for partition, stream in self._streams}
        await rebuild.watch(ends, writer, self.followed)

    # --- what the folds report ----------------------------------------------------------------------------------------

    def _on_difference(self, what: str) -> None:
        if not self.rebuilding.running:
            raise DivergedError(what)
        self.rebuilding.differences.append(what)

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

    async def _refresh_end(self, followed: FollowedLog) -> None:
        with suppress(LogMissing):
            followed.end = max(followed.end, await self._eventlog.end(followed.stream))

    async def _refresh_gauges(self) -> None:
        """Keep the gauges and the known ends of the logs up to date."""
        loop = asyncio.get_running_loop()
        while True:
            await self.refresh_ends()
            for followed in self.followed:
                self._metrics.open.labels(followed.stream).set(followed.fold.open)
            for stream, lag in self.lag().items():
                self._metrics.lag.labels(stream).set(lag)
            writer = self.writer
            since = writer.waiting_since if writer else None
            self._metrics.lag_seconds.set(0 if since is None else loop.time() - since)
            self._metrics.waiting.set(writer.waiting if writer else 0)
            if self._publisher is not None:
                self._metrics.publish_failing.set(not self._publisher.healthy)
                self._metrics.publish_waiting.set(self._publisher.waiting_bytes)
            await asyncio.sleep(REFRESH_S)
