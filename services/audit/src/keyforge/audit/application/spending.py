"""Sums what was spent, by group and in total."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from keyforge.audit.application.freshness import read_store, wait_until_stored
from keyforge.audit.application.ports import RecordStore, SpendBy, Spent
from keyforge.audit.application.projection import Projection


class SpendTable(NamedTuple):
    """What was spent. `lag` counts messages of the logs that are not stored."""

    rows: list[Spent]
    total: Spent
    lag: int


class Spending:
    """Spend, summed from the stored ends of requests."""

    def __init__(self, store: RecordStore, projection: Projection) -> None:
        self._store, self._projection = store, projection

    async def spend(
        self, by: Sequence[SpendBy], tenant: str | None, since: datetime | None, until: datetime | None, wait_s: float
    ) -> SpendTable:
        """Sum what was settled of what was admitted from `since` to before `until`. Raises StoreError."""
        lag = await wait_until_stored(self._projection, wait_s)
        rows = await read_store(self._projection, self._store.spend, by, tenant, since, until)
        total = Spent(
            (),
            sum(row.requests for row in rows),
            sum(row.settled_nusd for row in rows),
            sum(row.tokens for row in rows),
        )
        return SpendTable(rows, total, lag)
