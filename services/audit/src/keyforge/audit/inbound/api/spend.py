"""The route of spend: what was settled, by group and in total."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from keyforge.audit.application.ports import SPEND_BY, SpendBy, Spent
from keyforge.audit.application.spending import NotChecked, Spending, TenantMissing
from keyforge.audit.core.evidence import Disagreement
from keyforge.audit.inbound.api.answers import evidence_disagrees, missing
from keyforge.audit.inbound.api.parameters import WAIT_S, Wait
from keyforge.contracts.money import usd
from keyforge.runtime.http import fail
from keyforge.runtime.timestamps import Timestamp


class SpendRowResponse(BaseModel):
    """What one group spent. `group` has an entry for each name in `by`."""

    group: dict[str, str]
    requests: int
    settled_usd: str
    tokens: int


class SpendResponse(BaseModel):
    """Spend by group and in total. `lag` counts messages of the logs that are not stored yet."""

    by: list[str]
    rows: list[SpendRowResponse]
    total: SpendRowResponse
    lag: int


def routes(spending: Spending) -> APIRouter:
    """Return the route."""
    router = APIRouter(prefix="/v1", tags=["spend"])

    @router.get("/spend")
    async def spend(
        tenant: str | None = None,
        by: str = "",
        since: Annotated[Timestamp | None, Query(alias="from")] = None,
        until: Annotated[Timestamp | None, Query(alias="to")] = None,
        wait_s: Wait = WAIT_S,
    ) -> SpendResponse:
        """Sum what was settled, by time of admission. `by`: names of groups, separated by commas."""
        names = _groups(by)
        if since is not None and until is not None and until < since:
            raise fail("request_invalid", "`to` must not be before `from`.", param="query.to")
        table = await spending.spend(names, tenant, since, until, wait_s)
        if isinstance(table, Disagreement):
            raise evidence_disagrees(table)
        if isinstance(table, NotChecked):
            raise fail("not_stored_yet", metadata={"lag": table.lag})
        if isinstance(table, TenantMissing):
            raise missing("tenant", table.lag)
        rows = [_row(names, row) for row in table.rows]
        return SpendResponse(by=list(names), rows=rows, total=_row([], table.total), lag=table.lag)

    return router


def _groups(by: str) -> list[SpendBy]:
    known = {str(name): name for name in SPEND_BY}
    names = by.split(",") if by else []
    if unknown := [name for name in names if name not in known]:
        raise fail(
            "request_invalid",
            f"`by` must be a comma-separated list of: {', '.join(SPEND_BY)}.",
            param=f"by: {unknown[0][:40]}",
        )
    if len(set(names)) != len(names):
        raise fail("request_invalid", "`by` contains a duplicate name.", param="by")
    return [known[name] for name in names]


def _row(names: Sequence[SpendBy], spent: Spent) -> SpendRowResponse:
    group = {
        str(name): f"{value.replace(tzinfo=None).isoformat()}Z" if isinstance(value, datetime) else str(value)
        for name, value in zip(names, spent.group, strict=True)
    }
    return SpendRowResponse(
        group=group, requests=spent.requests, settled_usd=usd(spent.settled_nusd), tokens=spent.tokens
    )
