"""What the owner has admitted and not folded yet, counted beside the ledger while its frame is appended and read back.

A hold counts against every limit like a reservation. It is released when the ledger folds its admission, or at once
when the server refuses the frame: the ledger itself was not changed, so undoing is exact.
"""

import msgspec

from keyforge.budget.core.accounts import Account
from keyforge.budget.core.ledger import Ledger, idempotency_name
from keyforge.contracts.events import RequestAdmitted
from keyforge.contracts.ids import RequestId


class HeldFrame(msgspec.Struct, eq=False):
    """A frame on its way: how many admissions are in it, and which message it became (0: not known yet)."""

    admissions: int = 0
    sequence: int = 0


class Hold(msgspec.Struct, eq=False):
    """One admission on its way."""

    admitted: RequestAdmitted
    accounts: tuple[Account, ...]
    frame: HeldFrame
    place: int

    @property
    def sequence(self) -> int:
        """The message that it is in; 0 while not known."""
        return self.frame.sequence

    @property
    def index(self) -> int:
        """Its place in that message."""
        return self.place if self.frame.sequence else 0


class Holds:
    """The admissions on their way and their Idempotency-Keys; their amounts are in `Account.held`."""

    __slots__ = ("idempotency", "requests")

    def __init__(self) -> None:
        self.requests: dict[RequestId, Hold] = {}
        self.idempotency: dict[str, RequestId] = {}

    def hold(self, ledger: Ledger, admitted: RequestAdmitted, frame: HeldFrame) -> None:
        """Count an admission that was just decided on `ledger`, the next one of its frame."""
        accounts = [account for scope in ledger.keys[admitted.key_id].path for _, account in scope.checks]
        for account, debit in zip(accounts, admitted.debits, strict=True):
            held, number = account.held, debit.window_id
            held[number] = held.get(number, 0) + debit.amount
        self.requests[admitted.request_id] = Hold(admitted, tuple(accounts), frame, frame.admissions)
        frame.admissions += 1
        if admitted.idempotency_hash is not None:
            self.idempotency[idempotency_name(admitted.key_id, admitted.idempotency_hash)] = admitted.request_id

    def clear(self) -> None:
        """Release all: this process is not the owner any more, and only the log shows what was stored."""
        for request_id in list(self.requests):
            self.release(request_id)

    def release(self, request_id: RequestId) -> None:
        """Stop counting an admission: it was folded, or its frame was refused. Does nothing if it is not held."""
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
