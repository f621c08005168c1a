"""The clock that shells read and hand to the core: aware UTC for the record, monotonic seconds for deadlines."""

import time
from datetime import UTC, datetime
from typing import Protocol


def epoch_ms() -> int:
    """Return milliseconds since 1970: what request ids begin with, which must not cost a datetime."""
    return time.time_ns() // 1_000_000


class Clock(Protocol):
    """What tells the time. Two of them: the system's, and one that tests turn by hand."""

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
    """Return seconds that never step back; asked several times by every request, so without a call in between."""


class SetClock:
    """A clock that stands until it is turned; both readings move together."""

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
        """Turn it to `now`, forwards or backwards."""
        self._now = now
