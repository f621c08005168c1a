"""Remembers things until a time of the log's own clock, and forgets them in buckets: one list append per entry."""

from collections.abc import Hashable
from typing import Final, Generic, TypeVar

T = TypeVar("T", bound=Hashable)

BUCKET_S: Final = 10


class Memory(Generic[T]):
    """Entries by the bucket of BUCKET_S seconds in which they may be forgotten."""

    __slots__ = ("_buckets", "_first")

    def __init__(self) -> None:
        self._buckets: dict[int, list[T]] = {}
        self._first = 0

    def add(self, until_s: int, entry: T) -> None:
        """Note an entry that may be forgotten at `until_s`, in seconds since 1970."""
        bucket = until_s // BUCKET_S
        if not self._buckets or bucket < self._first:
            self._first = bucket
        self._buckets.setdefault(bucket, []).append(entry)

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
