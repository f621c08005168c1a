"""Reads one log from its beginning, folds it, and passes on what came of it.

The position is what the store holds: no acknowledgement, no file. What precedes it is folded and not stored again.
A message that this version cannot read ends the following of its log; a newer version of the process goes on there.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import msgspec

from keyforge.audit.application.ports import RecordWriter
from keyforge.audit.core.beginning import Beginning
from keyforge.audit.core.fold import Fold
from keyforge.audit.core.position import StoredState
from keyforge.audit.core.sealed import Sealed, UnreadableMessage
from keyforge.audit.errors import DivergedError
from keyforge.eventlog.log import EventLog, LogClosed, LogMissing, Message
from keyforge.eventlog.retry import Backoff, retrying

EVENTS_PER_TURN_MAX: Final = 256
"""Events folded before the event loop gets its turn. Measured: 5 ms."""
GATHER_PART: Final = 0.2
"""At the end of the log, messages gather for this part of the linger. Measured: to be woken for a message costs as much
as folding it."""
CHECK_PART: Final = 0.1
"""Whether that is where we are is decided after this part of such a pause: what gathered comes in several pulls."""
IDLE_MESSAGES_MAX: Final = 64
IDLE_BUSY_MAX: Final = 0.25
"""With more messages, or a larger part of the time spent folding, we lag, and do not pause."""
PULL_MESSAGES: Final = 32
"""What is left of an open pull arrives one by one during a pause, so a pull is small."""
BACKOFF: Final = Backoff(0.5, 0.5)
"""Chosen: a new leader takes 4 to 9 s (`eventlog.fence`), to which this adds a tenth at most."""
UNSTORED_MAX: Final = 4096
"""Steps of what is folded and not stored whose times are kept; with more, the newest are joined. Chosen: more than the
batches of PULL_MESSAGES that fill what may wait to be stored (`writer.WAITING_ROWS_MAX`)."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class FollowedLog(msgspec.Struct, eq=False):
    """A log that is followed. `end` is the last sequence that it is known to have, `folded` the last one folded."""

    partition: int
    stream: str
    fold: Fold
    beginning: Beginning
    end: int = 0
    folded: int = 0
    unreadable: UnreadableMessage | None = None
    """The message that the fold stays before; what precedes it is folded."""
    halted: str = ""
    """Why nothing more is folded: the log is shorter than what is stored of it, or another one."""
    stopped_at: datetime | None = None
    """Broker time of the message that it stopped before."""
    tenants_records: int = 0
    """Records of tenants and their keys that the fold has made: those that are published."""
    unstored: deque[tuple[int, datetime]] = msgspec.field(default_factory=deque)
    """Of what was folded and is not stored, step by step: its last message, and the broker time of its first."""

    @property
    def stopped(self) -> bool:
        """Whether nothing more of it will be folded by this process."""
        return bool(self.halted) or self.unreadable is not None

    def oldest_unstored(self, done: int) -> datetime | None:
        """Return the broker time of the first message after `done` that was seen and is not stored, if there is one."""
        while self.unstored and self.unstored[0][0] <= done:
            self.unstored.popleft()
        return self.unstored[0][1] if self.unstored else self.stopped_at

    def add_unstored(self, sequence: int, first: datetime) -> None:
        """Keep the time of messages that were folded and are to be stored; `sequence` is the last of them."""
        if len(self.unstored) >= UNSTORED_MAX:
            first = self.unstored.pop()[1]
        self.unstored.append((sequence, first))


