"""Drafts of frames: decides what waits, in order, on the folded state and what earlier decisions hold."""

from datetime import datetime, timedelta
from typing import Final

from keyforge.budget.application.pending import Waiting
from keyforge.budget.application.replica import Follower
from keyforge.budget.core.admit import Outcome, Refused, admit
from keyforge.budget.core.broker_clock import Moment
from keyforge.budget.core.holds import Frame
from keyforge.budget.core.ledger import BEGINNING
from keyforge.budget.core.overdue import Duties
from keyforge.contracts import frame
from keyforge.contracts.events import RequestAdmitted
from keyforge.contracts.frame import FRAME_BYTES_MAX, FRAME_EVENTS_MAX, Recorded

EVENT_BYTES_MAX: Final = 16 * 1024
"""An admission larger than this comes of an ask that is no honest one."""
ASKS_MAX: Final = FRAME_EVENTS_MAX - 32
ADMISSIONS_BYTES_MAX: Final = FRAME_BYTES_MAX - 32 * 1024
"""What is left of a frame is for duties: however many ask, what others left open comes to its end."""
EMPTY_FRAME: Final = b"[]"


class Draft:
    """One frame in the making: the verdicts, in order, and the events that go to the log, admissions first."""

    __slots__ = ("_encoded", "behind", "bytes", "events", "frame", "seen", "verdicts")

    def __init__(self, seen: int = 0) -> None:
        self.seen = seen
        """The last message that was folded when it was decided."""
        self.frame = Frame()
        self.behind = False
        """Whether an ask knows more of a policy than we do."""
        self.events: list[Recorded] = []
        self.verdicts: list[tuple[Waiting, Outcome]] = []
        self.bytes = 2
        self._encoded: list[bytes] = []

    def add(self, recorded: Recorded, encoded: bytes) -> None:
        """Take an event into the frame."""
        self.events.append(recorded)
        self._encoded.append(encoded)
        self.bytes += len(encoded) + 1

    def body(self) -> bytes:
        """Return the frame; an empty one is stored like any other and tells that we still own the partition."""
        return frame.join(self._encoded) if self._encoded else EMPTY_FRAME

    @property
    def waiting(self) -> list[Waiting]:
        """What was decided on, to be decided again."""
        return [one for one, _ in self.verdicts]


class Drafter:
    """Makes drafts for one tenure."""

    def __init__(self, follower: Follower, *, source: str, abandon_grace_s: float) -> None:
        self._follower = follower
        self._source = source
        self._duties = Duties(timedelta(seconds=abandon_grace_s))
        self._last_at = BEGINNING

    def at(self, now: datetime) -> datetime:
        """Return the time to record: never behind what was recorded before, or what the broker's clock has shown."""
        ledger = self._follower.ledger
        self._last_at = max(now, self._last_at, ledger.last_at, ledger.broker_at)
        return self._last_at

    def decide(self, waiting: list[Waiting], epoch: int, now: datetime) -> tuple[Draft, list[Waiting]]:
        """Decide each ask on the ledger and what those before it hold; return also what the frame could not take."""
        ledger, holds, draft = self._follower.ledger, self._follower.holds, Draft(self._follower.ledger.sequence)
        moment = Moment(self.at(now))
        for number, one in enumerate(waiting):
            call = one.call
            outcome = admit(ledger, holds, call.asks[one.number], call.edge, epoch=epoch, now=moment)
            if isinstance(outcome, RequestAdmitted):
                recorded = Recorded(f"{outcome.request_id}.admitted", self._source, moment.at, outcome)
                encoded = frame.encode_one(recorded)
                if len(encoded) > EVENT_BYTES_MAX:
                    outcome = Refused("request_invalid")
                elif draft.bytes + len(encoded) >= ADMISSIONS_BYTES_MAX:
                    return draft, waiting[number:]
                else:
                    holds.hold(ledger, outcome, draft.frame)
                    draft.add(recorded, encoded)
            elif isinstance(outcome, Refused):
                draft.behind = draft.behind or outcome.behind
            draft.verdicts.append((one, outcome))
        return draft, []

    def add_duties(self, draft: Draft, now: datetime) -> None:
        """Add the abandonments and overruns that are due at `now`, as far as there is room."""
        at = self.at(now)
        for event in self._duties.due(self._follower.ledger, now, FRAME_EVENTS_MAX - len(draft.events)):
            verb = event.TYPE.split(".")[2]
            recorded = Recorded(f"{event.request_id}.{verb}", self._source, at, event)
            encoded = frame.encode_one(recorded)
            if draft.bytes + len(encoded) >= FRAME_BYTES_MAX:
                return
            draft.add(recorded, encoded)

    def stored(self, draft: Draft, sequence: int) -> None:
        """Take note that the log stored a draft as message `sequence`."""
        draft.frame.sequence = sequence
        for recorded in draft.events[draft.frame.admissions :]:
            self._duties.said(recorded.event)

    def undo(self, draft: Draft) -> None:
        """Hold nothing of a draft any more: it was refused, or what became of it was folded."""
        for recorded in draft.events:
            if isinstance(recorded.event, RequestAdmitted):
                self._follower.holds.release(recorded.event.request_id)
