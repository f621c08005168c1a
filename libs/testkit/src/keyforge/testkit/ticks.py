"""Appends to a control clock as its writers do: conditional on the last tick."""

import asyncio
from contextlib import suppress
from typing import Final

from keyforge.contracts import subjects
from keyforge.eventlog.log import Appended, EventLog, EventLogError, Expect

POLL_S: Final = 0.01


async def append_tick(log: EventLog, partition: int, frame: bytes) -> int:
    """Append a frame as the next tick of a partition; see `append_next`."""
    return await append_next(log, subjects.log_stream(partition), subjects.ctl(partition), frame)


async def append_next(log: EventLog, stream: str, subject: str, frame: bytes) -> int:
    """Append a frame on the condition that its subject is as it was; return its sequence.

    Tries again while others are faster or the log is away: the caller bounds the time. After an unknown outcome the log
    may hold it twice, as it may keys' own.
    """
    while True:
        with suppress(EventLogError):
            last = await log.last(stream, subject)
            outcome = await log.append(subject, frame, expect=Expect(subject, last.seq if last else 0))
            if isinstance(outcome, Appended):
                return outcome.seq
        await asyncio.sleep(POLL_S)
