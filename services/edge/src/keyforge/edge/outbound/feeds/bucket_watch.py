"""Follows a bucket for as long as the edge lives: what is in it first, then what changes."""

from contextlib import aclosing
from functools import partial
from typing import Final, NoReturn, Protocol

from keyforge.contracts import subjects
from keyforge.eventlog.log import EventLog, EventLogError, LogClosed
from keyforge.eventlog.retry import Backoff, retrying
from keyforge.runtime import logs
from keyforge.runtime.buckets import Bucket, Entry

BACKOFF: Final = Backoff(0.5, 0.5)
"""A bucket is small and read from its beginning after a fault. Chosen: a new leader takes 4 to 9 s (`eventlog.fence`),
to which this adds a tenth at most."""


class Apply(Protocol):
    """Applies the changes of a bucket."""

    def __call__(self, changes: list[Entry], *, loaded: bool) -> None:
        """Apply changes; `loaded` once all that was there at the start has been applied."""
        ...


async def follow(log: EventLog, bucket: Bucket, name: str, apply: Apply) -> None:
    """Apply every entry of a bucket and every change, without end. After a fault, every entry again.

    Raises LogClosed.
    """
    logger = logs.get("buckets")

    def failed(fault: Exception) -> None:
        logger.warning("a bucket cannot be followed", bucket=name, error=str(fault))

    read = partial(_read, log, bucket, name, apply)
    await retrying(read, backoff=BACKOFF, retry_on=EventLogError, raise_on=LogClosed, failed=failed)


async def _read(log: EventLog, bucket: Bucket, name: str, apply: Apply) -> NoReturn:
    end = await log.end(subjects.bucket_stream(name))
    if end == 0:
        apply([], loaded=True)
    async with aclosing(bucket.watch()) as batches:
        async for changes in batches:
            apply(changes, loaded=changes[-1].revision >= end)
    raise EventLogError("the watch ended")
