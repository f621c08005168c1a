"""The clock that is read outside the core and passed to it: aware UTC for events, monotonic seconds for deadlines."""

import time
from datetime import UTC, datetime
from typing import Protocol


def epoch_ms() -> int:
    """Return milliseconds since 1970, with which request ids begin: much cheaper than a datetime."""
    return time.time_ns() // 1_000_000


class Clock(Protocol):
    """A source of time. There are two: the system's, and one that tests set."""

    def now(self) -> datetime:
        """Return the time, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never step back, from an arbitrary start."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the time, aware, in UTC."""
        return datetime.now(UTC)

    monotonic = staticmethod(time.monotonic)
    """Return seconds that never step back. Every request reads it several times, so it is not wrapped in a method."""


class SetClock:
    """A clock that stands still until it is set; both readings move together."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._origin = now

    def now(self) -> datetime:
        """Return the time it was last set to."""
        return self._now

    def monotonic(self) -> float:
        """Return seconds since it was made; does not follow a step back."""
        return max(0.0, (self._now - self._origin).total_seconds())

    def set(self, now: datetime) -> None:
        """Set it to `now`, forwards or backwards."""
        self._now = now
