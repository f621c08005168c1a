"""A KV bucket: entries of bytes by key, with revisions, and a watch that neither stalls nor loses entries.

A read may be answered by a replica that lags: nothing that protects money or revocation relies on it.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final, NamedTuple

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.errors import APIError, KeyNotFoundError, KeyWrongLastSequenceError, NotFoundError
from nats.js.kv import KeyValue

from keyforge.contracts import subjects
from keyforge.eventlog.log import EventLog, EventLogError

REQUEST_TIMEOUT_S: Final = 2.0
"""Chosen: as long as an append may take (`jetstream.APPEND_TIMEOUT_S`)."""
ENTRIES_S_MAX: Final = 30.0
"""How long `entries` may take. Chosen: half of the 60 s for which `up` lets a starting service be silent
(`supervisor.ANSWER_WITHIN_S`)."""


class Entry(NamedTuple):
    """A value and its revision. In a watch, `value` None means that the entry was deleted."""

    key: str
    value: bytes | None
    revision: int


class BucketUnavailableError(Exception):
    """The bucket cannot be read or written right now; a write may or may not have been stored."""


class Bucket:
    """One bucket of `contracts.subjects`. Values are never empty: an empty one marks a deletion."""

    def __init__(self, bus: Client, log: EventLog, name: str) -> None:
        self._bus = bus
        self._eventlog = log
        self._name = name
        self._opened: KeyValue | None = None

    async def _bucket(self) -> KeyValue:
        if self._opened is None:
            self._opened = await self._bus.jetstream(timeout=REQUEST_TIMEOUT_S).key_value(self._name)
        return self._opened

    async def get(self, key: str) -> Entry | None:
        """Return an entry, or None. Raises BucketUnavailableError."""
        try:
            bucket = await self._bucket()  # a bucket that does not exist yet is unavailable, not empty
            try:
                found = await bucket.get(key)
            except (KeyNotFoundError, NotFoundError):
                return None
        except (NatsError, APIError, OSError) as error:
            raise BucketUnavailableError(str(error)) from error
        return Entry(key, found.value, found.revision or 0) if found.value else None

    async def put(self, key: str, value: bytes) -> int:
        """Write an entry without a condition; return its revision. Raises BucketUnavailableError."""
        try:
            return await (await self._bucket()).put(key, value)
        except (NatsError, APIError, OSError) as error:
            raise BucketUnavailableError(str(error)) from error

    async def update(self, key: str, value: bytes, revision: int) -> int | None:
        """Write an entry if it still has `revision` (0: if there is none); return the new revision, or None.

        Raises BucketUnavailableError.
        """
        try:
            bucket = await self._bucket()
            # create also replaces an entry that was deleted, which has a revision
            return await (bucket.update(key, value, last=revision) if revision else bucket.create(key, value))
        except KeyWrongLastSequenceError:
            return None
        except (NatsError, APIError, OSError) as error:
            raise BucketUnavailableError(str(error)) from error

    async def delete(self, key: str) -> None:
        """Delete an entry. Raises BucketUnavailableError."""
        try:
            await (await self._bucket()).delete(key)
        except (NatsError, APIError, OSError) as error:
            raise BucketUnavailableError(str(error)) from error

    async def entries(self) -> list[Entry]:
        """Return all current entries. For small buckets whose entries do not expire (the last one may be gone).

        Raises BucketUnavailableError, also when it takes longer than ENTRIES_S_MAX.
        """
        try:
            end = await self._eventlog.end(subjects.bucket_stream(self._name))
        except (NatsError, EventLogError, OSError) as error:
            raise BucketUnavailableError(str(error)) from error
        found: dict[str, Entry] = {}
        if end == 0:
            return []
        try:
            async with asyncio.timeout(ENTRIES_S_MAX), aclosing(self.watch()) as changes:
                async for batch in changes:
                    found.update((entry.key, entry) for entry in batch)
                    if batch[-1].revision >= end:
                        break
        except TimeoutError as error:
            raise BucketUnavailableError("reading all entries took too long") from error
        return [entry for entry in found.values() if entry.value is not None]

    async def watch(self, *, after: int = 0) -> AsyncGenerator[list[Entry], None]:
        """Yield the entries after revision `after`, then every change, in order, without end.

        The expiry of an entry (a lease) is not reported.
        """
        prefix = len(subjects.bucket_subject(self._name, ""))
        reading = self._eventlog.read(subjects.bucket_stream(self._name), after=after, forgets=True)
        async with aclosing(reading) as batches:
            async for messages in batches:
                yield [Entry(message.subject[prefix:], message.data or None, message.seq) for message in messages]
