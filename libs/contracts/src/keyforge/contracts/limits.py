"""A limit is a cap on a unit over a window at a scope; a window's id is a function of time, so nothing ever resets.

A limit has an id, which is a function of its unit, its window and the models that it is about: a limit whose cap
changes goes on counting, and a request for one needs no id. A debit names scope and limit by their ids.
"""

from datetime import UTC, datetime
from typing import Final, Literal

import msgspec

from keyforge.contracts.ids import KeyId, TenantId
from keyforge.contracts.words import Word

Unit = Literal["usd", "requests", "tokens", "concurrency"]
Window = Literal["minute", "hour", "day", "week", "month", "total"]
"""The units and windows that this version knows. Events hold open words, see `Limit`."""

UNITS: Final[tuple[Unit, ...]] = ("usd", "requests", "tokens", "concurrency")
WINDOWS: Final[tuple[Window, ...]] = ("minute", "hour", "day", "week", "month", "total")
LIMITS_MAX: Final = 24
"""Limits on one scope: one per pair of unit and window."""
CAP_MAX: Final = 9_000_000_000 * 1_000_000_000

_SCOPES: Final = ("key:", "tenant:")
_DAY_S: Final = 86_400
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Limit(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A cap: nano-dollars for usd, counts for the rest. `concurrency` counts open reservations, window `total`.

    `models` is a pattern of the models that it is about, None for all of them: this version knows no other.
    """

    cap: int
    models: Word | None = None
    unit: Word
    window: Word

    @property
    def id(self) -> str:
        """The limit's id at its scope: `usd/month`, or `usd/month/<models>`."""
        return f"{self.unit}/{self.window}" if self.models is None else f"{self.unit}/{self.window}/{self.models}"

    @property
    def known(self) -> bool:
        """Whether this version can hold it."""
        return self.models is None and self.unit in UNITS and self.window in WINDOWS


def is_known_scope(scope: str) -> bool:
    """Return whether a scope is of a kind that this version debits."""
    return scope.startswith(_SCOPES)


def key_scope(key_id: KeyId) -> str:
    """Return the id of the scope of one virtual key."""
    return f"key:{key_id}"


def tenant_scope(tenant: TenantId) -> str:
    """Return the id of the scope of one tenant."""
    return f"tenant:{tenant}"


class Amounts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one request can use at most, or has used: money and tokens. It is always one request, and one at a time."""

    nusd: int
    tokens: int

    def of(self, unit: str) -> int:
        """Return the amount that a limit on a known `unit` is debited with."""
        if unit == "usd":
            return self.nusd
        if unit == "tokens":
            return self.tokens
        return 1


class Debit(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What an admission took from one limit of one scope, named by their ids, and in which of its windows."""

    amount: int
    limit: str
    scope: str
    window_id: int


def window_id(window: str, at: datetime) -> int:
    """Return the number of the known window that `at` (aware UTC) falls in; weeks begin on Monday."""
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


def window_start(window: str, number: int) -> datetime | None:
    """Return when window `number` begins (aware UTC); None for `total`, which has no beginning."""
    if window == "total":
        return None
    if window == "month":
        return datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC)
    seconds = {"minute": number * 60, "hour": number * 3600, "day": number * _DAY_S, "week": (number * 7 - 3) * _DAY_S}
    return datetime.fromtimestamp(seconds[window], UTC)
