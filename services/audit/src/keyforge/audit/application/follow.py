"""Reads one log from its beginning, folds it, passes on what came of it, and checks what is stored on the way.

The position is what the store holds: no acknowledgement, no file. What precedes it is folded and compared, not stored.
A message that this version cannot read ends the following of its log; a newer version of the process goes on there.
"""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import msgspec

from keyforge.audit.application.ports import RecordWriter
from keyforge.audit.core.fold import Fold
from keyforge.audit.core.position import StoredState, differences, evidence_lost
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
DIFFERENCES_SHOWN_MAX: Final = 5
"""Chosen: five of up to 200 characters, a chain's name and two hashes, fit the 2 KiB that every receiver of RFC 5424
(section 6.1) should take."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class FollowedLog(msgspec.Struct, eq=False):
    """A log that is followed. `end` is the last sequence that it is known to have, `folded` the last one folded."""

    partition: int
    stream: str
    fold: Fold
    end: int = 0
    folded: int = 0
    unreadable: UnreadableMessage | None = None
    """The message that the fold stays before; what precedes it is folded."""


async def follow(
    eventlog: EventLog,
    followed: FollowedLog,
    stored: StoredState,
    writer: RecordWriter,
    *,
    gather_s: float,
    on_folded: Callable[[Sealed], None],
    on_difference: Callable[[str], None],
) -> UnreadableMessage:
    """Follow a log until cancelled, or up to a message that cannot be read, which is returned.

    At the position of `stored` fold and store are compared; `on_difference` receives what differs, and may raise.
    Raises DivergedError if the log ends before what is stored, LogShrunk.
    """
    checked = stored.sequence(followed.partition)
    followed.end = await end_of(eventlog, followed.stream)
    if followed.end < checked:
        raise DivergedError(f"{followed.stream} ends at {followed.end}, records are stored up to {checked}")
    if evidence_lost(stored, followed.partition):
        on_difference(f"{followed.stream}: requests are stored after {checked}, but no records of them")
    now = asyncio.get_running_loop().time
    messages, folding_s, since = 0, 0.0, now()
    async with aclosing(eventlog.read(followed.stream)) as batches:
        async for batch in batches:
            begin = now()
            unreadable = await _fold(followed, batch, stored, writer, on_folded, on_difference)
            if unreadable is not None:
                return unreadable
            end = now()
            messages += len(batch)
            folding_s += end - begin
            if end - since < gather_s * CHECK_PART:
                continue
            if messages <= IDLE_MESSAGES_MAX and folding_s <= (end - since) * IDLE_BUSY_MAX:
                await asyncio.sleep(gather_s)
            messages, folding_s, since = 0, 0.0, now()
    raise LogClosed(f"{followed.stream}: the reader ended")


async def _fold(
    followed: FollowedLog,
    batch: list[Message],
    stored: StoredState,
    writer: RecordWriter,
    on_folded: Callable[[Sealed], None],
    on_difference: Callable[[str], None],
) -> UnreadableMessage | None:
    checked = stored.sequence(followed.partition)
    out = Sealed()
    unreadable = None
    for message in batch:
        if followed.folded < checked < message.seq:
            raise DivergedError(f"{followed.stream} has no message {checked}, but records of it are stored")
        unreadable = followed.fold.fold(message.seq, message.subject, _nanoseconds(message.time), message.data, out)
        if unreadable is not None:
            break
        followed.folded = message.seq
        if message.seq == checked:
            _compare(followed, stored, on_difference)
        if message.seq == checked or out.events >= EVENTS_PER_TURN_MAX:
            on_folded(out)
            await writer.put(followed.partition, out)
            out = Sealed()
            await asyncio.sleep(0)
    if out.sequence:
        on_folded(out)
        await writer.put(followed.partition, out)
    followed.end = max(followed.end, batch[-1].seq)
    return unreadable


def _compare(followed: FollowedLog, stored: StoredState, on_difference: Callable[[str], None]) -> None:
    found = differences(stored, followed.partition, followed.fold.heads())
    if found:
        more = len(found) - DIFFERENCES_SHOWN_MAX
        shown = "; ".join(found[:DIFFERENCES_SHOWN_MAX]) + (f" and {more} more" if more > 0 else "")
        on_difference(f"at {followed.stream} {followed.folded}: {shown}")


async def end_of(eventlog: EventLog, stream: str) -> int:
    """Return the last sequence of a log, once a server answers for it."""
    return await retrying(partial(eventlog.end, stream), backoff=BACKOFF, retry_on=LogMissing)


def _nanoseconds(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND * 1000
