"""The state of one log's fold: its chains, its requests, and what it remembers for a while by the log's own clock."""

import re
from datetime import UTC, datetime
from typing import Final

import msgspec

from keyforge.audit.core.sealed import Ignored, RequestEnd, Sealed
from keyforge.chain.record import NO_REQUEST, RECORD_TYPES, RecordType
from keyforge.chain.seal import Chain, MasterKey
from keyforge.contracts import events, frame
from keyforge.contracts.settlement import REMEMBERED_S, TOMBSTONE_DEADLINE_S_MAX, Settled
from keyforge.contracts.timing_wheel import BUCKET_S, Agenda

REPEATS_S: Final = 600
"""How long, in log time, an event's id and a request's end are remembered, to tell a second copy from a stranger."""
TOMBSTONES_MAX: Final = 100_000
"""Past it the oldest are forgotten before their time, as budget forgets them: what it admits then is open here too."""
KEY_ID: Final = re.compile(r"[0-9A-Za-z_-]{1,64}")
"""What may stand in the name of a key's chain."""

_NS_PER_S: Final = 1_000_000_000
_KINDS: Final[dict[type[events.Event], RecordType]] = {
    event: RECORD_TYPES[name] for name, event in events.EVENTS.items()
}


class Request(msgspec.Struct, eq=False, gc=False):
    """A request that is open, or abandoned (`presumed`) and may yet be completed."""

    admitted: events.RequestAdmitted
    at: datetime
    chain: Chain
    id: bytes
    presumed: Settled | None = None


class Book:
    """What the rules of `requests` and `operators` read and change. Of the message at hand: `subject` to `out`."""

    def __init__(self, partition: int, master: MasterKey) -> None:
        self.partition = partition
        self.chains: dict[str, Chain] = {}
        self.keys: dict[tuple[str, str], Chain] = {}
        self.tenants: dict[str, Chain] = {}
        self.requests: dict[str, Request | None] = {}
        """None: ended for good, a short while ago."""
        self.tombstones: dict[tuple[str, str], str] = {}
        """By request and edge: why a request was cancelled before its admission. It stays behind that."""
        self.subject = ""
        self.edge: str | None = None
        self.sequence = 0
        self.index = 0
        self.time_ns = 0
        self.out = Sealed()
        self._master = master
        self._seen: set[tuple[str, str]] = set()
        self._forget_requests: Agenda[str] = Agenda()
        self._forget_tombstones: Agenda[tuple[str, str]] = Agenda()
        self._forget_seen: Agenda[tuple[str, str]] = Agenda()
        self._now_s = 0
        self._now_ns = 0

    def turn(self, sequence: int, subject: str, time_ns: int, out: Sealed) -> None:
        """Turn to the next message of the log."""
        self.sequence = out.sequence = sequence
        self.subject, self.time_ns, self.out = subject, time_ns, out
        self.edge = frame.edge_of(subject)

    def begin(self, name: str, *, tenant: str = "", key_id: str = "") -> Chain:
        """Begin a chain; there is none of this name yet."""
        chain = Chain(name, self._master, partition=self.partition, tenant=tenant, key_id=key_id)
        self.chains[name] = chain
        return chain

    def record(
        self,
        chain: Chain,
        recorded: frame.Recorded,
        *,
        request: bytes = NO_REQUEST,
        amount_nusd: int = 0,
        settled_nusd: int = 0,
        reserved_nusd: int = 0,
    ) -> None:
        """Seal the event at hand onto a chain; for the amounts see `Chain.seal`."""
        self.out.records.append(
            chain.seal(
                _KINDS[type(recorded.event)],
                recorded.body,
                sequence=self.sequence,
                index=self.index,
                time_ns=self.time_ns,
                request=request,
                amount_nusd=amount_nusd,
                settled_nusd=settled_nusd,
                reserved_nusd=reserved_nusd,
            )
        )

    def end(
        self,
        request: Request,
        at: datetime,
        settled: Settled,
        *,
        completed: events.RequestCompleted | None = None,
        outcome: str,
    ) -> None:
        """Say how a request ended, and keep of it what may still matter."""
        admitted = request.admitted
        place = (request.chain.seq, self.partition, self.sequence, self.index)
        self.out.ends.append(RequestEnd(admitted, request.at, at, settled, completed, outcome, *place))
        if settled.terminal == "abandoned":
            request.presumed = settled
            self._forget_requests.add(seconds(admitted.deadline) + REMEMBERED_S, admitted.request_id)
        else:
            self.requests[admitted.request_id] = None
            self._forget_requests.add(self.time_ns // _NS_PER_S + REPEATS_S, admitted.request_id)

    def bury(self, tombstone: tuple[str, str], cancel: events.RequestCancelled) -> None:
        """Keep a cancel whose admission is still to come, or never will."""
        self.tombstones[tombstone] = cancel.reason
        latest_s = self.time_ns // _NS_PER_S + TOMBSTONE_DEADLINE_S_MAX
        self._forget_tombstones.add(min(seconds(cancel.deadline), latest_s) + REMEMBERED_S, tombstone)

    def again(self, recorded: frame.Recorded) -> bool:
        """Say whether this subject said an event of this id a short while ago: an append whose answer was lost."""
        said = (self.subject, recorded.id)
        if said in self._seen:
            return True
        self._seen.add(said)
        self._forget_seen.add(self.time_ns // _NS_PER_S + REPEATS_S, said)
        return False

    def ignore(self, type_: str, index: int, why: str) -> None:
        """Report an event that is not believed."""
        self.out.ignored.append(Ignored(self.partition, self.sequence, index, type_, why))

    def forget(self) -> None:
        """Forget what the log's time allows; behind each message, so that batches make no difference."""
        if self.time_ns <= self._now_ns:
            return
        self._now_ns = self.time_ns
        now_s = self.time_ns // _NS_PER_S
        if now_s > self._now_s:
            self._now_s = now_s
            self._forget_what_is_due(now_s)
        if len(self.tombstones) > TOMBSTONES_MAX and (first_s := self._forget_tombstones.first_s()) is not None:
            self._forget_tombstones_until(first_s + BUCKET_S)

    def _forget_what_is_due(self, now_s: int) -> None:
        for request_id in self._forget_requests.take(now_s):
            request = self.requests.get(request_id)
            if request is None or request.presumed is not None:
                self.requests.pop(request_id, None)
        self._forget_tombstones_until(now_s)
        for said in self._forget_seen.take(now_s):
            self._seen.discard(said)

    def _forget_tombstones_until(self, until_s: int) -> None:
        for tombstone in self._forget_tombstones.take(until_s):
            self.tombstones.pop(tombstone, None)


def seconds(at: datetime) -> int:
    """Return seconds since 1970; a time without a zone, which only a broken writer writes, is taken as UTC."""
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())
