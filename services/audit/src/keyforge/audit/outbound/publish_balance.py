"""Balances what was published of each log against how many records the fold made of it. Pure.

Rows are found in ClickHouse by what their columns say, or their headers. One of which neither says where it is is never
seen: nobody could withhold it, and no later record of its chain need come. The fold has counted it.
"""

from collections import deque
from collections.abc import Mapping

import msgspec


class _Log(msgspec.Struct, eq=False):
    """`published` counts records of tenants and keys; `withheld` rows that were found, or found missing, since the last
    balance. `folded`: after which message the fold had made how many."""

    published: int = 0
    withheld: int = 0
    folded: deque[tuple[int, int]] = msgspec.field(default_factory=deque)


class PublishBalance:
    """The balance of every log, by partition."""

    def __init__(self, partitions: int) -> None:
        self._logs = [_Log() for _ in range(partitions)]

    def begin(self, records: Mapping[int, int]) -> None:
        """Count from these on: how many records of each log were published before."""
        for partition, log in enumerate(self._logs):
            log.published, log.withheld = records.get(partition, 0), 0

    def publish(self, partition: int, records: int, made: int | None) -> int:
        """So many records more are published; return how many before the last of them were neither published nor
        counted as withheld. `made`: how many the fold had made of the log up to that one; None: not known, and 0 is
        returned."""
        log = self._logs[partition]
        log.published += records
        if made is None:
            return 0
        missing = made - log.published - log.withheld
        log.published, log.withheld = made, 0
        return max(0, missing)

    def set(self, partition: int, records: int) -> None:
        """So many records of a log are published in all."""
        self._logs[partition].published = records

    def records(self, partition: int) -> int:
        """Return how many records of a log are published, those that were found to be withheld or missing included."""
        return self._logs[partition].published

    def withhold(self, partition: int, rows: int) -> None:
        """So many rows were withheld, or found missing, and counted."""
        self._logs[partition].withheld += rows

    def fold(self, partition: int, sequence: int, records: int, *, done: int) -> None:
        """The fold has made so many records of a log up to a message; what precedes message `done` is stored."""
        if partition >= len(self._logs):  # the platform's are not published
            return
        folded = self._logs[partition].folded
        if not folded or folded[-1][0] < sequence:
            folded.append((sequence, records))
        while folded and folded[0][0] < done:
            folded.popleft()

    def missing(self, partition: int, done: int) -> int:
        """Return how many records up to message `done` were neither published nor counted as withheld; 0 if that is not
        known. What is stored up to `done` must have been published."""
        log = self._logs[partition]
        while log.folded and log.folded[0][0] < done:
            log.folded.popleft()
        if not log.folded or log.folded[0][0] != done:
            return 0
        expected = log.folded[0][1]
        missing = expected - log.published - log.withheld
        log.published, log.withheld = expected, 0
        return max(0, missing)
