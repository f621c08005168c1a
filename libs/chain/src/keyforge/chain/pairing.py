"""Which records of a chain belong to one request, and what each of them moves.

The rules are those of the fold that makes the chain (`audit.core.requests`), as far as one chain shows them. A request
is known by its id as text. Where a body is erased only the 16 bytes of the header are known, and they are compared.
"""

from collections import deque
from enum import IntEnum
from typing import Final, NamedTuple

import msgspec

from keyforge.chain.memory import COPIES_S, TOMBSTONES_MAX, Memory, Remembered
from keyforge.chain.record import AMOUNT_MAX, Header, held
from keyforge.chain.rules import Broken, RecordRule
from keyforge.contracts import settlement
from keyforge.contracts.events import RequestAbandoned, RequestAdmitted, RequestCancelled, RequestCompleted
from keyforge.contracts.limits import CAP_MAX, Amounts
from keyforge.contracts.settlement import REMEMBERED_S, TOMBSTONE_DEADLINE_S_MAX
from keyforge.contracts.timing_wheel import BUCKET_S, TimingWheel
from keyforge.contracts.usage import UnitPrices

ENDED_MAX: Final = 20_000
"""Ends of the last COPIES_S that are remembered; with more the oldest are forgotten, and an id that comes again is not
counted as unproven. Measured: 520 bytes each, 10 MB."""
LASTING_MAX: Final = 100_000
"""Abandonments, which a completion may still replace; with more the oldest are forgotten. Chosen: an edge that dies
leaves 5,000 requests open or fewer; so twenty such deaths on one key within a day."""
CANCELS_MAX: Final = 2 * TOMBSTONES_MAX
"""Cancels before their admission; with more those that are due first are forgotten. Chosen: twice what the fold
remembers of its whole log, which goes over its bound by one message."""


class State(IntEnum):
    """Where a request is. ENDED_OR_OPEN: its cancel came before it, and whether the fold still knew of that cancel does
    not show, since it reserved nothing or the total is too large for a header."""

    OPEN = 0
    ABANDONED = 1
    ENDED = 2
    ENDED_OR_OPEN = 3
    GONE = 4


_OPEN, _ABANDONED, _ENDED, _UNSURE, _GONE = State


class Movement(NamedTuple):
    """What a record must show as its amount, and what it adds to the totals. None: not known, its body or the
    admission's is erased."""

    amount: int | None
    settled: int | None = 0
    reserved: int | None = 0


NOTHING: Final = Movement(0)
_NEVER_S: Final = 2**63
_UNKNOWN_S: Final = -1


class _Request(msgspec.Struct, eq=False, gc=False):
    state: State
    id: bytes
    text: str | None
    edge: str | None
    reserved: int | None
    prices: UnitPrices | None
    forgotten_s: int | None
    """When its abandonment is forgotten."""
    first_due_s: int = _NEVER_S
    """The first and the last time at which the fold forgets this id, unless it is open then: what is due of earlier
    ends stays due. _UNKNOWN_S and _NEVER_S if one of these times is not known."""
    last_due_s: int = 0
    end: Remembered | None = None
    doubtful: bool = False
    """In ENDED_OR_OPEN: whether it is open only if its cancel was forgotten early."""
    lasting: bool = False
    """Whether it is among the abandonments, or was."""
    other: "_Request | None" = None
    """One of another id as text with the same 16 bytes."""


class _Cancel(msgspec.Struct, eq=False, gc=False):
    id: bytes
    text: str | None
    edge: str | None
    memory: Remembered


