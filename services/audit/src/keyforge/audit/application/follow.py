"""Reads one log from its beginning, folds it, and hands on what came of it; checks what is stored on the way.

The position is the store's: no acknowledgement, no file. What lies before it is folded to be compared, not stored.
"""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from keyforge.audit.application.ports import RecordWriter
from keyforge.audit.core.fold import Fold
from keyforge.audit.core.position import Held, differences, evidence_lost
from keyforge.audit.core.sealed import Sealed
from keyforge.audit.errors import DivergedError
from keyforge.eventlog.log import EventLog, LogMissing, Message

EVENTS_A_TURN_MAX: Final = 256
"""Events folded before the event loop has its turn: 5 ms."""
COMPANY_PART: Final = 0.2
"""At the end of the log, messages wait for company this part of the linger: to be woken for each costs as much as to
fold it."""
AWAKE_PART: Final = 0.1
"""We look whether that is where we are after this part of such a wait: what gathered comes in several pulls."""
AWAKE_MESSAGES_MAX: Final = 64
AWAKE_BUSY_MAX: Final = 0.25
"""With more messages, or more of the time spent folding, we are behind the end, and do not wait."""
PULL_MESSAGES: Final = 32
"""What is left of an open pull comes one by one while we wait, so a pull is small."""
ASK_AGAIN_S: Final = 0.5
DIFFERENCES_SHOWN_MAX: Final = 5

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class Follower(msgspec.Struct, eq=False):
    """One log that is followed. `end` is the last sequence it was known to have, `folded` the last that was folded."""

    partition: int
    stream: str
    fold: Fold
    end: int = 0
    folded: int = 0


async def follow(
    log: EventLog,
    follower: Follower,
    held: Held,
    writer: RecordWriter,
    *,
    company_s: float,
    seen: Callable[[Sealed], None],
    differ: Callable[[str], None],
) -> None:
    """Follow a log for ever. At the position of `held` the two are compared: `differ` is told, and may raise."""
    checked = held.sequence(follower.partition)
    follower.end = await end_of(log, follower.stream)
    if follower.end < checked:
        raise DivergedError(f"{follower.stream} ends at {follower.end}, records are stored up to {checked}")
    if evidence_lost(held, follower.partition):
        differ(f"{follower.stream}: requests are stored behind {checked}, and no records of them")
    now = asyncio.get_running_loop().time
    messages, folding_s, awake = 0, 0.0, now()
    async with aclosing(log.read(follower.stream)) as batches:
        async for batch in batches:
            begin = now()
            await _fold(follower, batch, held, writer, seen, differ)
            end = now()
            messages += len(batch)
            folding_s += end - begin
            if end - awake < company_s * AWAKE_PART:
                continue
            if messages <= AWAKE_MESSAGES_MAX and folding_s <= (end - awake) * AWAKE_BUSY_MAX:
                await asyncio.sleep(company_s)
            messages, folding_s, awake = 0, 0.0, now()


async def _fold(
    follower: Follower,
    batch: list[Message],
    held: Held,
    writer: RecordWriter,
    seen: Callable[[Sealed], None],
    differ: Callable[[str], None],
) -> None:
    checked = held.sequence(follower.partition)
    out = Sealed()
    for message in batch:
        if follower.folded < checked < message.seq:
            raise DivergedError(f"{follower.stream} has no message {checked}, and records of it are stored")
        follower.fold.fold(message.seq, message.subject, _nanoseconds(message.time), message.data, out)
        follower.folded = message.seq
        if message.seq == checked:
            _compare(follower, held, differ)
        if message.seq == checked or out.events >= EVENTS_A_TURN_MAX:
            seen(out)
            await writer.put(follower.partition, out)
            out = Sealed()
            await asyncio.sleep(0)
    if out.sequence:
        seen(out)
        await writer.put(follower.partition, out)
    follower.end = max(follower.end, follower.folded)


def _compare(follower: Follower, held: Held, differ: Callable[[str], None]) -> None:
    found = differences(held, follower.partition, follower.fold.heads())
    if found:
        more = len(found) - DIFFERENCES_SHOWN_MAX
        shown = "; ".join(found[:DIFFERENCES_SHOWN_MAX]) + (f" and {more} more" if more > 0 else "")
        differ(f"at {follower.stream} {follower.folded}: {shown}")


async def end_of(log: EventLog, stream: str) -> int:
    """Return how far a log goes, once somebody answers for it."""
    while True:
        try:
            return await log.end(stream)
        except LogMissing:
            await asyncio.sleep(ASK_AGAIN_S)


def _nanoseconds(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND * 1000
