"""Keeps ClickHouse a projection of the logs: starts, checks what is stored, follows, rebuilds; says how it fares.

States: opening -> following, or -> halted (the evidence and the log disagree: nothing more is written, an operator
looks and may rebuild). A rebuild drops the tables and folds every log again; its bytes must come out the same.
"""

import asyncio
from contextlib import suppress
from typing import Final, Literal

import msgspec

from keyforge.audit.application.follow import COMPANY_PART, Follower, end_of, follow
from keyforge.audit.core.fold import Fold
from keyforge.audit.core.position import NOTHING, Held
from keyforge.audit.core.sealed import Sealed
from keyforge.audit.errors import DivergedError, SchemaDiffersError, StoreError
from keyforge.audit.metrics import Metrics
from keyforge.audit.outbound.publisher import Publisher
from keyforge.audit.outbound.store import Store
from keyforge.audit.outbound.writer import Chunk, Writer
from keyforge.chain.record import PLATFORM_PARTITION
from keyforge.chain.seal import MasterKey
from keyforge.contracts import subjects
from keyforge.eventlog.log import EventLog, LogMissing, LogShrunk
from keyforge.runtime import logs

OPEN_AGAIN_S: Final = 0.5
IGNORED_SHOWN_MAX: Final = 20
"""Events not believed that are logged one by one for each batch; all are counted."""
LOOK_S: Final = 2.0
WATCH_S: Final = 0.1

State = Literal["opening", "following", "halted"]


class Rebuild(msgspec.Struct, eq=False):
    """How a rebuild fares. `identical` is None until every stored chain was compared, or if another version's were."""

    state: Literal["none", "running", "done", "failed"] = "none"
    folded: int = 0
    messages: int = 0
    records: int = 0
    identical: bool | None = None
    differences: list[str] = msgspec.field(default_factory=list)
    error: str = ""


