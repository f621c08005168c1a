"""The state of one partition: who may spend what, what is set aside, what ended; folded from the log alone.

It changes in `evolve` alone, strictly in the order of the log. So every replica that stands at the same position has
the same state, which `state_hash` shows. What the owner has admitted and not folded yet is in `holds`, never here.
"""

from datetime import UTC, datetime
from typing import Final

import msgspec

from keyforge.budget.core.accounts import Account, Balance, Scope
from keyforge.contracts.events import KeyStatus, RequestAdmitted
from keyforge.contracts.ids import KeyId, ModelName, OwnerId, ProviderId, RequestId, TenantId
from keyforge.contracts.limits import Amounts
from keyforge.contracts.settlement import Terminal, Tombstone
from keyforge.contracts.timing_wheel import TimingWheel

CLOSED_MAX: Final = 1_000_000
"""Ends remembered at once; beyond it the oldest are forgotten early, on every replica alike.

Chosen: about 200 bytes each, so 200 MB a partition at most.
"""
TOMBSTONES_MAX: Final = 100_000
"""Cancels remembered that came before their admission; beyond it the oldest are forgotten, in audit alike. Chosen: an
admission that its cancel overtook follows within 4 s (an ask waits for 2 at most, its append takes 2), so the oldest
have done their work unless edges cancel 25,000 requests a second."""
OVERRUNS_MAX: Final = 10_000
"""Overruns that wait for their event; beyond it the oldest goes unreported, though charged and its model frozen.
Chosen: an owner reports up to 256 of them every half second, so these take 20 s."""

BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Tenant(msgspec.Struct, eq=False):
    """Who pays."""

    id: TenantId
    status: str
    revision: int
    scope: Scope


class Key(msgspec.Struct, eq=False):
    """Who calls. `path` holds the scopes that one request debits, in the order in which a refusal names them."""

    id: KeyId
    tenant: Tenant
    status: KeyStatus
    revision: int
    expires_at: datetime | None
    scope: Scope
    path: tuple[Scope, ...]


def path_of(key_scope: Scope, tenant: Tenant) -> tuple[Scope, ...]:
    """Return the scopes that one request debits, in the order in which they are checked: the key, its tenant."""
    return (key_scope, tenant.scope)


class Request(msgspec.Struct, eq=False):
    """An open request: its admission, where that stands in the log, and where each debit went."""

    admitted: RequestAdmitted
    sequence: int
    index: int
    accounts: tuple[Account, ...]
    balances: tuple[Balance, ...]


class Closed(msgspec.Struct, eq=False):
    """The end of a request. `idempotency` names its entry there; an abandoned one keeps what a completion needs."""

    terminal: Terminal
    idempotency: str | None = None
    request: Request | None = None


class Overrun(msgspec.Struct, frozen=True):
    """A completion beyond its reservation that the owner has yet to report."""

    admitted: RequestAdmitted
    settled: Amounts


class Ledger:
    """One partition. `sequence` is the last message folded, `ctl_sequence` the last of them on the control clock.

    The `…deadlines` hold what is to be forgotten some time after them: requests, abandoned ones that stay longer, and
    tombstones.
    """

    __slots__ = (
        "abandoned_deadlines",
        "broker_at",
        "closed",
        "closed_sum",
        "ctl_sequence",
        "deadlines",
        "epoch",
        "fence_sequence",
        "frozen",
        "idempotency",
        "keys",
        "last_at",
        "open",
        "overruns",
        "owner",
        "partition",
        "sequence",
        "tenants",
        "tombstone_deadlines",
        "tombstones",
    )

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.sequence = 0
        self.ctl_sequence = 0
        self.fence_sequence = 0
        self.epoch = 0
        self.owner: OwnerId | None = None
        self.last_at = BEGINNING
        self.broker_at = BEGINNING
        self.tenants: dict[TenantId, Tenant] = {}
        self.keys: dict[KeyId, Key] = {}
        self.open: dict[RequestId, Request] = {}
        self.closed: dict[RequestId, Closed] = {}
        self.closed_sum = 0
        self.idempotency: dict[str, RequestId] = {}
        self.tombstones: dict[Tombstone, int] = {}
        self.frozen: set[tuple[TenantId, ProviderId, ModelName]] = set()
        self.overruns: dict[RequestId, Overrun] = {}
        self.deadlines: TimingWheel[RequestId] = TimingWheel()
        self.abandoned_deadlines: TimingWheel[RequestId] = TimingWheel()
        self.tombstone_deadlines: TimingWheel[Tombstone] = TimingWheel()

    def state_of(self, request_id: RequestId) -> str:
        """Return "open", a terminal, or "" for a request that is not known (any more)."""
        if request_id in self.open:
            return "open"
        closed = self.closed.get(request_id)
        return closed.terminal if closed else ""


def idempotency_name(key_id: KeyId, idempotency_hash: str) -> str:
    """Return the name under which a key's Idempotency-Key is remembered."""
    return f"{key_id} {idempotency_hash}"
