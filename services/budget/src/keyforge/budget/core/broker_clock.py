"""Whether the owner's clock is surely wrong, from the broker's stamps on the owner's own frames."""

from datetime import datetime
from typing import Final

SKEW_S_MAX: Final = 1.0
"""How far our clock and the broker's may be apart before nothing is admitted any more. Chosen: twice the most that
CockroachDB allows its nodes by default (--max-offset, 0.5 s), and the shortest window is a minute."""


class BrokerClock:
    """What is known of the broker's clock from one message of our own, carried on by the monotonic clock.

    We sent it at one monotonic time and saw it stored at another; the broker stamped it in between. So the broker's
    time lies in an interval, and only a wall clock that is outside it by more than SKEW_S_MAX is surely wrong.
    """

    __slots__ = ("_broker_s", "_seen_s", "_sent_s")

    def __init__(self) -> None:
        self._broker_s: float | None = None
        self._sent_s = 0.0
        self._seen_s = 0.0

    def sampled(self, broker: datetime, *, sent_s: float, seen_s: float) -> None:
        """Take a message of ours: the broker's stamp, and the monotonic seconds before and after it."""
        self._broker_s, self._sent_s, self._seen_s = broker.timestamp(), sent_s, seen_s

    def skew_s(self, wall: datetime, monotonic_s: float) -> float:
        """Return how far `wall` is at least ahead of the broker's clock (negative: late); 0 while it may be right."""
        if self._broker_s is None:
            return 0.0
        latest = self._broker_s + (monotonic_s - self._sent_s)
        earliest = self._broker_s + (monotonic_s - self._seen_s)
        now_s = wall.timestamp()
        return max(0.0, now_s - latest) + min(0.0, now_s - earliest)

    def skewed(self, wall: datetime, monotonic_s: float) -> bool:
        """Return whether `wall` is surely more than SKEW_S_MAX apart from the broker's clock."""
        return abs(self.skew_s(wall, monotonic_s)) > SKEW_S_MAX
