"""The operators' API of budget: the limits of a key with what is used of them, and the state of the partitions."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI
from pydantic import BaseModel

from keyforge.budget.application.partition import Partition
from keyforge.budget.core.decision_time import DecisionTime
from keyforge.budget.core.limit_status import LimitStatus, limit_statuses
from keyforge.budget.metrics import Metrics
from keyforge.contracts.errors import not_found
from keyforge.contracts.ids import KeyId
from keyforge.contracts.money import usd
from keyforge.runtime.clock import Clock
from keyforge.runtime.http import Health, ProblemError, fail, new_app, operator_of
from keyforge.runtime.log_fill import LogFill
from keyforge.runtime.tokens import Operator, TokenVerifier

CURRENT_S: Final = 1.0
"""How long an answer waits for the fold to reach the end that the log has. Chosen: as a committer waits (CATCH_UP_S); a
reader is milliseconds late."""


class LimitStatusResponse(BaseModel):
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


class KeyLimitsResponse(BaseModel):
    """A key's limits and its tenant's, folded up to `position`. `owner` false: from a standby.

    `current` false: it may lack some of what the log held when it was asked.
    """

    tenant: str
    key_id: str
    status: str
    partition: int
    owner: bool
    position: int
    current: bool
    limits: list[LimitStatusResponse]


class PartitionResponse(BaseModel):
    """One partition as this process sees it. `owner` is the name in the last fence; `mine`: this process is it.

    `halted` names what this version must not fold, and where it is; the rest is as it was before that.
    """

    partition: int
    owner: str | None
    mine: bool
    ready: bool
    halted: str | None
    epoch: int
    position: int
    ctl_position: int
    open_requests: int
    tenants: int
    keys: int
    state_hash: str


class PartitionsResponse(BaseModel):
    """All partitions."""

    partitions: list[PartitionResponse]


def build_api(
    health: Health,
    partitions: Sequence[Partition],
    metrics: Metrics,
    verifier: TokenVerifier,
    clock: Clock,
    fill: LogFill | None = None,
) -> FastAPI:
    """Return the app: /v1/tenants/{t}/keys/{id}/limits, /v1/partitions, and what every service serves."""
    app = new_app("KeyForge budget", health, metrics.registry, fill)
    operator = operator_of(verifier)

    for partition in partitions:
        _set_gauges(partition, metrics, clock)

    @app.get("/v1/tenants/{tenant}/keys/{key_id}/limits")
    async def limits(tenant: str, key_id: str, _who: Annotated[Operator, Depends(operator)]) -> KeyLimitsResponse:
        partition = _partition_of(partitions, tenant, key_id)
        candidates = partitions if partition is None else [partition]
        current = all(await asyncio.gather(*(one.replica.current(within_s=CURRENT_S) for one in candidates)))
        partition = partition or _partition_of(partitions, tenant, key_id)
        if partition is not None:
            ledger = partition.replica.ledger
            key = ledger.keys[KeyId(key_id)]
            now = DecisionTime(max(clock.now(), ledger.last_at))
            return KeyLimitsResponse(
                tenant=tenant,
                key_id=key_id,
                status=key.status,
                partition=partition.number,
                owner=partition.owner,
                position=ledger.sequence,
                current=current,
                limits=[_limit_status_response(status) for status in limit_statuses(key, now)],
            )
        if not all(partition.replica.caught_up for partition in partitions):
            raise fail("not_ready")
        raise ProblemError(not_found("key"))

    @app.get("/v1/partitions")
    async def all_partitions(_who: Annotated[Operator, Depends(operator)]) -> PartitionsResponse:
        return PartitionsResponse(partitions=[_partition_response(partition) for partition in partitions])

    return app


def _partition_of(partitions: Sequence[Partition], tenant: str, key_id: str) -> Partition | None:
    for partition in partitions:
        key = partition.replica.ledger.keys.get(KeyId(key_id))
        if key is not None and key.tenant.id == tenant:
            return partition
    return None


def _set_gauges(partition: Partition, metrics: Metrics, clock: Clock) -> None:
    """Let the gauges of one partition read it at each scrape."""
    replica = partition.replica
    metrics.open.labels(partition.number).set_function(lambda: len(replica.ledger.open))
    metrics.owner.labels(partition.number).set_function(lambda: float(partition.owner))
    metrics.halted.labels(partition.number).set_function(lambda: float(replica.halted is not None))
    metrics.position.labels(partition.number).set_function(lambda: replica.ledger.sequence)
    metrics.skew_s.labels(partition.number).set_function(lambda: replica.broker.skew_s(clock.now(), clock.monotonic()))


def _limit_status_response(status: LimitStatus) -> LimitStatusResponse:
    def amount(value: int, unit: str = status.unit) -> str | int:
        return usd(value) if unit == "usd" else value

    return LimitStatusResponse(
        scope=status.scope,
        unit=status.unit,
        window=status.window,
        window_start=status.start,
        window_end=status.end,
        cap=amount(status.cap),
        settled=amount(status.settled),
        reserved=amount(status.reserved),
        remaining=amount(status.remaining),
    )


def _partition_response(partition: Partition) -> PartitionResponse:
    ledger = partition.replica.ledger
    fields: dict[str, Any] = {
        "partition": partition.number,
        "owner": ledger.owner,
        "mine": partition.owner,
        "ready": partition.ready,
        "halted": None if (halt := partition.replica.halted) is None else str(halt),
        "epoch": ledger.epoch,
        "position": ledger.sequence,
        "ctl_position": ledger.ctl_sequence,
        "open_requests": len(ledger.open),
        "tenants": len(ledger.tenants),
        "keys": len(ledger.keys),
        "state_hash": partition.state_hash(),
    }
    return PartitionResponse(**fields)
