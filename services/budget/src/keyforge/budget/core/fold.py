"""Folds one message of the log into a ledger: all of it, or nothing where that might admit too much.

On `adm` and `ctl`, which change what may be admitted, a frame or an event that this version does not know ends the fold
before that message: a newer writer is in the log, and to pass over what it wrote would count too little. On `use`, and
for a known event on the subject of another writer, the event is rejected and the fold goes on.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from keyforge.budget.core.accounts import Account, accounts_of
from keyforge.budget.core.evolve import KNOWN, EventOrigin, evolve
from keyforge.budget.core.ledger import Ledger
from keyforge.budget.core.settle import forget
from keyforge.contracts.events import KeyCreated, KeyUpdated, RequestAdmitted, TenantCreated, TenantUpdated
from keyforge.contracts.frame import FrameError, Recorded, Unread, edge_of, writer_of
from keyforge.contracts.limits import Debit

FAIL_CLOSED: Final = frozenset(("adm", "ctl"))
"""The writers whose subjects decide what may be admitted."""
LIMITED: Final = (TenantCreated, TenantUpdated, KeyCreated, KeyUpdated)
"""The events that put limits in force."""
TEXT_CHARS_MAX: Final = 200
"""What is shown of a text that stands in the log. Chosen: three times an id of ours (64 characters): enough to find it
there."""


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """An event that changed nothing and should have, and why: a fault or a forgery."""

    sequence: int
    index: int
    type: str
    why: str


class Halt(msgspec.Struct, frozen=True, gc=False):
    """What must not be folded, and so ends the fold. The ledger is as it was after the message before."""

    sequence: int
    index: int
    subject: str
    why: str

    def __str__(self) -> str:
        """Return it as operators read it."""
        return f"{self.why} at {self.sequence}.{self.index} on {self.subject}"


def fold(
    ledger: Ledger, sequence: int, subject: str, at: datetime, events: Sequence[Recorded | Unread] | FrameError
) -> list[Rejected] | Halt:
    """Fold one message; `at` is the broker's time of it, `events` a FrameError if it is no frame.

    Returns the events that were rejected, or what must not be folded.
    """
    writer = writer_of(subject)
    rejected: list[Rejected] = []
    accounts: list[tuple[Account, ...]] = []
    if isinstance(events, FrameError):
        why = f"unreadable frame ({str(events)[:TEXT_CHARS_MAX]})"
        if writer in FAIL_CLOSED:
            return Halt(sequence, 0, subject, why)
        rejected, events = [Rejected(sequence, 0, "frame", why)], ()
    elif writer in FAIL_CLOSED:
        checked = _check(ledger, sequence, subject, events)
        if isinstance(checked, Halt):
            return checked
        accounts = checked
    edge = edge_of(subject)
    for index, recorded in enumerate(events):
        if isinstance(recorded, Unread):
            rejected.append(Rejected(sequence, index, recorded.type, recorded.why))
            continue
        origin = EventOrigin(sequence, index, edge, accounts[index] if accounts else ())
        if (why_not := evolve(ledger, recorded, origin)) is not None:
            rejected.append(Rejected(sequence, index, recorded.event.TYPE, why_not))
    ledger.sequence = sequence
    if writer == "ctl":
        ledger.ctl_sequence = sequence
    if at > ledger.broker_at:
        ledger.broker_at = at
        forget(ledger)
    return rejected


def _check(
    ledger: Ledger, sequence: int, subject: str, events: Sequence[Recorded | Unread]
) -> list[tuple[Account, ...]] | Halt:
    """Return the accounts that each event debits, or the first event that must not be folded.

    All are looked at before the first is folded: what a frame of admissions may debit, earlier frames decided.
    """
    accounts: list[tuple[Account, ...]] = []
    for index, recorded in enumerate(events):
        debited: tuple[Account, ...] = ()
        if isinstance(recorded, Unread):
            if recorded.fault != "wrong_subject":  # what that one says, no version folds here
                why = "unknown event" if recorded.fault == "unknown_type" else "unreadable event"
                return Halt(sequence, index, subject, f"{why} {recorded.type[:TEXT_CHARS_MAX]}")
        elif isinstance(event := recorded.event, RequestAdmitted):
            if (key := ledger.keys.get(event.key_id)) is not None:
                found = accounts_of(key.path, event.debits)
                if isinstance(found, Debit):
                    named = f"{found.limit} at scope {found.scope}"[:TEXT_CHARS_MAX]
                    return Halt(sequence, index, subject, f"debit of an unknown limit ({named})")
                debited = found
        elif isinstance(event, LIMITED):
            for limit in event.limits:
                if not limit.known:
                    return Halt(sequence, index, subject, f"unknown limit {limit.id[:TEXT_CHARS_MAX]}")
        elif type(event) not in KNOWN:
            return Halt(sequence, index, subject, f"unknown event {event.TYPE}")
        accounts.append(debited)
    return accounts
