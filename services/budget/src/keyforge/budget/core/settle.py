"""How requests end and are forgotten: settlement against balances, and a bounded memory of ends and tombstones."""

from typing import Final

from keyforge.budget.core.ledger import (
    CLOSED_MAX,
    TOMBSTONES_MAX,
    Closed,
    Ledger,
    Request,
    idempotency_name,
)
from keyforge.contracts import settlement
from keyforge.contracts.events import RequestCancelled
from keyforge.contracts.ids import RequestId
from keyforge.contracts.settlement import REMEMBERED_S, TOMBSTONE_DEADLINE_S_MAX, Settled, Terminal
from keyforge.contracts.timing_wheel import BUCKET_S

COMPLETED: Final = Closed("completed")
CANCELLED: Final = Closed("cancelled")
_SUM: Final = (1 << 127) - 1
_WEIGHTS: Final[dict[Terminal, int]] = {"completed": 3, "cancelled": 5, "abandoned": 7}
_NAMED: Final = 11


def settle(ledger: Ledger, request: Request, settled: Settled, *, may_be_repeated: bool = False) -> None:
    """End a request, or replace its abandonment: give its reservation back and keep what it settled at.

    `may_be_repeated`: the agent was asked to send it again, so its name is free, if it cost nothing.
    """
    admitted = request.admitted
    request_id = admitted.request_id
    if ledger.open.pop(request_id, None) is not None:
        for account, balance, debit in zip(request.accounts, request.balances, admitted.debits, strict=True):
            balance.reserved -= debit.amount
            balance.settled += settled.of(account.unit)
            if debit.window_id < account.newest:
                account.close_window(debit.window_id)
    else:
        presumed = settlement.abandoned(admitted.reserved)
        for account, balance in zip(request.accounts, request.balances, strict=True):
            balance.settled += settled.of(account.unit) - presumed.of(account.unit)
    frees = settled.terminal == "cancelled" or (may_be_repeated and not settled.nusd and not settled.tokens)
    close(ledger, request_id, _remembered(ledger, request, settled, frees=frees))


def _remembered(ledger: Ledger, request: Request, settled: Settled, *, frees: bool) -> Closed:
    """Return what is remembered. `frees`: its Idempotency-Key may come again, as it was never dispatched, or was
    answered so and cost nothing."""
    admitted = request.admitted
    name = None
    if admitted.idempotency_hash is not None:
        name = idempotency_name(admitted.key_id, admitted.idempotency_hash)
        if ledger.idempotency.get(name) != admitted.request_id:
            name = None
        elif frees:
            del ledger.idempotency[name]
            name = None
    if settled.terminal == "abandoned":
        return Closed("abandoned", name, request)
    if name is not None:
        return Closed(settled.terminal, name)
    return COMPLETED if settled.terminal == "completed" else CANCELLED


def close(ledger: Ledger, request_id: RequestId, closed: Closed) -> None:
    """Remember the end of a request, in place of an earlier one."""
    before = ledger.closed.get(request_id)
    change = _term(request_id, closed) - (_term(request_id, before) if before else 0)
    ledger.closed_sum = (ledger.closed_sum + change) % _SUM
    ledger.closed[request_id] = closed


def _term(request_id: RequestId, closed: Closed) -> int:
    """Return one summand of `closed_sum`: a checksum of a set that costs the same however large the set is.

    It finds replicas that differ by accident; ids are random, and it is not made to resist anyone who chooses them.
    """
    weight = _WEIGHTS[closed.terminal] + (_NAMED if closed.idempotency is not None else 0)
    return int.from_bytes(request_id.encode(), "big") * weight


def remember_cancel(ledger: Ledger, event: RequestCancelled, sequence: int) -> None:
    """Keep a cancel that comes before its admission, which then counts for nothing. Later copies change nothing."""
    tombstone = settlement.tombstone_of(event)
    if tombstone not in ledger.tombstones:
        latest_s = int(ledger.broker_at.timestamp()) + TOMBSTONE_DEADLINE_S_MAX
        ledger.tombstones[tombstone] = sequence
        ledger.tombstone_deadlines.add(min(int(event.deadline.timestamp()), latest_s), tombstone)


def forget(ledger: Ledger) -> None:
    """Forget what is a day past its deadline by the broker's time; past a bound the oldest goes early.

    No abandonment goes early: a completion may still replace what it presumed, here and in audit alike.
    """
    oldest_s = int(ledger.broker_at.timestamp()) - REMEMBERED_S
    _forget_requests(ledger, ledger.deadlines.take(oldest_s))
    _forget_requests(ledger, ledger.abandoned_deadlines.take(oldest_s))
    _forget_tombstones(ledger, oldest_s)
    if len(ledger.closed) > CLOSED_MAX and (first_s := ledger.deadlines.first_s()) is not None:
        early: list[RequestId] = []
        for request_id in ledger.deadlines.take(first_s + BUCKET_S):
            closed = ledger.closed.get(request_id)
            if closed is not None and closed.terminal == "abandoned":
                ledger.abandoned_deadlines.add(first_s, request_id)
            else:
                early.append(request_id)
        _forget_requests(ledger, early)
    if len(ledger.tombstones) > TOMBSTONES_MAX and (first_s := ledger.tombstone_deadlines.first_s()) is not None:
        _forget_tombstones(ledger, first_s + BUCKET_S)


def _forget_requests(ledger: Ledger, request_ids: list[RequestId]) -> None:
    """Forget these ends. An open request stays, whatever its age."""
    for request_id in request_ids:
        closed = ledger.closed.pop(request_id, None)
        if closed is None:
            if request_id in ledger.open:
                ledger.deadlines.add(int(ledger.broker_at.timestamp()), request_id)
            continue
        ledger.closed_sum = (ledger.closed_sum - _term(request_id, closed)) % _SUM
        if closed.idempotency is not None:
            del ledger.idempotency[closed.idempotency]


def _forget_tombstones(ledger: Ledger, until_s: int) -> None:
    for tombstone in ledger.tombstone_deadlines.take(until_s):
        ledger.tombstones.pop(tombstone, None)