class Requests:
    """The requests of one chain: those that are open, and those whose end the fold may still remember."""

    __slots__ = ("_cancelled", "_cancels", "_cancels_due", "_ended", "_known", "_lasting", "_memory", "open")

    def __init__(self, memory: Memory) -> None:
        self.open = 0
        self._memory = memory
        self._known: dict[bytes, _Request] = {}
        self._ended: deque[_Request] = deque()
        self._lasting: deque[_Request] = deque()
        self._cancels: dict[bytes, list[_Cancel]] = {}
        self._cancels_due: TimingWheel[_Cancel] = TimingWheel()
        self._cancelled = 0

    def admitted(self, header: Header, event: RequestAdmitted | None, before: int | None) -> Movement | Broken:
        """Open a request, or end it at once if its cancel came before. `before`: what was reserved, None: not known."""
        id_ = header.request_id
        text = None if event is None else event.request_id
        if (known := self._find(id_, text)) is not None:
            if known.state is _OPEN:
                return Broken(RecordRule.ADMISSION, "the request is admitted already and open")
            if known.end is not None and not self._memory.may_be_gone(known.end):
                return Broken(RecordRule.ADMISSION, "the request is admitted again before its end can be forgotten")
            self._drop(known)
        if event is None:
            request = _Request(_OPEN, id_, None, None, _exact(header.amount_nusd), None, None)
        else:
            forgotten_s = int(event.deadline.timestamp()) + REMEMBERED_S
            request = _Request(_OPEN, id_, text, event.edge, event.reserved.nusd, event.prices, forgotten_s)
        if known is not None and not self._is_past(known):
            request.first_due_s, request.last_due_s = known.first_due_s, known.last_due_s
        request.other = self._known.get(id_)
        self._known[id_] = request
        if self._cancels and (cancel := self._cancel(id_, text, request.edge)) is not None:
            return self._admitted_after(cancel, request, header, before)
        self.open += 1
        return Movement(request.reserved, 0, request.reserved)

    def _admitted_after(
        self, cancel: _Cancel, request: _Request, header: Header, before: int | None
    ) -> Movement | Broken:
        """Its cancel is on record: either the fold knew of it, and nothing moves, or had forgotten it."""
        reserved, shown = request.reserved, header.reserved_nusd
        ended = before is None or held(before) == shown
        opened = before is None or reserved is None or held(before + reserved) == shown
        if ended and opened:
            request.doubtful = self._memory.is_early(cancel.memory)
            self._end(request, _UNSURE)
            return Movement(reserved, 0, 0 if reserved == 0 else None)
        if ended:
            self._end(request, _ENDED)
            self._memory.kept(cancel.memory.due_s)
            return Movement(reserved, 0, 0)
        self.open += 1
        if opened and not self._memory.may_be_gone(cancel.memory):
            return Broken(RecordRule.ADMISSION, "the request was cancelled before, and reserves all the same")
        return Movement(reserved, 0, reserved)

    def completed(self, header: Header, event: RequestCompleted | None) -> Movement | Broken:
        """Settle a request, or replace what its abandonment presumed."""
        request = self._find(header.request_id, None if event is None else event.request_id)
        if request is None or request.state is _ENDED:
            return Broken(RecordRule.TERMINAL, "the request that it completes is not open")
        if event is not None and request.edge is not None and event.edge != request.edge:
            return Broken(RecordRule.EDGE, f"completed by {event.edge}, admitted for {request.edge}")
        reserved = request.reserved
        amount = self._cost(header, event, request)
        if isinstance(amount, Broken):
            return amount
        exact = amount if amount is not None else _exact(header.amount_nusd)
        if request.state is _ABANDONED:
            self._memory.kept(request.forgotten_s)
            self._end(request, _ENDED)
            return Movement(amount, None if exact is None or reserved is None else exact - reserved)
        return Movement(amount, exact, self._released(request))

    def _cost(self, header: Header, event: RequestCompleted | None, request: _Request) -> int | Broken | None:
        """Return what a completion must cost; None where a body is erased, and what the header shows can be."""
        reserved, prices = request.reserved, request.prices
        if event is not None:
            if event.usage is None:
                return reserved
            if prices is not None:
                return settlement.completed(event.usage, prices, Amounts(nusd=0, tokens=0)).nusd
        shown = header.amount_nusd
        if 0 <= shown <= CAP_MAX or (event is None and (reserved is None or shown == held(reserved))):
            return None
        return Broken(RecordRule.AMOUNT, f"the amount is {shown}, which no completion of the request costs")

    def abandoned(self, header: Header, event: RequestAbandoned | None) -> Movement | Broken:
        """Settle an open request at what it reserved."""
        request = self._find(header.request_id, None if event is None else event.request_id)
        if request is None or request.state in (_ENDED, _ABANDONED):
            return Broken(RecordRule.TERMINAL, "the request that it abandons is not open")
        reserved = request.reserved
        released = self._released(request, _ABANDONED)
        return Movement(reserved, reserved, released)

    def cancelled(self, header: Header, event: RequestCancelled | None) -> Movement | Broken:
        """End an open request at nothing, or remember the cancel for an admission that comes later."""
        id_ = header.request_id
        text, edge = (None, None) if event is None else (event.request_id, event.edge)
        if (request := self._find(id_, text)) is not None:
            other_edge = edge is not None and request.edge is not None and edge != request.edge
            if request.state is _OPEN and other_edge:
                return Broken(RecordRule.EDGE, f"cancelled by {edge}, admitted for {request.edge}")
            if request.state is _OPEN or (request.state is _UNSURE and not other_edge):
                return Movement(0, 0, self._released(request))
            if request.end is not None and not self._memory.may_be_gone(request.end):
                return Broken(RecordRule.TERMINAL, "the request has ended before it is cancelled")
            request.state, request.end = _ENDED, None  # forgotten: only what is due of its id is known of it
        if (before := self._cancel(id_, text, edge)) is not None and not self._memory.may_be_gone(before.memory):
            return Broken(RecordRule.TERMINAL, "the request is cancelled twice")
        self._remember_cancel(id_, text, edge, None if event is None else int(event.deadline.timestamp()))
        return NOTHING

    def _remember_cancel(self, id_: bytes, text: str | None, edge: str | None, deadline_s: int | None) -> None:
        latest_s = self._memory.now_s + TOMBSTONE_DEADLINE_S_MAX
        due_s = (latest_s if deadline_s is None else min(deadline_s, latest_s)) + REMEMBERED_S
        cancel = _Cancel(id_, text, edge, self._memory.until(due_s, at_once=True))
        self._cancels.setdefault(id_, []).append(cancel)
        self._cancels_due.add(due_s, cancel)
        self._cancelled += 1
        if self._cancelled > CANCELS_MAX and (first_s := self._cancels_due.first_s()) is not None:
            for old in self._cancels_due.take(first_s + BUCKET_S):
                self._cancelled -= 1
                self._cancels[old.id].remove(old)
                if not self._cancels[old.id]:
                    del self._cancels[old.id]

    def _cancel(self, id_: bytes, text: str | None, edge: str | None) -> _Cancel | None:
        """Return the last cancel of this request by this edge that came before its admission."""
        for cancel in reversed(self._cancels.get(id_, ())):
            if _alike(text, cancel.text) and _alike(edge, cancel.edge):
                return cancel
        return None

    def _released(self, request: _Request, state: State = State.ENDED) -> int | None:
        """End an open request; return what that takes from the reserved."""
        reserved = request.reserved
        if request.state is _UNSURE:
            self._memory.unproven += request.doubtful
            self._end(request, state)
            return 0 if reserved == 0 else None
        self.open -= 1
        self._end(request, state)
        return None if reserved is None else -reserved

    def _end(self, request: _Request, state: State) -> None:
        """Remember how a request ended as long as the fold may, within bounds."""
        memory = self._memory
        request.state = state
        due_s = request.forgotten_s if state is _ABANDONED else memory.now_s + COPIES_S
        if due_s is None:
            request.first_due_s, request.last_due_s = _UNKNOWN_S, _NEVER_S
        else:
            request.first_due_s = min(request.first_due_s, due_s)
            request.last_due_s = max(request.last_due_s, due_s)
        first_s = request.first_due_s
        request.end = memory.until(None if first_s == _UNKNOWN_S else first_s)
        if state is _ENDED:
            request.prices = request.edge = None
        if state is not _ENDED or request.last_due_s > memory.now_s + COPIES_S:
            if not request.lasting:
                request.lasting = True
                self._lasting.append(request)
            self._forget(self._lasting, LASTING_MAX)
        elif not request.lasting:
            self._ended.append(request)
        self._forget(self._ended, ENDED_MAX)

    def _forget(self, ends: deque[_Request], many: int) -> None:
        """Forget the oldest ends, if they prove nothing any more or are more than `many`."""
        while ends and (len(ends) > many or (ends[0].state in (_ENDED, _GONE) and self._is_past(ends[0]))):
            if (oldest := ends.popleft()).state is not _GONE:
                self._drop(oldest)

    def _is_past(self, request: _Request) -> bool:
        """Return whether the end of a request, and all that is due of its id, proves nothing any more."""
        end, due_s = request.end, request.last_due_s
        return self._memory.past(due_s) if end is None else self._memory.gone(end, due_s)

    def _find(self, id_: bytes, text: str | None) -> _Request | None:
        found = self._known.get(id_)
        while found is not None and text is not None and found.text is not None and found.text != text:
            found = found.other
        return found

    def _drop(self, request: _Request) -> None:
        request.state = _GONE
        first = self._known[request.id]
        if first is request:
            if request.other is None:
                del self._known[request.id]
            else:
                self._known[request.id] = request.other
            return
        while first.other is not None and first.other is not request:
            first = first.other
        first.other = request.other


def _alike(one: str | None, other: str | None) -> bool:
    return one is None or other is None or one == other


def _exact(shown_nusd: int) -> int | None:
    """Return an amount that a header shows, None if it may be more than fits."""
    return shown_nusd if -AMOUNT_MAX < shown_nusd < AMOUNT_MAX else None
