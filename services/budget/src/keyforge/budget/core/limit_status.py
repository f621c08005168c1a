"""How much of each limit on a key's path is used: what operators ask for."""

from datetime import datetime

import msgspec

from keyforge.budget.core.decision_time import DecisionTime
from keyforge.budget.core.ledger import Key
from keyforge.contracts.limits import window_start


class LimitStatus(msgspec.Struct, frozen=True):
    """One limit at one time; nano-dollars for usd, counts for the rest. `total` has neither start nor end."""

    scope: str
    unit: str
    window: str
    start: datetime | None
    end: datetime | None
    cap: int
    settled: int
    reserved: int

    @property
    def remaining(self) -> int:
        """What still fits; 0 where a cap was lowered below what is used."""
        return max(0, self.cap - self.settled - self.reserved)


def limit_statuses(key: Key, now: DecisionTime) -> list[LimitStatus]:
    """Return the status of every limit on the key's path, in the order in which they are checked."""
    found = []
    for scope in key.path:
        for limit, account in scope.checks:
            number = now.ids[limit.window]
            balance = account.windows.get(number)
            found.append(
                LimitStatus(
                    scope.kind,
                    limit.unit,
                    limit.window,
                    window_start(limit.window, number),
                    window_start(limit.window, number + 1),
                    limit.cap,
                    balance.settled if balance else 0,
                    balance.reserved if balance else 0,
                )
            )
    return found
