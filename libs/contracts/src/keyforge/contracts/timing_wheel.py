"""A timing wheel: entries by the time at which they fall due, in buckets of seconds; adding one is a list append."""

from collections.abc import Iterator
from typing import Final, Generic, TypeVar

T = TypeVar("T")

BUCKET_S: Final = 10
"""Chosen: what expires after a day need not do so to the second, and a day is 8640 buckets."""


class TimingWheel(Generic[T]):
    """Entries by the bucket of BUCKET_S seconds in which they fall due. A single entry cannot be removed."""

    __slots__ = ("_buckets", "_first", "_last")

    def __init__(self) -> None:
        self._buckets: dict[int, list[T]] = {}
        self._first = 0
        self._last = 0

    def __len__(self) -> int:
        """Return the number of entries."""
        return sum(map(len, self._buckets.values()))

    def add(self, due_s: int, entry: T) -> None:
        """Add an entry that falls due at `due_s`, in seconds since 1970."""
        bucket = due_s // BUCKET_S
        entries = self._buckets.get(bucket)
        if entries is None:
            if not self._buckets or bucket < self._first:
                self._first = bucket
            if not self._buckets or bucket > self._last:
                self._last = bucket
            self._buckets[bucket] = [entry]
        else:
            entries.append(entry)

    def take(self, now_s: int) -> list[T]:
        """Remove every bucket that ended by `now_s`; return the entries, oldest bucket first."""
        end = now_s // BUCKET_S
        if not self._buckets or self._first >= end:
            return []
        taken: list[T] = []
        for bucket in sorted(bucket for bucket in self._buckets if bucket < end):
            taken += self._buckets.pop(bucket)
        self._first = min(self._buckets, default=0)
        return taken

    def first_s(self) -> int | None:
        """Return when the oldest bucket begins."""
        return self._first * BUCKET_S if self._buckets else None

    def buckets(self, since_s: int, until_s: int) -> Iterator[tuple[int, list[T]]]:
        """Yield (begin, entries) of the buckets that begin in `since_s` to `until_s`, in order."""
        if not self._buckets:
            return
        for bucket in range(max(since_s // BUCKET_S, self._first), min(until_s // BUCKET_S, self._last) + 1):
            if (entries := self._buckets.get(bucket)) is not None:
                yield bucket * BUCKET_S, entries
