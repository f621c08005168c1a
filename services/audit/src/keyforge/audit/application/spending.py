"""Sums what was spent, by group and in total, once the sums were compared with what the chains settled."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple

from keyforge.audit.application.build import Build
from keyforge.audit.application.checking import LATE_S_MAX
from keyforge.audit.application.follow import FollowedLog
from keyforge.audit.application.freshness import of_one_build, wait_until_stored
from keyforge.audit.application.ports import RecordStore, SpendBy, Spent
from keyforge.audit.application.projection import Projection
from keyforge.audit.core.evidence import Disagreement
from keyforge.chain.seal import tenant_chain


class SpendTable(NamedTuple):
    """What was spent. `lag` counts messages of the logs that are not stored."""

    rows: list[Spent]
    total: Spent
    lag: int


class NotChecked(NamedTuple):
    """The sums have not been compared with the chains, or too long ago."""

    lag: int


class TenantMissing(NamedTuple):
    """No log has this tenant. With a `lag` (messages of the logs that are not stored) it may still come."""

    lag: int


class Spending:
    """Spend, summed from the stored ends of requests."""

    def __init__(self, store: RecordStore, projection: Projection) -> None:
        self._store, self._projection = store, projection

    async def spend(
        self, by: Sequence[SpendBy], tenant: str | None, since: datetime | None, until: datetime | None, wait_s: float
    ) -> SpendTable | NotChecked | TenantMissing | Disagreement:
        """Sum what was settled of what was admitted from `since` to before `until`. Raises StoreError."""

        return await of_one_build(self._projection, lambda build: self._table(build, by, tenant, since, until, wait_s))

    async def _table(
        self,
        build: Build,
        by: Sequence[SpendBy],
        tenant: str | None,
        since: datetime | None,
        until: datetime | None,
        wait_s: float,
    ) -> SpendTable | NotChecked | TenantMissing | Disagreement:
        loop = asyncio.get_running_loop()
        end_s = loop.time() + wait_s
        followed = build.log_of(tenant_chain(tenant)) if tenant is not None else None
        logs = [followed] if followed is not None else build.followed
        lag = await wait_until_stored(build, logs, wait_s)
        with suppress(TimeoutError):
            async with asyncio.timeout_at(end_s):
                await build.checked.wait()
        of = _chains_of(tenant)
        if found := _halted(logs) or _disagreement(build, of):  # first: it is so, however late the comparison is
            return found
        if not build.checked.is_set() or loop.time() - build.checked_at > LATE_S_MAX:
            return NotChecked(lag)
        if any(chain.startswith(of) for chain in build.unproven):
            return NotChecked(lag)
        rows = await self._projection.examiner.read(self._store.spend, by, tenant, since, until)
        if tenant is not None and build.log_of(tenant_chain(tenant)) is None:
            if not lag and any(map(_is_something, rows)):
                return Disagreement("requests", "", of, None, "no log has this tenant")
            return TenantMissing(lag)
        total = Spent(
            group=(),
            requests=sum(row.requests for row in rows),
            settled_nusd=sum(row.settled_nusd for row in rows),
            tokens=sum(row.tokens for row in rows),
        )
        return SpendTable(rows, total, lag)


def _halted(logs: Sequence[FollowedLog]) -> Disagreement | None:
    return next((Disagreement("requests", one.stream, "", None, one.halted) for one in logs if one.halted), None)


def _disagreement(build: Build, of: str) -> Disagreement | None:
    """Return why a sum over the keys whose chains' names begin so would not be that of the log; None if it is."""
    found = (one for (chain, _), one in build.disagreements.items() if chain.startswith(of))
    return min(found, key=_place, default=None)


def _is_something(spent: Spent) -> bool:
    return bool(spent.group or spent.requests or spent.settled_nusd or spent.tokens)


def _place(found: Disagreement) -> tuple[str, str]:
    return found.chain, found.table


def _chains_of(tenant: str | None) -> str:
    """Return what the names of the chains of a tenant's keys begin with, or of all keys."""
    return "key/" if tenant is None else f"key/{tenant}/"
