"""How a ledger changes: one function per event, in the order of the log. Uses recorded times and window ids only.

An event that is rejected (the wrong edge, an unknown tenant) changes nothing, and the reason is returned.
A second terminal, or a second copy of anything, changes nothing and is not reported.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import msgspec

from keyforge.budget.core.accounts import Account, Scope
from keyforge.budget.core.ledger import (
    OVERRUNS_MAX,
    Key,
    Ledger,
    Overrun,
    Request,
    Tenant,
    idempotency_name,
    path_of,
)
from keyforge.budget.core.settle import CANCELLED, close, remember_cancel, settle
from keyforge.contracts import settlement
from keyforge.contracts.events import (
    KeyCreated,
    KeyRevoked,
    KeyUpdated,
    ModelResumed,
    PartitionFenced,
    RequestAbandoned,
    RequestAdmitted,
    RequestCancelled,
    RequestCompleted,
    RequestOverran,
    RequestRefused,
    TenantCreated,
    TenantUpdated,
)
from keyforge.contracts.frame import Recorded
from keyforge.contracts.limits import Amounts, key_scope, tenant_scope


class EventOrigin(msgspec.Struct, frozen=True, gc=False):
    """Where an event is in the log, on a `use` subject the edge that wrote it, and what an admission debits."""

    sequence: int
    index: int
    edge: str | None = None
    accounts: tuple[Account, ...] = ()


def evolve(ledger: Ledger, recorded: Recorded, origin: EventOrigin) -> str | None:
    """Change the ledger by one event; return why it was rejected, None if it was not."""
    change = _CHANGES.get(type(recorded.event))
    return "not an event of a partition" if change is None else change(ledger, recorded.event, recorded.at, origin)


# --- ctl --------------------------------------------------------------------------------------------------------------


def _fenced(ledger: Ledger, event: PartitionFenced, _at: datetime, origin: EventOrigin) -> str | None:
    if event.epoch <= ledger.epoch:
        return f"epoch {event.epoch} is not after epoch {ledger.epoch}"
    ledger.epoch, ledger.owner, ledger.fence_sequence = event.epoch, event.owner, origin.sequence
    return None


def _tenant_created(ledger: Ledger, event: TenantCreated, _at: datetime, _origin: EventOrigin) -> str | None:
    if event.tenant in ledger.tenants:
        return "the tenant exists"
    tenant = ledger.tenants[event.tenant] = Tenant(
        event.tenant, "active", event.revision, Scope("tenant", tenant_scope(event.tenant))
    )
    tenant.scope.set_limits(event.limits)
    return None


def _tenant_updated(ledger: Ledger, event: TenantUpdated, _at: datetime, _origin: EventOrigin) -> str | None:
    tenant = ledger.tenants.get(event.tenant)
    if tenant is None:
        return "unknown tenant"
    tenant.status, tenant.revision = event.status, event.revision
    tenant.scope.set_limits(event.limits)
    return None


def _key_created(ledger: Ledger, event: KeyCreated, _at: datetime, _origin: EventOrigin) -> str | None:
    tenant = ledger.tenants.get(event.tenant)
    if tenant is None:
        return "unknown tenant"
    if event.key_id in ledger.keys:
        return "the key exists"
    scope = Scope("key", key_scope(event.key_id))
    scope.set_limits(event.limits)
    ledger.keys[event.key_id] = Key(
        event.key_id, tenant, "active", event.revision, event.expires_at, scope, path_of(scope, tenant)
    )
    return None


def _key_updated(ledger: Ledger, event: KeyUpdated, _at: datetime, _origin: EventOrigin) -> str | None:
    key = ledger.keys.get(event.key_id)
    if key is None:
        return "unknown key"
    key.revision, key.expires_at = event.revision, event.expires_at
    key.scope.set_limits(event.limits)
    return None


def _key_revoked(ledger: Ledger, event: KeyRevoked, _at: datetime, _origin: EventOrigin) -> str | None:
    key = ledger.keys.get(event.key_id)
    if key is None:
        return "unknown key"
    key.status, key.revision = "revoked", event.revision
    return None


def _model_resumed(ledger: Ledger, event: ModelResumed, _at: datetime, _origin: EventOrigin) -> str | None:
    ledger.frozen.discard((event.tenant, event.provider, event.model))
    return None


# --- adm --------------------------------------------------------------------------------------------------------------


def _admitted(ledger: Ledger, event: RequestAdmitted, at: datetime, origin: EventOrigin) -> str | None:
    if at > ledger.last_at:
        ledger.last_at = at
    request_id = event.request_id
    if request_id in ledger.open or request_id in ledger.closed:
        return "admitted before"
    key = ledger.keys.get(event.key_id)
    if key is None or key.tenant.id != event.tenant:
        return "unknown key"
    ledger.deadlines.add(int(event.deadline.timestamp()), request_id)
    if ledger.tombstones and settlement.tombstone_of(event) in ledger.tombstones:
        close(ledger, request_id, CANCELLED)
        return None
    balances = []
    for account, debit in zip(origin.accounts, event.debits, strict=True):
        balance = account.windows.get(debit.window_id) or account.open_window(debit.window_id)
        balance.reserved += debit.amount
        balances.append(balance)
    ledger.open[request_id] = Request(event, origin.sequence, origin.index, origin.accounts, tuple(balances))
    if event.idempotency_hash is not None:
        ledger.idempotency.setdefault(idempotency_name(event.key_id, event.idempotency_hash), request_id)
    return None if event.epoch == ledger.epoch else f"admitted in epoch {event.epoch}, counted all the same"


def _abandoned(ledger: Ledger, event: RequestAbandoned, at: datetime, _origin: EventOrigin) -> str | None:
    ledger.last_at = max(ledger.last_at, at)
    request = ledger.open.get(event.request_id)
    if request is None:
        return None
    if not settlement.is_of_key(event, request.admitted):
        return "not the key that was admitted"
    settle(ledger, request, settlement.abandoned(request.admitted.reserved))
    return None


def _overran(ledger: Ledger, event: RequestOverran, at: datetime, _origin: EventOrigin) -> str | None:
    """Note that it was reported. The freeze came with the completion itself, so a resume after that one lasts."""
    ledger.last_at = max(ledger.last_at, at)
    ledger.overruns.pop(event.request_id, None)
    return None


# --- use --------------------------------------------------------------------------------------------------------------


def _completed(ledger: Ledger, event: RequestCompleted, _at: datetime, origin: EventOrigin) -> str | None:
    request = ledger.open.get(event.request_id)
    if request is None:
        closed = ledger.closed.get(event.request_id)
        if closed is None:
            return "unknown request"
        if closed.request is None or not settlement.counts("completed", closed.terminal):
            return None
        request = closed.request
    if not origin.edge == event.edge == request.admitted.edge:
        return "not the edge that was admitted"
    admitted = request.admitted
    if not settlement.is_of_key(event, admitted):
        return "not the key that was admitted"
    settled = settlement.completed(event.usage, admitted.prices, admitted.reserved)
    settle(ledger, request, settled, may_be_repeated=event.may_be_repeated)
    if settlement.overran(settled, admitted.reserved):
        ledger.frozen.add((admitted.tenant, admitted.provider, admitted.model))
        ledger.overruns[event.request_id] = Overrun(admitted, Amounts(nusd=settled.nusd, tokens=settled.tokens))
        if len(ledger.overruns) > OVERRUNS_MAX:
            del ledger.overruns[next(iter(ledger.overruns))]
    return None


def _cancelled(ledger: Ledger, event: RequestCancelled, _at: datetime, origin: EventOrigin) -> str | None:
    if origin.edge != event.edge:
        return "not the edge's own subject"
    request = ledger.open.get(event.request_id)
    if request is not None:
        if request.admitted.edge != event.edge:
            return "not the edge that was admitted"
        if not settlement.is_of_key(event, request.admitted):
            return "not the key that was admitted"
        settle(ledger, request, settlement.CANCELLED)
    elif event.request_id not in ledger.closed:
        remember_cancel(ledger, event, origin.sequence)
    return None


def _refused(_ledger: Ledger, _event: RequestRefused, _at: datetime, _origin: EventOrigin) -> str | None:
    return None


_Change = Callable[[Ledger, Any, datetime, EventOrigin], str | None]

_CHANGES: Final[dict[type, _Change]] = {
    PartitionFenced: _fenced,
    TenantCreated: _tenant_created,
    TenantUpdated: _tenant_updated,
    KeyCreated: _key_created,
    KeyUpdated: _key_updated,
    KeyRevoked: _key_revoked,
    ModelResumed: _model_resumed,
    RequestAdmitted: _admitted,
    RequestAbandoned: _abandoned,
    RequestOverran: _overran,
    RequestCompleted: _completed,
    RequestCancelled: _cancelled,
    RequestRefused: _refused,
}

KNOWN: Final = frozenset(_CHANGES)
"""The events that a ledger knows how to change by."""
