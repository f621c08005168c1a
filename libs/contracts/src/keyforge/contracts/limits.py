"""A limit is a cap on a unit over a window at a scope; a window's id is a function of time, so nothing ever resets."""

from datetime import UTC, datetime
from typing import Final, Literal

import msgspec

Unit = Literal["usd", "requests", "tokens", "concurrency"]
Window = Literal["minute", "hour", "day", "week", "month", "total"]
ScopeKind = Literal["session", "key", "group", "tenant"]

UNITS: Final[tuple[Unit, ...]] = ("usd", "requests", "tokens", "concurrency")
WINDOWS: Final[tuple[Window, ...]] = ("minute", "hour", "day", "week", "month", "total")
LIMITS_MAX: Final = 24
"""Limits on one scope: one per pair of unit and window."""
CAP_MAX: Final = 9_000_000_000 * 1_000_000_000

_DAY_S: Final = 86_400
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Limit(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A cap: nano-dollars for usd, counts for the rest. `concurrency` counts open reservations, window `total`."""

    cap: int
    unit: Unit
    window: Window


class Amounts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one request can use at most, or has used: money and tokens. It is always one request, and one at a time."""

    nusd: int
    tokens: int

    def of(self, unit: Unit) -> int:
        """Return the amount that a limit on `unit` is debited with."""
        if unit == "usd":
            return self.nusd
        if unit == "tokens":
            return self.tokens
        return 1


class Debit(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What an admission took from one limit, and in which of its windows."""

    amount: int
    scope: ScopeKind
    unit: Unit
    window: Window
    window_id: int


def window_id(window: Window, at: datetime) -> int:
    """Return the number of the window that `at` (aware UTC) falls in; weeks begin on Monday."""
    if window == "total":
        return 0
    if window == "month":
        return at.year * 12 + at.month - 1
    seconds = int((at - _EPOCH).total_seconds())
    if window == "minute":
        return seconds // 60
    if window == "hour":
        return seconds // 3600
    if window == "day":
        return seconds // _DAY_S
    return (seconds // _DAY_S + 3) // 7


def window_start(window: Window, number: int) -> datetime | None:
    """Return when window `number` begins (aware UTC); None for `total`, which has no beginning."""
    if window == "total":
        return None
    if window == "month":
        return datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC)
    seconds = {"minute": number * 60, "hour": number * 3600, "day": number * _DAY_S, "week": (number * 7 - 3) * _DAY_S}
    return datetime.fromtimestamp(seconds[window], UTC)
