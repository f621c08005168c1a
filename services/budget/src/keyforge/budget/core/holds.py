"""What the owner has admitted and not folded yet: laid over the ledger while its frame is appended and read back.

A hold counts against every limit like a reservation. It goes when the ledger folds its admission, or at once when the
server refuses the frame: the ledger itself was never touched, so undoing is exact.
"""

import msgspec

from keyforge.budget.core.accounts import Account
from keyforge.budget.core.ledger import Ledger, idempotency_name
from keyforge.contracts.events import RequestAdmitted
from keyforge.contracts.ids import RequestId


class Held(msgspec.Struct, eq=False):
    """One admission on its way; `sequence` is 0 until the log acknowledged its frame."""

    admitted: RequestAdmitted
    accounts: tuple[Account, ...]
    sequence: int = 0
    index: int = 0


class Holds:
    """The admissions on their way and their Idempotency-Keys; their amounts are in `Account.held`."""

    __slots__ = ("idempotency", "requests")

    def __init__(self) -> None:
        self.requests: dict[RequestId, Held] = {}
        self.idempotency: dict[str, RequestId] = {}

    def hold(self, ledger: Ledger, admitted: RequestAdmitted) -> None:
        """Count an admission that was just decided on `ledger`."""
        accounts = [account for scope in ledger.keys[admitted.key_id].path for _, account in scope.checks]
        for account, debit in zip(accounts, admitted.debits, strict=True):
            held, number = account.held, debit.window_id
            held[number] = held.get(number, 0) + debit.amount
        self.requests[admitted.request_id] = Held(admitted, tuple(accounts))
        if admitted.idempotency_hash is not None:
            self.idempotency[idempotency_name(admitted.key_id, admitted.idempotency_hash)] = admitted.request_id

    def clear(self) -> None:
        """Hold nothing: we are not the owner any more, and the log alone knows what became of it."""
        for request_id in list(self.requests):
            self.release(request_id)

    def stored(self, request_id: RequestId, sequence: int, index: int) -> None:
        """Note where the log stored an admission."""
        if (held := self.requests.get(request_id)) is not None:
            held.sequence, held.index = sequence, index

    def release(self, request_id: RequestId) -> None:
        """Stop counting an admission: it was folded, or its frame was refused. Nothing if it is not held."""
        held = self.requests.pop(request_id, None)
        if held is None:
            return
        admitted = held.admitted
        for account, debit in zip(held.accounts, admitted.debits, strict=True):
            amounts, number = account.held, debit.window_id
            left = amounts.get(number, 0) - debit.amount
            if left:
                amounts[number] = left
            else:
                amounts.pop(number, None)
        if admitted.idempotency_hash is not None:
            del self.idempotency[idempotency_name(admitted.key_id, admitted.idempotency_hash)]
