"""Follows a bucket for as long as the edge lives: what is there first, then what changes."""

import asyncio
from contextlib import aclosing
from typing import Protocol

from keyforge.contracts import subjects
from keyforge.eventlog.log import EventLog, EventLogError, LogClosed
from keyforge.runtime import logs
from keyforge.runtime.buckets import Bucket, Entry

PAUSE_S = 0.5


class Hear(Protocol):
    """Takes the changes of a bucket; two parts of the edge do."""

    def __call__(self, changes: list[Entry], *, loaded: bool) -> None:
        """Take changes; `loaded` once all that was there at the start has been heard."""
        ...


async def follow(log: EventLog, bucket: Bucket, name: str, hear: Hear) -> None:
    """Call `hear(changes, loaded)` for ever; `loaded` once all that was there at the start has been heard.

    A fault begins anew from nothing, so `hear` gets every entry again. Raises LogClosed.
    """
    say = logs.get("watching")
    while True:
        try:
            end = await log.end(subjects.bucket_stream(name))
            if end == 0:
                hear([], loaded=True)
            async with aclosing(bucket.watch()) as batches:
                async for changes in batches:
                    hear(changes, loaded=changes[-1].revision >= end)
        except LogClosed:
            raise
        except EventLogError as fault:
            say.warning("a bucket cannot be followed", bucket=name, error=str(fault))
        await asyncio.sleep(PAUSE_S)