class Projection:
    """Everything behind the store: folds, writer, rebuild."""

    def __init__(
        self,
        log: EventLog,
        store: Store,
        master: MasterKey,
        *,
        partitions: int,
        linger_s: float,
        metrics: Metrics,
        subscribers: EventLog | None = None,
    ) -> None:
        """`subscribers`: where stored records are published, if they are."""
        self.state: State = "opening"
        self.why = ""
        self.rebuilding = Rebuild()
        self.writer: Writer | None = None
        self.followers: list[Follower] = []
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Fails with what the process cannot go on with."""
        self._log = log
        self._store = store
        self._master = master
        self._linger_s = linger_s
        self._metrics = metrics
        self._streams = [(partition, subjects.log_stream(partition)) for partition in range(partitions)]
        self._streams.append((PLATFORM_PARTITION, subjects.PLATFORM_STREAM))
        self.publisher = self._publisher(subscribers) if subscribers else None
        self._comparable = True
        self._running: asyncio.Task[None] | None = None
        self._say = logs.get("projection")

    # --- what others ask ----------------------------------------------------------------------------------------------

    @property
    def store_healthy(self) -> bool:
        """Whether the last thing that was asked of the store was done."""
        return self.writer is not None and self.writer.healthy

    @property
    def subscribers_served(self) -> bool:
        """Whether KF_AUDIT took what it was last given."""
        return self.publisher is None or self.publisher.healthy

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
        self._begin(rebuild=False)

    async def stop(self) -> None:
        """End; a block on its way to the store is finished."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    async def rebuild(self) -> bool:
        """Throw the projection away and make it anew, in the background. False if that is going on already."""
        if self.rebuilding.state == "running":
            return False
        self.rebuilding, self._comparable = Rebuild(state="running"), True
        await self.stop()
        self._begin(rebuild=True)
        return True

    def _begin(self, *, rebuild: bool) -> None:
        self._running = asyncio.get_running_loop().create_task(self._run(rebuild=rebuild))
        self._running.add_done_callback(self._ended)

    async def _run(self, *, rebuild: bool) -> None:
        self.state, self.why = "opening", ""
        try:
            held = await self._open(rebuild=rebuild)
            await self._follow(held, NOTHING if rebuild else held)
        except (DivergedError, LogShrunk, SchemaDiffersError) as error:
            self.state, self.why = "halted", str(error)
            self._say.error("halted: what is stored is left as it is; rebuild it if the log is right", why=self.why)
            if self.rebuilding.state == "running":
                self.rebuilding.state, self.rebuilding.error = "failed", self.why

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and not self.failed.done():
            self.failed.set_exception(error)

    async def _open(self, *, rebuild: bool) -> Held:
        """Wait for the store; return what it held. For a rebuild it is then emptied, if the logs are long enough."""
        told = False
        held: Held | None = None  # asked for once: a rebuild that begins again finds its tables empty
        while True:
            try:
                if held is None:
                    held = await asyncio.to_thread(self._held, rebuild)
                if rebuild:
                    await self._check_ends(held)
                    self.writer = None  # what it says is stored no longer is
                    await asyncio.to_thread(self._empty)
            except SchemaDiffersError:
                raise
            except (StoreError, LogMissing) as error:
                if not told:
                    self._say.warning("what the projection needs cannot be used yet", error=str(error)[:500])
                    told = True
                await asyncio.sleep(OPEN_AGAIN_S)
            else:
                return held

    def _held(self, rebuild: bool) -> Held:  # noqa: FBT001  # handed to a thread
        try:
            self._store.create()
        except SchemaDiffersError:
            if rebuild:  # tables of another version cannot be compared
                self._comparable = False
                return NOTHING
            raise
        return self._store.held()

    def _empty(self) -> None:
        self._store.drop()
        self._store.create()

    async def _check_ends(self, held: Held) -> None:
        for partition, stream in self._streams:
            end = await self._log.end(stream)
            if end < held.sequence(partition):
                raise DivergedError(f"{stream} ends at {end}, records are stored up to {held.sequence(partition)}")

    async def _follow(self, held: Held, skip: Held) -> None:
        self.followers = [
            Follower(partition, stream, Fold(partition, self._master)) for partition, stream in self._streams
        ]
        await self.learn_ends()  # or `lag` would say that nothing is missing
        writer = self.writer = Writer(
            self._store, skip, linger_s=self._linger_s, stored=self._stored, failed=self._insert_failed
        )
        self.state = "following"
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(writer.run())
                if self.publisher is not None:
                    group.create_task(self.publisher.run())
                group.create_task(self._look())
                if self.rebuilding.state == "running":
                    group.create_task(self._watch(self.rebuilding))
                for follower in self.followers:
                    group.create_task(self._following(follower, held, writer))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _following(self, follower: Follower, held: Held, writer: Writer) -> None:
        company_s = self._linger_s * COMPANY_PART
        await follow(self._log, follower, held, writer, company_s=company_s, seen=self._seen, differ=self._differ)

    # --- what it is told ----------------------------------------------------------------------------------------------

    def _differ(self, what: str) -> None:
        if self.rebuilding.state != "running":
            raise DivergedError(what)
        self.rebuilding.differences.append(what)

    def _seen(self, sealed: Sealed) -> None:
        self._metrics.events.inc(sealed.events)
        if sealed.repeated:
            self._metrics.repeated.inc(sealed.repeated)
        if sealed.ignored:
            self._metrics.ignored.inc(len(sealed.ignored))
        for ignored in sealed.ignored[:IGNORED_SHOWN_MAX]:
            self._say.warning(
                "an event is not believed",
                log=subjects.log_stream(ignored.partition) if ignored.partition != PLATFORM_PARTITION else "platform",
                sequence=ignored.sequence,
                index=ignored.frame_index,
                type=ignored.type[:100],
                why=ignored.why[:200],
            )

    def _stored(self, block: list[Chunk], seconds: float) -> None:
        self._metrics.inserts.observe(seconds)
        self._metrics.records.inc(sum(chunk.records for chunk in block))
        self._metrics.requests.inc(sum(chunk.ends for chunk in block))
        if self.publisher is not None:
            self.publisher.offer([chunk.fresh for chunk in block])

    def _publisher(self, subscribers: EventLog) -> Publisher:
        metrics = self._metrics
        partitions = [partition for partition, _ in self._streams if partition != PLATFORM_PARTITION]
        return Publisher(
            subscribers, self._store, partitions, told=metrics.published.inc, failed=metrics.publish_failures.inc
        )

    def _insert_failed(self, error: StoreError) -> None:
        self._metrics.failures.inc()
        self._say.warning("a block is not stored yet", error=str(error)[:500])

    async def _watch(self, rebuild: Rebuild) -> None:
        """Follow a rebuild until what the logs held at its beginning is stored."""
        ends = {partition: await end_of(self._log, stream) for partition, stream in self._streams}
        rebuild.messages = sum(ends.values())
        while self.writer is not None:
            done = self.writer.done
            rebuild.folded = sum(min(done.get(partition, 0), end) for partition, end in ends.items())
            if all(done.get(partition, 0) >= end for partition, end in ends.items()):
                break
            await asyncio.sleep(WATCH_S)
        rebuild.records = sum(seq for seq, _ in self.writer.heads.values()) if self.writer else 0
        rebuild.identical = not rebuild.differences if self._comparable else None
        rebuild.state = "done"
        self._say.info("rebuilt", identical=rebuild.identical, differences=rebuild.differences[:5])

    async def _learn_end(self, follower: Follower) -> None:
        with suppress(LogMissing):
            follower.end = max(follower.end, await self._log.end(follower.stream))

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
            if self.publisher is not None:
                self._metrics.publish_failing.set(not self.publisher.healthy)
                self._metrics.publish_waiting.set(self.publisher.waiting_bytes)
            await asyncio.sleep(LOOK_S)
