"""The one time for everything that is decided in a frame, and the windows it falls in."""

from datetime import datetime, timedelta
from math import ceil

from keyforge.contracts.limits import window_id, window_start


class WindowIds(dict[str, int]):
    """The id of the window of each kind that a time falls in, computed when it is first asked for."""

    __slots__ = ("_at",)

    def __init__(self, at: datetime) -> None:
        super().__init__()
        self._at = at

    def __missing__(self, window: str) -> int:
        number = self[window] = window_id(window, self._at)
        return number


class DecisionTime:
    """`at` is aware UTC; `ids[window]` is the id of the window of that kind that `at` falls in."""

    __slots__ = ("_deadlines", "at", "ids")

    def __init__(self, at: datetime) -> None:
        self.at = at
        self.ids = WindowIds(at)
        self._deadlines: dict[int, datetime] = {}

    def deadline(self, ttl_ms: int) -> datetime:
        """Return the time `ttl_ms` later; the asks of one frame mostly have the same."""
        found = self._deadlines.get(ttl_ms)
        if found is None:
            found = self._deadlines[ttl_ms] = self.at + timedelta(milliseconds=ttl_ms)
        return found

    def left_s(self, window: str) -> int:
        """Return the whole seconds until `window` ends, at least 1; 0 for `total`, which never ends."""
        end = window_start(window, self.ids[window] + 1)
        return 0 if end is None else max(1, ceil((end - self.at).total_seconds()))
