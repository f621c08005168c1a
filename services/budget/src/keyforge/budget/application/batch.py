"""One frame in the making: decides what waits, in order, on the folded state and what earlier decisions hold."""

from datetime import datetime, timedelta
from typing import Final

from keyforge.budget.application.pending import PendingReserve
from keyforge.budget.application.replica import Replica
from keyforge.budget.core.admit import Outcome, Refused, admit
from keyforge.budget.core.decision_time import DecisionTime
from keyforge.budget.core.holds import HeldFrame
from keyforge.budget.core.ledger import BEGINNING
from keyforge.budget.core.overdue import Overdue
from keyforge.contracts import frame
from keyforge.contracts.compression import compress
from keyforge.contracts.events import RequestAdmitted
from keyforge.contracts.frame import FRAME_BYTES_MAX, FRAME_EVENTS_MAX, Recorded

EVENT_BYTES_MAX: Final = 16 * 1024
"""A larger admission is refused. Chosen: an edge's own takes 1 to 2 KiB, and a frame has room for 30 of this size."""
ASKS_MAX: Final = FRAME_EVENTS_MAX - 32
"""Asks in one batch. Chosen: as with ADMISSIONS_BYTES_MAX, a frame keeps room for 32 events that are overdue."""
ADMISSIONS_BYTES_MAX: Final = FRAME_BYTES_MAX - 32 * 1024
"""The rest of a frame is for overdue events: however many ask, requests that others left open come to their end."""
EMPTY_FRAME: Final = b"[]"


class Batch:
    """One frame in the making: the verdicts, in order, and the events that go to the log, admissions first."""

    __slots__ = ("_encoded", "bytes", "events", "frame", "may_lag", "seen", "verdicts")

    def __init__(self, seen: int = 0) -> None:
        self.seen = seen
        """The last message that was folded when it was decided."""
        self.frame = HeldFrame()
        self.may_lag = False
        """Whether an ask names a key or a policy that is newer than the ledger's."""
        self.events: list[Recorded] = []
        self.verdicts: list[tuple[PendingReserve, Outcome]] = []
        self.bytes = 2
        self._encoded: list[bytes] = []

    def add(self, recorded: Recorded, encoded: bytes) -> None:
        """Take an event into the frame."""
        self.events.append(recorded)
        self._encoded.append(encoded)
        self.bytes += len(encoded) + 1

    def body(self) -> bytes:
        """Return the frame. An empty one is stored like any other: its acknowledgement confirms the leadership."""
        return compress(frame.join(self._encoded)) if self._encoded else EMPTY_FRAME

    @property
    def pending(self) -> list[PendingReserve]:
        """What was decided on, to be decided again."""
        return [one for one, _ in self.verdicts]


class BatchBuilder:
    """Makes the batches of one leadership."""

    def __init__(self, replica: Replica, *, source: str, abandon_grace_s: float) -> None:
        self._replica = replica
        self._source = source
        self._overdue = Overdue(timedelta(seconds=abandon_grace_s))
        self._last_at = BEGINNING

    def at(self, now: datetime) -> datetime:
        """Return the time to record: `now`, but never before a recorded time or a broker time that was folded."""
        ledger = self._replica.ledger
        self._last_at = max(now, self._last_at, ledger.last_at, ledger.broker_at)
        return self._last_at

    def decide(self, pending: list[PendingReserve], epoch: int, now: datetime) -> tuple[Batch, list[PendingReserve]]:
        """Decide each ask on the ledger and what those before it hold; return also what the frame could not take."""
        ledger, holds, batch = self._replica.ledger, self._replica.holds, Batch(self._replica.ledger.sequence)
        decision_time = DecisionTime(self.at(now))
        for number, one in enumerate(pending):
            message = one.message
            outcome = admit(ledger, holds, message.asks[one.number], message.edge, epoch=epoch, now=decision_time)
            if isinstance(outcome, RequestAdmitted):
                recorded = Recorded(f"{outcome.request_id}.admitted", self._source, decision_time.at, outcome)
                encoded = frame.encode_one(recorded)
                if len(encoded) > EVENT_BYTES_MAX:
                    outcome = Refused("request_invalid")
                elif batch.bytes + len(encoded) >= ADMISSIONS_BYTES_MAX:
                    return batch, pending[number:]
                else:
                    holds.hold(ledger, outcome, batch.frame)
                    batch.add(recorded, encoded)
            elif isinstance(outcome, Refused):
                batch.may_lag = batch.may_lag or outcome.may_lag
            batch.verdicts.append((one, outcome))
        return batch, []

    def add_overdue(self, batch: Batch, now: datetime) -> None:
        """Add the abandonments and overruns that are due at `now`, as far as there is room."""
        at = self.at(now)
        for event in self._overdue.due(self._replica.ledger, now, FRAME_EVENTS_MAX - len(batch.events)):
            verb = event.TYPE.split(".")[2]
            recorded = Recorded(f"{event.request_id}.{verb}", self._source, at, event)
            encoded = frame.encode_one(recorded)
            if batch.bytes + len(encoded) >= FRAME_BYTES_MAX:
                return
            batch.add(recorded, encoded)

    def stored(self, batch: Batch, sequence: int) -> None:
        """Note that the log stored a batch as message `sequence`."""
        batch.frame.sequence = sequence
        for recorded in batch.events[batch.frame.admissions :]:
            self._overdue.stored(recorded.event)

    def undo(self, batch: Batch) -> None:
        """Release the holds of a batch: it was refused, or folded if it is in the log at all."""
        for recorded in batch.events:
            if isinstance(recorded.event, RequestAdmitted):
                self._replica.holds.release(recorded.event.request_id)