async def follow(
    eventlog: EventLog,
    followed: FollowedLog,
    stored: StoredState,
    writer: RecordWriter,
    *,
    gather_s: float,
    on_folded: Callable[[Sealed], None],
) -> None:
    """Follow a log until cancelled, or until a message that cannot be read (`followed.unreadable`).

    Raises DivergedError if the log is shorter than what is stored of it or another one, LogShrunk.
    """
    await check_end(eventlog, followed, stored)
    now = asyncio.get_running_loop().time
    messages, folding_s, since = 0, 0.0, now()
    async with aclosing(eventlog.read(followed.stream, after=followed.folded)) as batches:
        async for batch in batches:
            begin = now()
            await _fold(followed, batch, stored, writer, on_folded)
            if followed.unreadable is not None:
                return
            end = now()
            messages += len(batch)
            folding_s += end - begin
            if end - since < gather_s * CHECK_PART:
                continue
            if messages <= IDLE_MESSAGES_MAX and folding_s <= (end - since) * IDLE_BUSY_MAX:
                await asyncio.sleep(gather_s)
            messages, folding_s, since = 0, 0.0, now()
    raise LogClosed(f"{followed.stream}: the reader ended")


async def fold_up_to(
    eventlog: EventLog,
    followed: FollowedLog,
    writer: RecordWriter,
    sequence: int,
    *,
    stored: StoredState,
    on_folded: Callable[[Sealed], None],
) -> None:
    """Fold a log up to a message that it has, or one before that which cannot be read (`followed.unreadable`).

    Raises DivergedError if it is another log than that of what is stored, LogShrunk.
    """
    if followed.folded >= sequence or followed.stopped:
        return
    async with aclosing(eventlog.read(followed.stream, after=followed.folded)) as batches:
        async for batch in batches:
            within = [message for message in batch if message.seq <= sequence]
            if within:
                await _fold(followed, within, stored, writer, on_folded)
            if followed.unreadable is not None or followed.folded >= sequence or len(within) < len(batch):
                return
    raise LogClosed(f"{followed.stream}: the reader ended")


async def check_end(eventlog: EventLog, followed: FollowedLog, stored: StoredState) -> None:
    """Raise DivergedError if a log ends before what is stored of it."""
    followed.end = max(followed.end, await end_of(eventlog, followed.stream))
    position = stored.sequence(followed.partition)
    if followed.end < position:
        raise DivergedError(f"{followed.stream} ends at {followed.end}, records are stored up to {position}")


async def _fold(
    followed: FollowedLog,
    batch: list[Message],
    stored: StoredState,
    writer: RecordWriter,
    on_folded: Callable[[Sealed], None],
) -> None:
    position = stored.sequence(followed.partition)
    out, first = Sealed(), batch[0].time
    for message in batch:
        if followed.folded < position < message.seq:
            raise DivergedError(f"{followed.stream} has no message {position}, but records of it are stored")
        unreadable = followed.fold.fold(message.seq, message.subject, nanoseconds(message.time), message.data, out)
        if unreadable is not None:
            followed.unreadable, followed.stopped_at = unreadable, message.time
            break
        followed.folded = message.seq
        if message.seq == position or out.events >= EVENTS_PER_TURN_MAX:
            await _hand_over(followed, out, first, position, writer, on_folded)
            out, first = Sealed(), message.time
            await asyncio.sleep(0)
    if out.sequence:
        await _hand_over(followed, out, first, position, writer, on_folded)
    followed.end = max(followed.end, batch[-1].seq)


async def _hand_over(
    followed: FollowedLog,
    out: Sealed,
    first: datetime,
    position: int,
    writer: RecordWriter,
    on_folded: Callable[[Sealed], None],
) -> None:
    """Pass on what whole messages became; `first` is the broker time of the first of them, at the earliest."""
    if followed.beginning.differs_after(out):
        followed.stopped_at = first
        raise DivergedError(f"{followed.stream} is another log: it does not have the first records that are stored")
    followed.tenants_records += sum(1 for record in out.records if record.chain.tenant)
    out.made = followed.tenants_records
    on_folded(out)
    if out.sequence > position:
        followed.add_unstored(out.sequence, first)
    await writer.put(followed.partition, out)


async def end_of(eventlog: EventLog, stream: str) -> int:
    """Return the last sequence of a log, once a server answers for it."""
    return await retrying(partial(eventlog.end, stream), backoff=BACKOFF, retry_on=LogMissing)


def nanoseconds(at: datetime) -> int:
    """Return a broker time as folds take it: nanoseconds since 1970."""
    return (at - _EPOCH) // _MICROSECOND * 1000
