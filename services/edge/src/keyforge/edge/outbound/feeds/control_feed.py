"""Follows every partition's control subject: keys changed and revoked, tenants suspended; and knows when it is stale.

A partition whose control subject this edge cannot show to have read to its end for STALE_S counts as cut off: what
was revoked there since would not be noticed. So does, for good, one with an event that this version cannot read: a
newer writer may have revoked something by it. What can be read there is still applied, and other partitions go on.
"""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from functools import partial
from typing import Final, NoReturn

import msgspec

from keyforge.contracts import frame, subjects
from keyforge.contracts.events import Event
from keyforge.contracts.frame import FrameError, Recorded
from keyforge.edge.metrics import Metrics
from keyforge.eventlog.log import EventLog, EventLogError, LogClosed, LogShrunk, Message
from keyforge.eventlog.retry import Backoff, retrying
from keyforge.runtime import logs

POLL_S: Final = 0.5
"""How often the end of each control subject is asked for: six times within STALE_S, so one slow answer is no harm."""
STALE_S: Final = 3.0
"""The promise about revocation: an edge that is cut off from the log ends its streams after this."""
RECOVERED_S: Final = 1.5
"""A stale partition is current again when it is nearer to its end than this; chosen: half, so that it does not flap."""
WATCH_S: Final = 0.2
"""How often ages are compared with STALE_S; it adds so much to the time after which streams end."""
BACKOFF: Final = Backoff(0.3, 0.3)
"""Between attempts to read. Chosen: ten fit into STALE_S."""


class _PartitionFeed(msgspec.Struct):
    """How far one partition was read."""

    read: int
    """Sequence of the last message that was applied."""
    current_at: float
    """The last time (monotonic) at which it is certain that everything was read."""
    stale: bool = False
    unreadable: bool = False
    """It holds an event that this version cannot read: stale for as long as this process lives."""
    end: int = 0
    end_at: float = 0.0
    """The end of the control subject, as asked for at `end_at`."""

    def advance(self, sequence: int) -> None:
        """Everything up to `sequence` was applied."""
        self.read = max(self.read, sequence)
        if self.read >= self.end:
            self.current_at = max(self.current_at, self.end_at)


class LogControlFeed:
    """`ControlFeed` over the log: one reader for each partition, from its end at the start on."""

    def __init__(
        self,
        log: EventLog,
        partitions: int,
        monotonic: Callable[[], float],
        on_event: Callable[[int, Event], None],
        on_stale: Callable[[int], None],
        metrics: Metrics,
    ) -> None:
        self._eventlog = log
        self._monotonic = monotonic
        self._on_event = on_event
        self._on_stale = on_stale
        self._metrics = metrics
        self._count = partitions
        self._partitions: dict[int, _PartitionFeed] = {}
        self._logger = logs.get("control_feed")

    def stale(self, partition: int) -> bool:
        """See `ControlFeed`; true also before a partition was read at all."""
        found = self._partitions.get(partition)
        return found is None or found.stale

    def stale_partitions(self) -> int:
        """Return how many partitions are stale."""
        return sum(self.stale(partition) for partition in range(self._count))

    def unreadable(self) -> bool:
        """See `ControlFeed`."""
        return any(feed.unreadable for feed in self._partitions.values())

    async def run(self) -> None:
        """Follow all partitions, without end. Raises LogClosed, LogShrunk."""
        async with asyncio.TaskGroup() as tasks:
            for partition in range(self._count):
                tasks.create_task(self._follow(partition))
                tasks.create_task(self._poll_end(partition))
            tasks.create_task(self._watch())

    async def _follow(self, partition: int) -> None:
        def failed(fault: Exception) -> None:
            self._logger.warning("the log cannot be read", partition=partition, error=str(fault))

        stream, raised = subjects.log_stream(partition), (LogClosed, LogShrunk)
        end = partial(self._eventlog.end, stream)
        read = await retrying(end, backoff=BACKOFF, retry_on=EventLogError, raise_on=raised, failed=failed)
        feed = self._partitions[partition] = _PartitionFeed(read, self._monotonic())
        follow = partial(self._read, partition, feed)
        await retrying(follow, backoff=BACKOFF, retry_on=EventLogError, raise_on=raised, failed=failed)

    async def _read(self, partition: int, feed: _PartitionFeed) -> NoReturn:
        stream, subject = subjects.log_stream(partition), subjects.ctl(partition)
        reading = self._eventlog.read(stream, after=feed.read, subjects=[subject], ticks=True)
        async with aclosing(reading) as batches:
            async for messages in batches:
                for message in messages:
                    self._apply(partition, feed, message)
                    feed.advance(message.seq)
        raise EventLogError("the reader ended")

    def _apply(self, partition: int, feed: _PartitionFeed, message: Message) -> None:
        try:
            events = frame.decode(message.data, message.subject)
        except FrameError as fault:
            self._cut_off(partition, feed, message.seq, type_="", why=str(fault))
            return
        for event in events:
            if isinstance(event, Recorded):
                self._on_event(partition, event.event)
            elif event.fault == "wrong_subject":  # no version acts on it
                self._logger.error("event rejected", partition=partition, type=event.type, why=event.why)
            else:
                self._cut_off(partition, feed, message.seq, type_=event.type, why=event.why)

    def _cut_off(self, partition: int, feed: _PartitionFeed, sequence: int, *, type_: str, why: str) -> None:
        """Treat a partition as cut off for good. A restart reads on from the end."""
        self._metrics.control_events_unread += 1
        self._logger.critical(
            "an event of the control feed cannot be read, its partition is cut off",
            partition=partition,
            sequence=sequence,
            type=type_,
            why=why,
        )
        feed.unreadable = feed.stale = True
        self._on_stale(partition)

    async def _poll_end(self, partition: int) -> None:
        """Ask for the last control message again and again: once read up to it, nothing was missed until then."""
        while True:
            asked_at = self._monotonic()
            feed = self._partitions.get(partition)
            if feed is not None and feed.read >= feed.end:
                try:
                    last = await self._eventlog.last(subjects.log_stream(partition), subjects.ctl(partition))
                except LogClosed:
                    raise
                except EventLogError:
                    pass  # what cannot be asked makes the feed stale in time
                else:
                    feed.end, feed.end_at = (last.seq if last else 0), asked_at
                    feed.advance(feed.read)
            await asyncio.sleep(POLL_S)

    async def _watch(self) -> None:
        while True:
            now = self._monotonic()
            for partition, feed in self._partitions.items():
                was, age_s = feed.stale, now - feed.current_at
                feed.stale = feed.unreadable or age_s > (RECOVERED_S if was else STALE_S)
                if feed.stale != was:
                    event = "cut off from the control feed" if feed.stale else "control feed reconnected"
                    self._logger.warning(event, partition=partition)
                if feed.stale:
                    self._on_stale(partition)
            await asyncio.sleep(WATCH_S)
