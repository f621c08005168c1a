"""What operators ask budget: how a key stands against its limits, and how the partitions fare."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI
from pydantic import BaseModel

from keyforge.budget.application.partition import Partition
from keyforge.budget.core.broker_clock import Moment
from keyforge.budget.core.limit_status import Standing, standings
from keyforge.budget.metrics import Metrics
from keyforge.contracts.ids import KeyId
from keyforge.contracts.limits import Unit
from keyforge.contracts.money import usd
from keyforge.runtime.clock import Clock
from keyforge.runtime.http import Health, fail, new_app, operator_of
from keyforge.runtime.tokens import Operator, TokenVerifier

CURRENT_S: Final = 1.0
"""How long an answer waits for what the log holds already."""


class LimitView(BaseModel):
    """One limit: amounts are decimal strings of dollars for usd, counts for the rest. `total` has no window."""

    scope: str
    unit: str
    window: str
    window_start: datetime | None
    window_end: datetime | None
    cap: str | int
    settled: str | int
    reserved: str | int
    remaining: str | int


class LimitsView(BaseModel):
    """A key's limits and its tenant's, folded up to `position`. `owner` false: from a standby.

    `current` false: not all that the log held when this was asked is in it, or nobody could tell in time.
    """

    tenant: str
    key_id: str
    status: str
    partition: int
    owner: bool
    position: int
    current: bool
    limits: list[LimitView]


class PartitionView(BaseModel):
    """One partition as this process sees it. `owner` is the name in the last fence; `mine` says whether that is us."""

    partition: int
    owner: str | None
    mine: bool
    ready: bool
    epoch: int
    position: int
    ctl_position: int
    open_requests: int
    tenants: int
    keys: int
    state_hash: str


class PartitionsView(BaseModel):
    """All partitions."""

    partitions: list[PartitionView]


def build_api(
    health: Health, partitions: Sequence[Partition], metrics: Metrics, verifier: TokenVerifier, clock: Clock
) -> FastAPI:
    """Return the app: /v1/tenants/{t}/keys/{id}/limits, /v1/partitions, and what every service serves."""
    app = new_app("KeyForge budget", health, metrics.registry)
    operator = operator_of(verifier)

    for partition in partitions:
        _show(partition, metrics, clock)

    @app.get("/v1/tenants/{tenant}/keys/{key_id}/limits")
    async def limits(tenant: str, key_id: str, _who: Annotated[Operator, Depends(operator)]) -> LimitsView:
        partition = _partition_of(partitions, tenant, key_id)
        looked = partitions if partition is None else [partition]
        current = all(await asyncio.gather(*(one.follower.current(within_s=CURRENT_S) for one in looked)))
        partition = partition or _partition_of(partitions, tenant, key_id)
        if partition is not None:
            ledger = partition.follower.ledger
            key = ledger.keys[KeyId(key_id)]
            now = Moment(max(clock.now(), ledger.last_at))
            return LimitsView(
                tenant=tenant,
                key_id=key_id,
                status=key.status,
                partition=partition.number,
                owner=partition.owner,
                position=ledger.sequence,
                current=current,
                limits=[_limit_view(standing) for standing in standings(key, now)],
            )
        if not all(partition.follower.caught_up for partition in partitions):
            raise fail("not_ready")
        raise fail("not_found")

    @app.get("/v1/partitions")
    async def all_partitions(_who: Annotated[Operator, Depends(operator)]) -> PartitionsView:
        return PartitionsView(partitions=[_partition_view(partition) for partition in partitions])

    return app


def _partition_of(partitions: Sequence[Partition], tenant: str, key_id: str) -> Partition | None:
    for partition in partitions:
        key = partition.follower.ledger.keys.get(KeyId(key_id))
        if key is not None and key.tenant.id == tenant:
            return partition
    return None


def _show(partition: Partition, metrics: Metrics, clock: Clock) -> None:
    """Let the gauges of one partition read it when they are asked."""
    follower = partition.follower
    metrics.open.labels(partition.number).set_function(lambda: len(follower.ledger.open))
    metrics.owner.labels(partition.number).set_function(lambda: float(partition.owner))
    metrics.position.labels(partition.number).set_function(lambda: follower.ledger.sequence)
    metrics.skew_s.labels(partition.number).set_function(lambda: follower.broker.skew_s(clock.now(), clock.monotonic()))


def _limit_view(standing: Standing) -> LimitView:
    def amount(value: int, unit: Unit = standing.unit) -> str | int:
        return usd(value) if unit == "usd" else value

    return LimitView(
        scope=standing.scope,
        unit=standing.unit,
        window=standing.window,
        window_start=standing.start,
        window_end=standing.end,
        cap=amount(standing.cap),
        settled=amount(standing.settled),
        reserved=amount(standing.reserved),
        remaining=amount(standing.remaining),
    )


def _partition_view(partition: Partition) -> PartitionView:
    ledger = partition.follower.ledger
    shown: dict[str, Any] = {
        "partition": partition.number,
        "owner": ledger.owner,
        "mine": partition.owner,
        "ready": partition.ready,
        "epoch": ledger.epoch,
        "position": ledger.sequence,
        "ctl_position": ledger.ctl_sequence,
        "open_requests": len(ledger.open),
        "tenants": len(ledger.tenants),
        "keys": len(ledger.keys),
        "state_hash": partition.state_hash(),
    }
    return PartitionView(**shown)
