"""A moment as decisions see it: one time for everything that is decided in one frame, and the windows it falls in."""

from datetime import datetime, timedelta
from math import ceil
from typing import Final

from keyforge.contracts.limits import Window, window_id, window_start

SKEW_S_MAX: Final = 1.0
"""How far our clock and the broker's may be apart before nothing is admitted any more."""


class WindowIds(dict[Window, int]):
    """The number of the window of each kind that a moment falls in, found when it is asked for."""

    __slots__ = ("_at",)

    def __init__(self, at: datetime) -> None:
        super().__init__()
        self._at = at

    def __missing__(self, window: Window) -> int:
        number = self[window] = window_id(window, self._at)
        return number


class Moment:
    """`at` is aware UTC; `ids[window]` is the number of the window of that kind that `at` falls in."""

    __slots__ = ("_deadlines", "at", "ids")

    def __init__(self, at: datetime) -> None:
        self.at = at
        self.ids = WindowIds(at)
        self._deadlines: dict[int, datetime] = {}

    def deadline(self, ttl_ms: int) -> datetime:
        """Return the moment `ttl_ms` later; the asks of one frame mostly have the same."""
        found = self._deadlines.get(ttl_ms)
        if found is None:
            found = self._deadlines[ttl_ms] = self.at + timedelta(milliseconds=ttl_ms)
        return found

    def left_s(self, window: Window) -> int:
        """Return the whole seconds until `window` ends, at least 1; 0 for `total`, which never does."""
        end = window_start(window, self.ids[window] + 1)
        return 0 if end is None else max(1, ceil((end - self.at).total_seconds()))


class BrokerClock:
    """What is known of the broker's clock from one message of our own, carried on by the monotonic clock.

    We sent it at one monotonic moment and saw it stored at another; the broker stamped it in between. So the broker's
    time lies in an interval, and only a wall clock that is outside it by more than SKEW_S_MAX is surely wrong.
    """

    __slots__ = ("_broker_s", "_seen_s", "_sent_s")

    def __init__(self) -> None:
        self._broker_s: float | None = None
        self._sent_s = 0.0
        self._seen_s = 0.0

    def sampled(self, broker: datetime, *, sent_s: float, seen_s: float) -> None:
        """Take a message of ours: the broker's stamp, and the monotonic seconds around it."""
        self._broker_s, self._sent_s, self._seen_s = broker.timestamp(), sent_s, seen_s

    def skew_s(self, wall: datetime, monotonic_s: float) -> float:
        """Return how far `wall` is ahead of the broker at least (behind: negative); 0 while it may be right."""
        if self._broker_s is None:
            return 0.0
        latest = self._broker_s + (monotonic_s - self._sent_s)
        earliest = self._broker_s + (monotonic_s - self._seen_s)
        now_s = wall.timestamp()
        return max(0.0, now_s - latest) + min(0.0, now_s - earliest)

    def skewed(self, wall: datetime, monotonic_s: float) -> bool:
        """Say whether `wall` is surely more than SKEW_S_MAX apart from the broker's clock."""
        return abs(self.skew_s(wall, monotonic_s)) > SKEW_S_MAX
