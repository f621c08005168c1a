"""May this request be made, and does its worst case fit every limit on its path? Values in, a named outcome out."""

from typing import Final

import msgspec

from keyforge.budget.core.accounts import Scope
from keyforge.budget.core.decision_time import DecisionTime
from keyforge.budget.core.holds import Hold, Holds
from keyforge.budget.core.ledger import Key, Ledger, Request, idempotency_name
from keyforge.contracts.events import RequestAdmitted
from keyforge.contracts.ids import EdgeId, RequestId
from keyforge.contracts.limits import CAP_MAX, Amounts, Debit, Limit
from keyforge.contracts.reserve import TTL_MS_MAX, Reserve

CONCURRENCY_RETRY_S: Final = 1
"""`Retry-After` where requests are open: chosen, the shortest that the header can name (RFC 9110, whole seconds)."""
REQUEST_ID_CHARS_MAX: Final = 64
"""Chosen: ours are UUIDs of 36 characters, and other ids of ours have 64 at most."""
_BY_UNIT: Final = {"requests": "rate_limited", "tokens": "tokens_limited", "concurrency": "concurrency_limited"}


class AlreadyAdmitted(msgspec.Struct, frozen=True):
    """The same ask was admitted before, at that position of the log (0, 0: its frame is on its way)."""

    request_id: RequestId
    sequence: int
    index: int


class Refused(msgspec.Struct, frozen=True):
    """A refusal. `type` is of `errors.CATALOGUE`; scope, unit and window name the first limit that does not fit.

    `may_lag`: the ask names a key or a revision that the ledger does not have, so the ledger may lag: fold, then decide
    again.
    """

    type: str
    scope: str = ""
    unit: str = ""
    window: str = ""
    retry_after_s: int = 0
    first_request: str = ""
    first_state: str = ""
    may_lag: bool = False


Outcome = RequestAdmitted | AlreadyAdmitted | Refused


def admit(ledger: Ledger, holds: Holds, ask: Reserve, edge: EdgeId, *, epoch: int, now: DecisionTime) -> Outcome:
    """Decide one ask of `edge` on what was folded and what is held."""
    if (known := _known(ledger, holds, ask, edge)) is not None:
        return known
    key = ledger.keys.get(ask.key_id)
    if key is None or key.tenant.id != ask.tenant:
        return Refused("key_invalid", may_lag=key is None)
    if (refused := _policy(ledger, holds, ask, key, now)) is not None:
        return refused
    worst = Amounts(nusd=ask.worst_nusd, tokens=ask.worst_tokens)
    debits: list[Debit] = []
    for scope in key.path:
        if (refused := _debit(scope, worst, now, debits)) is not None:
            return refused
    return RequestAdmitted(
        request_id=ask.request_id,
        tenant=ask.tenant,
        key_id=ask.key_id,
        policy_revision=ask.policy_revision,
        endpoint=ask.endpoint,
        provider=ask.provider,
        model=ask.model,
        price_id=ask.price_id,
        prices=ask.prices,
        reserved=worst,
        debits=tuple(debits),
        body_commitment=ask.body_commitment,
        idempotency_hash=ask.idempotency_hash,
        secret_version=ask.secret_version,
        edge=edge,
        epoch=epoch,
        deadline=now.deadline(ask.ttl_ms),
    )


def _known(ledger: Ledger, holds: Holds, ask: Reserve, edge: EdgeId) -> AlreadyAdmitted | Refused | None:
    """Answer for a known id: the same ask gets the same answer again, anything else is refused."""
    request_id = ask.request_id
    known: Hold | Request | None = ledger.open.get(request_id) or holds.requests.get(request_id)
    if known is not None:
        if _same(known.admitted, ask, edge):
            return AlreadyAdmitted(request_id, known.sequence, known.index)
        return Refused("idempotency_conflict", first_request=request_id, first_state="open")
    closed = ledger.closed.get(request_id)
    if closed is not None and closed.terminal != "cancelled":
        return Refused("idempotency_conflict", first_request=request_id, first_state=closed.terminal)
    if closed is not None or (ledger.tombstones and (request_id, edge, ask.tenant, ask.key_id) in ledger.tombstones):
        return Refused("request_cancelled", first_request=request_id, first_state="cancelled")
    return None


def _same(admitted: RequestAdmitted, ask: Reserve, edge: EdgeId) -> bool:
    return (
        admitted.edge == edge
        and admitted.key_id == ask.key_id
        and admitted.body_commitment == ask.body_commitment
        and admitted.reserved.nusd == ask.worst_nusd
        and admitted.reserved.tokens == ask.worst_tokens
    )


def _policy(ledger: Ledger, holds: Holds, ask: Reserve, key: Key, now: DecisionTime) -> Refused | None:
    """Refuse for everything that is not a limit."""
    if key.status != "active":
        return Refused("key_revoked", scope="key")
    if key.expires_at is not None and now.at >= key.expires_at:
        return Refused("key_expired", scope="key")
    if key.tenant.status != "active":
        return Refused("tenant_suspended", scope="tenant")
    if ask.policy_revision != key.revision:
        return Refused("stale_policy", scope="key", may_lag=ask.policy_revision > key.revision)
    if not (0 < len(ask.request_id) <= REQUEST_ID_CHARS_MAX):
        return Refused("request_invalid")
    if not (0 <= ask.worst_nusd <= CAP_MAX and 0 <= ask.worst_tokens <= CAP_MAX and 0 < ask.ttl_ms <= TTL_MS_MAX):
        return Refused("request_invalid")
    if ledger.frozen and (ask.tenant, ask.provider, ask.model) in ledger.frozen:
        return Refused("model_frozen", scope="tenant")
    if ask.idempotency_hash is not None:
        name = idempotency_name(ask.key_id, ask.idempotency_hash)
        first = ledger.idempotency.get(name) or holds.idempotency.get(name)
        if first is not None:
            state = ledger.state_of(first) or "open"
            return Refused("idempotency_conflict", first_request=first, first_state=state)
    return None


def _debit(scope: Scope, worst: Amounts, now: DecisionTime, debits: list[Debit]) -> Refused | None:
    """Add what the request takes at one scope to `debits`; refuse at the first limit that it does not fit."""
    ids = now.ids
    for limit, account in scope.checks:
        number = ids[limit.window]
        amount = worst.of(limit.unit)
        balance = account.windows.get(number)
        used = 0 if balance is None else balance.settled + balance.reserved
        if account.held:
            used += account.held.get(number, 0)
        if used + amount > limit.cap:
            return _refusal(scope, limit, amount, now)
        debits.append(Debit(amount=amount, limit=account.limit, scope=scope.id, window_id=number))
    return None


def _refusal(scope: Scope, limit: Limit, amount: int, now: DecisionTime) -> Refused:
    """Name the limit. Waiting a minute lifts only what is open or counts in that minute, not what can never fit."""
    type_ = "budget_exceeded" if limit.unit == "usd" else _BY_UNIT[limit.unit]
    retry_after_s = now.left_s(limit.window)
    if limit.unit == "usd":
        retry_after_s = 0
    elif amount > limit.cap:
        type_, retry_after_s = "quota_exceeded", 0
    elif limit.unit == "concurrency":
        retry_after_s = CONCURRENCY_RETRY_S
    elif limit.window != "minute":
        type_ = "quota_exceeded"
    return Refused(type_, scope=scope.kind, unit=limit.unit, window=limit.window, retry_after_s=retry_after_s)
