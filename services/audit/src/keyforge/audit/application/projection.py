"""Keeps ClickHouse a projection of the logs: starts, checks what is stored, follows, rebuilds; says how it fares.

States: opening -> following, or -> halted (the evidence and the log disagree: nothing more is written, an operator
looks and may rebuild). A rebuild drops the tables and folds every log again; its bytes must come out the same.
"""

import asyncio
from contextlib import suppress
from typing import Final, Literal

from keyforge.audit.application.follow import COMPANY_PART, Follower, end_of, follow
from keyforge.audit.application.opening import Opening
from keyforge.audit.application.ports import RecordPublisher, RecordStore, RecordWriter, WriterOf
from keyforge.audit.application.rebuild import Rebuild
from keyforge.audit.core.fold import Fold
from keyforge.audit.core.position import NOTHING, Held
from keyforge.audit.core.sealed import Sealed
from keyforge.audit.errors import DivergedError, SchemaDiffersError
from keyforge.audit.metrics import Metrics
from keyforge.chain.record import PLATFORM_PARTITION
from keyforge.chain.seal import MasterKey
from keyforge.contracts import subjects
from keyforge.eventlog.log import EventLog, LogMissing, LogShrunk
from keyforge.runtime import logs

IGNORED_SHOWN_MAX: Final = 20
"""Events not believed that are logged one by one for each batch; all are counted."""
LOOK_S: Final = 2.0

State = Literal["opening", "following", "halted"]


class Projection:
    """Everything behind the store: folds, writer, rebuild."""

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
        self.why = ""
        self.rebuilding = Rebuild()
        self.writer: RecordWriter | None = None
        self.followers: list[Follower] = []
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Fails with what the process cannot go on with."""
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

    # --- what others ask ----------------------------------------------------------------------------------------------

    @property
    def store_healthy(self) -> bool:
        """Whether the last thing that was asked of the store was done."""
        return self.writer is not None and self.writer.healthy

    @property
    def subscribers_served(self) -> bool:
        """Whether KF_AUDIT took what it was last given."""
        return self._publisher is None or self._publisher.healthy

    def stored_head(self, chain: str) -> tuple[int, bytes] | None:
        """Return the end of a chain as it is stored; None if nothing of it is."""
        return self.writer.heads.get(chain) if self.writer else None

    def folded_seq(self, chain: str) -> int:
        """Return the last seq that the log gives of a chain so far, whether it is known to be stored or not."""
        return max(((follower.fold.head(chain) or (0, b""))[0] for follower in self.followers), default=0)

    def lag(self) -> dict[str, int]:
        """Return how many messages of each log are not stored yet."""
        done = self.writer.done if self.writer else {}
        return {follower.stream: max(0, follower.end - done.get(follower.partition, 0)) for follower in self.followers}

    def ends(self) -> dict[int, int]:
        """Return the last message that each log is known to have."""
        return {follower.partition: follower.end for follower in self.followers}

    async def learn_ends(self) -> None:
        """Ask how far the logs go. One that nobody answers for stays as it was known."""
        await asyncio.gather(*[self._learn_end(follower) for follower in self.followers])

    # --- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin. Returns at once; the store may come later."""
        self._begin(rebuild=None)

    async def stop(self) -> None:
        """End; a block on its way to the store is finished."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    async def rebuild(self) -> bool:
        """Throw the projection away and make it anew, in the background. False if that is going on already."""
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
        self.state, self.why = "opening", ""
        try:
            held = await self._opening.open(rebuild, self._forget_writer)
            await self._follow(held, NOTHING if rebuild else held)
        except (DivergedError, LogShrunk, SchemaDiffersError) as error:
            self._halt(str(error))

    def _halt(self, why: str) -> None:
        self.state, self.why = "halted", why
        self._logger.error("halted: what is stored is left as it is; rebuild it if the log is right", why=why)
        if self.rebuilding.running:
            self.rebuilding.fail(why)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and not self.failed.done():
            self.failed.set_exception(error)

    def _forget_writer(self) -> None:
        self.writer = None  # what it says is stored is about to go

    async def _follow(self, held: Held, skip: Held) -> None:
        self.followers = [
            Follower(partition, stream, Fold(partition, self._master)) for partition, stream in self._streams
        ]
        await self.learn_ends()  # or `lag` would say that nothing is missing
        writer = self.writer = self._writer_of(skip)
        self.state = "following"
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(writer.run())
                if self._publisher is not None:
                    group.create_task(self._publisher.run())
                group.create_task(self._look())
                if self.rebuilding.running:
                    group.create_task(self._watch(self.rebuilding))
                for follower in self.followers:
                    group.create_task(self._following(follower, held, writer))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _following(self, follower: Follower, held: Held, writer: RecordWriter) -> None:
        company_s = self._linger_s * COMPANY_PART
        await follow(self._eventlog, follower, held, writer, company_s=company_s, seen=self._seen, differ=self._differ)

    async def _watch(self, rebuild: Rebuild) -> None:
        ends = {partition: await end_of(self._eventlog, stream) for partition, stream in self._streams}
        await rebuild.watch(ends, lambda: self.writer)

    # --- what it is told ----------------------------------------------------------------------------------------------

    def _differ(self, what: str) -> None:
        if not self.rebuilding.running:
            raise DivergedError(what)
        self.rebuilding.differences.append(what)

    def _seen(self, sealed: Sealed) -> None:
        self._metrics.events.inc(sealed.events)
        if sealed.repeated:
            self._metrics.repeated.inc(sealed.repeated)
        if sealed.ignored:
            self._metrics.ignored.inc(len(sealed.ignored))
        for ignored in sealed.ignored[:IGNORED_SHOWN_MAX]:
            self._logger.warning(
                "an event is not believed",
                log=subjects.log_stream(ignored.partition) if ignored.partition != PLATFORM_PARTITION else "platform",
                sequence=ignored.sequence,
                index=ignored.frame_index,
                type=ignored.type[:100],
                why=ignored.why[:200],
            )

    async def _learn_end(self, follower: Follower) -> None:
        with suppress(LogMissing):
            follower.end = max(follower.end, await self._eventlog.end(follower.stream))

    async def _look(self) -> None:
        """Refresh the gauges, and what is known of the ends of the logs."""
        loop = asyncio.get_running_loop()
        while True:
            await self.learn_ends()
            for follower in self.followers:
                self._metrics.open.labels(follower.stream).set(follower.fold.open)
            for stream, lag in self.lag().items():
                self._metrics.lag.labels(stream).set(lag)
            writer = self.writer
            since = writer.waiting_since if writer else None
            self._metrics.lag_seconds.set(0 if since is None else loop.time() - since)
            self._metrics.waiting.set(writer.waiting if writer else 0)
            if self._publisher is not None:
                self._metrics.publish_failing.set(not self._publisher.healthy)
                self._metrics.publish_waiting.set(self._publisher.waiting_bytes)
            await asyncio.sleep(LOOK_S)
