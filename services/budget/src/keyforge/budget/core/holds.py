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
    takes: tuple[tuple[Account, int], ...]
    sequence: int = 0
    index: int = 0


class Holds:
    """`amounts` by account and window, and the requests and Idempotency-Keys that go with them."""

    __slots__ = ("amounts", "idempotency", "requests")

    def __init__(self) -> None:
        self.amounts: dict[tuple[Account, int], int] = {}
        self.requests: dict[RequestId, Held] = {}
        self.idempotency: dict[str, RequestId] = {}

    def hold(self, ledger: Ledger, admitted: RequestAdmitted) -> None:
        """Count an admission that was just decided on `ledger`."""
        amounts = self.amounts
        debits = iter(admitted.debits)
        takes = []
        for scope in ledger.keys[admitted.key_id].path:
            for (_, account), debit in zip(scope.checks, debits, strict=False):
                take = (account, debit.window_id)
                amounts[take] = amounts.get(take, 0) + debit.amount
                takes.append(take)
        self.requests[admitted.request_id] = Held(admitted, tuple(takes))
        if admitted.idempotency_hash is not None:
            self.idempotency[idempotency_name(admitted.key_id, admitted.idempotency_hash)] = admitted.request_id

    def clear(self) -> None:
        """Hold nothing: we are not the owner any more, and the log alone knows what became of it."""
        self.amounts.clear()
        self.requests.clear()
        self.idempotency.clear()

    def stored(self, request_id: RequestId, sequence: int, index: int) -> None:
        """Note where the log stored an admission."""
        if (held := self.requests.get(request_id)) is not None:
            held.sequence, held.index = sequence, index

    def release(self, request_id: RequestId) -> None:
        """Stop counting an admission: it was folded, or its frame was refused. Nothing if it is not held."""
        held = self.requests.pop(request_id, None)
        if held is None:
            return
        admitted, amounts = held.admitted, self.amounts
        for take, debit in zip(held.takes, admitted.debits, strict=True):
            left = amounts.get(take, 0) - debit.amount
            if left:
                amounts[take] = left
            else:
                amounts.pop(take, None)
        if admitted.idempotency_hash is not None:
            del self.idempotency[idempotency_name(admitted.key_id, admitted.idempotency_hash)]
