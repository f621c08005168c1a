"""Reads one log from its beginning, folds it, and hands on what came of it; checks what is stored on the way.

The position is the store's: no acknowledgement, no file. What lies before it is folded to be compared, not stored.
"""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from keyforge.audit.core.fold import Fold
from keyforge.audit.core.position import Held, differences, evidence_lost
from keyforge.audit.core.sealed import Sealed
from keyforge.audit.errors import DivergedError
from keyforge.audit.outbound.writer import Writer
from keyforge.eventlog.log import EventLog, LogMissing, Message

EVENTS_A_TURN_MAX: Final = 256
"""Events folded before the event loop has its turn: 5 ms."""
BATCH_MESSAGES_MIN: Final = 64
"""With fewer at once we are at the end of the log: what comes next may come together."""
COMPANY_S: Final = 0.025
"""How long messages at the end of the log wait for company: to be woken for each costs more than to fold it."""
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
    writer: Writer,
    *,
    seen: Callable[[Sealed], None],
    differ: Callable[[str], None],
) -> None:
    """Follow a log for ever. At the position of `held` the two are compared: `differ` is told, and may raise."""
    checked = held.sequence(follower.partition)
    follower.end = await _end(log, follower.stream)
    if follower.end < checked:
        raise DivergedError(f"{follower.stream} ends at {follower.end}, records are stored up to {checked}")
    if evidence_lost(held, follower.partition):
        differ(f"{follower.stream}: requests are stored behind {checked}, and no records of them")
    async with aclosing(log.read(follower.stream)) as batches:
        async for batch in batches:
            await _fold(follower, batch, held, writer, seen, differ)
            if len(batch) < BATCH_MESSAGES_MIN:
                await asyncio.sleep(COMPANY_S)


async def _fold(
    follower: Follower,
    batch: list[Message],
    held: Held,
    writer: Writer,
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


async def _end(log: EventLog, stream: str) -> int:
    while True:
        try:
            return await log.end(stream)
        except LogMissing:
            await asyncio.sleep(ASK_AGAIN_S)


def _nanoseconds(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND * 1000
