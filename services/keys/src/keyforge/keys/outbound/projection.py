"""The directory's buckets follow the facts: after each commit, and at the start, where a crash may have left a gap.

Entries only move forward (`entries.later`), under the bucket's own condition, so writers need not know of each other.
A bucket that cannot be written delays an answer by `PROJECT_TIME_LIMIT_S` at most: the log has the fact, and the entry
follows as soon as the bucket is back.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final, Protocol

import msgspec

from keyforge.contracts.directory import encode
from keyforge.contracts.ids import ProviderId
from keyforge.contracts.subjects import PRICES_BUCKET
from keyforge.contracts.unreadable import UNREADABLE
from keyforge.eventlog.retry import Backoff, retrying
from keyforge.keys.core.entries import BUCKETS, Entry, EntryLocation, entry_of, later, location_of, price_book
from keyforge.keys.core.facts import Credential, Fact, Key, OperatorToken, Price, Provider
from keyforge.keys.core.names import prices_of
from keyforge.keys.outbound.fact_cache import FactCache
from keyforge.runtime import logs
from keyforge.runtime.buckets import BucketUnavailableError
from keyforge.runtime.buckets import Entry as StoredEntry

PROJECT_TIME_LIMIT_S: Final = 3.0
"""Chosen: how long an answer waits for a bucket before the entry is left to `run`: one question that is not answered (2
s), and another."""
BACKOFF: Final = Backoff(0.5, 0.5)
ATTEMPTS_MAX: Final = 10
"""How often one entry is written when others write it at the same moment."""
WRITES_AT_ONCE_MAX: Final = 64
"""Without a bound, `heal` would begin to write all entries that differ at the same moment."""


class EntryBucket(Protocol):
    """The part of `runtime.buckets.Bucket` that is used here; tests have a twin in memory."""

    async def get(self, key: str) -> StoredEntry | None:
        """Return an entry, or None."""
        ...

    async def update(self, key: str, value: bytes, revision: int) -> int | None:
        """Write an entry if it still has `revision`."""
        ...

    async def entries(self) -> list[StoredEntry]:
        """Return all entries."""
        ...


FactAddress = tuple[int | None, str]
"""A fact's partition, None for the platform's, and its id."""


class DirectoryProjection:
    """Writes entries: `project` facts that changed, `heal` at the start, `run` to repeat what failed."""

    def __init__(self, caches: Mapping[int | None, FactCache], buckets: Mapping[str, EntryBucket]) -> None:
        """`caches` hold the facts by partition, None for the platform's; `buckets` are by name."""
        self._caches = caches
        self._buckets = buckets
        self._lagging: set[FactAddress] = set()
        self._wake = asyncio.Event()
        self._locks: defaultdict[EntryLocation, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._permits = asyncio.Semaphore(WRITES_AT_ONCE_MAX)
        self._logger = logs.get("projection")

    @property
    def lagging(self) -> int:
        """How many facts changed and are not in the directory yet."""
        return len(self._lagging)

    def remember(self, partition: int | None, ids: Iterable[str]) -> None:
        """Note facts that another service changed: it updates their entries, unless it was killed before it could."""
        self._lagging.update((partition, id_) for id_ in ids)
        self._wake.set()

    async def project(self, partition: int | None, ids: Iterable[str]) -> None:
        """Bring the entries of some facts up to date; what fails within `PROJECT_TIME_LIMIT_S` is repeated later."""
        changed = {(partition, id_) for id_ in ids}
        self._lagging |= changed
        try:
            async with asyncio.timeout(PROJECT_TIME_LIMIT_S):
                await self._update(changed)
        except (TimeoutError, BucketUnavailableError) as error:
            self._logger.warning("entries lag", count=len(changed), error=str(error) or type(error).__name__)
            self._wake.set()

    async def heal(self) -> int:
        """Compare all entries with the facts, write what differs, return how many. Raises BucketUnavailableError."""
        stored: dict[EntryLocation, bytes | None] = {}
        for name, bucket in self._buckets.items():
            stored.update((EntryLocation(name, entry.key), entry.value) for entry in await bucket.entries())
        located: dict[EntryLocation, FactAddress] = {}
        for partition, cache in self._caches.items():
            for fact in cache:
                location = location_of(fact)
                if location is not None:
                    located[location] = (partition, fact.id)
        differing = {
            address
            for location, address in located.items()
            if self._next(location, stored.get(location), self._desired(location, *address)) is not None
        }
        self._lagging |= differing
        await self._update(differing)
        return len(differing)

    async def run(self) -> None:
        """Repeat what failed. Never returns."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await retrying(self._update_lagging, backoff=BACKOFF, retry_on=BucketUnavailableError)

    async def _update_lagging(self) -> None:
        await self._update(set(self._lagging))

    async def _update(self, addresses: set[FactAddress]) -> None:
        """Write the entries of facts, each location once, many at the same time."""
        located: dict[EntryLocation, list[FactAddress]] = defaultdict(list)
        for address in addresses:
            fact = self._fact(address)
            location = location_of(fact) if fact is not None else None
            if location is None:
                self._lagging.discard(address)
            else:
                located[location].append(address)
        results = await asyncio.gather(
            *(self._write(location, facts) for location, facts in located.items()), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _write(self, location: EntryLocation, addresses: list[FactAddress]) -> None:
        """Write an entry. A fact that changed meanwhile still lags: its entry is out of date already."""
        bucket = self._buckets[location.bucket]
        async with self._permits, self._locks[location]:
            for _ in range(ATTEMPTS_MAX):
                stored = await bucket.get(location.key)
                facts = {address: self._fact(address) for address in addresses}
                desired = self._desired(location, *addresses[0])
                value = self._next(location, stored.value if stored else None, desired)
                revision = stored.revision if stored else 0
                if value is None or await bucket.update(location.key, value, revision) is not None:
                    self._lagging -= {address for address, fact in facts.items() if self._fact(address) is fact}
                    break
                await asyncio.sleep(0.001)
            else:
                raise BucketUnavailableError(f"{location.bucket}: other services write the same entry")
        if not self._locks[location].locked():
            self._locks.pop(location, None)

    def _fact(self, address: FactAddress) -> Fact | None:
        partition, id_ = address
        return self._caches[partition].committed(id_)

    def _desired(self, location: EntryLocation, partition: int | None, id_: str) -> Entry:
        cache = self._caches[partition]
        if location.bucket == PRICES_BUCKET:
            prices = [fact for fact in cache.listed(prices_of(location.key)) if isinstance(fact, Price)]
            return price_book(ProviderId(location.key), prices)
        fact: Fact | None = cache.committed(id_)
        assert isinstance(fact, Key | OperatorToken | Provider | Credential)
        return entry_of(fact, partition if partition is not None else 0)

    @staticmethod
    def _next(location: EntryLocation, stored: bytes | None, desired: Entry) -> bytes | None:
        """Return what must be written; None if the entry is as it should be. An unreadable entry is replaced."""
        try:
            known = msgspec.json.decode(stored, type=BUCKETS[location.bucket]) if stored else None
        except UNREADABLE:
            known = None
        entry = later(known, desired)
        return None if entry == known else encode(entry)
