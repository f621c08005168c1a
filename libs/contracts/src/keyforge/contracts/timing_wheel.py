"""What falls due, by second, in buckets: one list append per entry, nothing is ever sorted. Both folds forget by it."""

from collections.abc import Iterator
from typing import Final, Generic, TypeVar

T = TypeVar("T")

BUCKET_S: Final = 10


class Agenda(Generic[T]):
    """Entries by the bucket of BUCKET_S seconds that they fall due in. An entry cannot be taken out, only passed by."""

    __slots__ = ("_buckets", "_first", "_last")

    def __init__(self) -> None:
        self._buckets: dict[int, list[T]] = {}
        self._first = 0
        self._last = 0

    def __len__(self) -> int:
        """Count the entries."""
        return sum(map(len, self._buckets.values()))

    def add(self, due_s: int, entry: T) -> None:
        """Note an entry that falls due at `due_s`, in seconds since 1970."""
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
        """Take out every bucket that ended by `now_s`; its entries, oldest bucket first."""
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
