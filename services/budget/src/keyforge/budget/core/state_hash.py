"""One hash of a whole ledger: equal on every replica at the same position of the log."""

import hashlib
from typing import Any, Final

import msgspec

from keyforge.budget.core.accounts import Scope
from keyforge.budget.core.ledger import Ledger

_ENCODER: Final = msgspec.json.Encoder()


def state_hash(ledger: Ledger) -> str:
    """Return hex SHA-256 over the state in one canonical order. Cost grows with tenants, keys and open requests.

    Remembered ends are in it as one sum, kept up to date as they come and go, since there may be a million.
    """
    state: list[Any] = [
        [ledger.partition, ledger.sequence, ledger.ctl_sequence, ledger.fence_sequence, ledger.epoch, ledger.owner],
        [ledger.last_at, ledger.broker_at],
        [[t.id, t.status, t.revision, _scope(t.scope)] for _, t in sorted(ledger.tenants.items())],
        [
            [k.id, k.tenant.id, k.status, k.revision, k.expires_at, _scope(k.scope)]
            for _, k in sorted(ledger.keys.items())
        ],
        [[request.admitted, request.sequence, request.index] for _, request in sorted(ledger.open.items())],
        [len(ledger.closed), f"{ledger.closed_sum:032x}"],
        sorted(ledger.idempotency.items()),
        sorted(ledger.tombstones.items()),
        sorted(ledger.frozen),
        sorted((request_id, overrun.settled.nusd) for request_id, overrun in ledger.overruns.items()),
    ]
    return hashlib.sha256(_ENCODER.encode(state)).hexdigest()


def _scope(scope: Scope) -> list[Any]:
    return [
        [limit for limit, _ in scope.checks],
        [
            [limit, account.newest, sorted((w, b.settled, b.reserved) for w, b in account.windows.items())]
            for limit, account in sorted(scope.accounts.items())
            if account.windows
        ],
    ]
