"""The directory's buckets follow the facts: after each commit, and once at the start, where a crash left a gap.

Entries only move forward (`entries.later`), under the bucket's own condition, so writers need not know of each other.
A bucket that cannot be written keeps nobody from an answer for longer than `WAIT_S`: the log has the fact, and the
entry follows as soon as the bucket is back.
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
from keyforge.keys.core.entries import BUCKETS, Entry, Place, entry_of, later, place_of, price_book
from keyforge.keys.core.facts import Credential, Fact, Key, Operator, Price, Provider, prices_of
from keyforge.keys.outbound.fact_cache import Book
from keyforge.runtime import logs
from keyforge.runtime.buckets import BucketUnavailableError
from keyforge.runtime.buckets import Entry as StoredEntry

WAIT_S: Final = 3.0
RETRY_S: Final = 0.5
ATTEMPTS_MAX: Final = 10
"""How often one entry is tried when others write it at the same moment."""
WRITES_AT_ONCE_MAX: Final = 64


class Bucket(Protocol):
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


class Projection:
    """Writes entries. `project` facts that changed, `heal` at the start, `run` what has to be tried again."""

    def __init__(self, books: Mapping[int | None, Book], buckets: Mapping[str, Bucket]) -> None:
        """`books` are the facts by partition, None for the platform's; `buckets` by name."""
        self._books = books
        self._buckets = buckets
        self._late: set[tuple[int | None, str]] = set()
        self._wake = asyncio.Event()
        self._locks: defaultdict[Place, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._permits = asyncio.Semaphore(WRITES_AT_ONCE_MAX)
        self._log = logs.get("projection")

    @property
    def lagging(self) -> int:
        """How many facts wait to be shown."""
        return len(self._late)

    def remember(self, partition: int | None, ids: Iterable[str]) -> None:
        """Note facts that changed by another's hand: it shows them, or was killed before it could."""
        self._late.update((partition, id_) for id_ in ids)
        self._wake.set()

    async def project(self, partition: int | None, ids: Iterable[str]) -> None:
        """Bring the entries of some facts up to date; what fails in `WAIT_S` is done later."""
        wanted = {(partition, id_) for id_ in ids}
        self._late |= wanted
        try:
            async with asyncio.timeout(WAIT_S):
                await self._show(wanted)
        except (TimeoutError, BucketUnavailableError) as error:
            self._log.warning("entries are late", count=len(wanted), error=str(error) or type(error).__name__)
            self._wake.set()

    async def heal(self) -> int:
        """Compare all entries with the facts, write what differs, return how many. Raises BucketUnavailableError."""
        stored: dict[Place, bytes | None] = {}
        for name, bucket in self._buckets.items():
            stored.update((Place(name, entry.key), entry.value) for entry in await bucket.entries())
        places: dict[Place, tuple[int | None, str]] = {}
        for partition, book in self._books.items():
            for fact in book:
                place = place_of(fact)
                if place is not None:
                    places[place] = (partition, fact.id)
        wanted = {
            where
            for place, where in places.items()
            if self._next(place, stored.get(place), self._desired(place, *where)) is not None
        }
        self._late |= wanted
        await self._show(wanted)
        return len(wanted)

    async def run(self) -> None:
        """Try again what failed, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._show(set(self._late))
            except BucketUnavailableError:
                self._wake.set()
                await asyncio.sleep(RETRY_S)

    async def _show(self, wanted: set[tuple[int | None, str]]) -> None:
        """Write the entries of facts, each place once, many at the same time."""
        places: dict[Place, list[tuple[int | None, str]]] = defaultdict(list)
        for where in wanted:
            fact = self._fact(where)
            place = place_of(fact) if fact is not None else None
            if place is None:
                self._late.discard(where)
            else:
                places[place].append(where)
        results = await asyncio.gather(
            *(self._write(place, facts) for place, facts in places.items()), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _write(self, place: Place, facts: list[tuple[int | None, str]]) -> None:
        """Write an entry. A fact that changed meanwhile stays late: whoever changed it has another entry to show."""
        bucket = self._buckets[place.bucket]
        async with self._permits, self._locks[place]:
            for _ in range(ATTEMPTS_MAX):
                stored = await bucket.get(place.key)
                now = {where: self._fact(where) for where in facts}
                value = self._next(place, stored.value if stored else None, self._desired(place, *facts[0]))
                if value is None or await bucket.update(place.key, value, stored.revision if stored else 0) is not None:
                    self._late -= {where for where, fact in now.items() if self._fact(where) is fact}
                    break
                await asyncio.sleep(0.001)
            else:
                raise BucketUnavailableError(f"{place.bucket}: others write the same entry")
        if not self._locks[place].locked():
            self._locks.pop(place, None)

    def _fact(self, where: tuple[int | None, str]) -> Fact | None:
        return self._books[where[0]].committed(where[1])

    def _desired(self, place: Place, partition: int | None, id_: str) -> Entry:
        book = self._books[partition]
        if place.bucket == PRICES_BUCKET:
            prices = [fact for fact in book.listed(prices_of(place.key)) if isinstance(fact, Price)]
            return price_book(ProviderId(place.key), prices)
        fact: Fact | None = book.committed(id_)
        assert isinstance(fact, Key | Operator | Provider | Credential)
        return entry_of(fact, partition if partition is not None else 0)

    @staticmethod
    def _next(place: Place, stored: bytes | None, ours: Entry) -> bytes | None:
        """Return what must be written; None if the entry is as it should be. An unreadable one is replaced."""
        try:
            known = msgspec.json.decode(stored, type=BUCKETS[place.bucket]) if stored else None
        except UNREADABLE:
            known = None
        entry = later(known, ours)
        return None if entry == known else encode(entry)
