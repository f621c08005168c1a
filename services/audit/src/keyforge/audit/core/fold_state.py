"""The state of one log's fold: its chains, its requests, and what it remembers for a while of the log's own time."""

from datetime import UTC, datetime
from typing import Final

import msgspec

from keyforge.audit.core.row_digest import DIGEST_MODULUS, row_digest
from keyforge.audit.core.sealed import NOTHING_SPENT, KeySpend, RejectedEvent, RequestEnd, Sealed
from keyforge.chain.memory import COPIES_S, NS_PER_S, TOMBSTONES_MAX
from keyforge.chain.record import NO_REQUEST, RecordType, held, record_type
from keyforge.chain.seal import Chain, MasterKey
from keyforge.contracts import events, frame
from keyforge.contracts.settlement import REMEMBERED_S, TOMBSTONE_DEADLINE_S_MAX, Settled, Tombstone
from keyforge.contracts.timing_wheel import BUCKET_S, TimingWheel

ANCHOR_RECORDS: Final = 64
"""Of every chain the hash of each record whose seq is a multiple of this is kept: what a page of stored records is
verified from. Chosen: half a byte of memory a record; a page reads 63 records more than it shows at most, 70 KB at
1.1 KB a record (measured)."""
_KINDS: Final[dict[type[events.Event], RecordType]] = {
    event: kind for name, event in events.EVENTS.items() if (kind := record_type(name)) is not None
}


class OpenRequest(msgspec.Struct, eq=False, gc=False):
    """A request that is open, or was abandoned (`presumed` is what that settled) and may still be completed."""

    admitted: events.RequestAdmitted
    at: datetime
    chain: Chain
    id: bytes
    seq: int
    """Of the record of the admission."""
    presumed: Settled | None = None


class FoldState:
    """What the rules of `requests` and `operators` read and change.

    `subject`, `edge`, `sequence`, `index`, `time_ns` and `out` are those of the message that is being folded.
    """

    def __init__(self, partition: int, master: MasterKey) -> None:
        self.partition = partition
        self.chains: dict[str, Chain] = {}
        self.keys: dict[tuple[str, str], Chain] = {}
        self.tenants: dict[str, Chain] = {}
        self.anchors: dict[str, list[bytes]] = {}
        """By chain, the hash of every ANCHOR_RECORDS-th record."""
        self.spend: dict[str, KeySpend] = {}
        """By the chain of a key, what its requests that have ended came to."""
        self.requests: dict[str, OpenRequest | None] = {}
        """None: ended for good within the last COPIES_S. There may be a million: nothing walks over them."""
        self.open = 0
        """How many of them are not None."""
        self.tombstones: dict[Tombstone, str] = {}
        """Why a request was cancelled before its admission. Kept when that has come as well."""
        self.subject = ""
        self.edge: str | None = None
        self.sequence = 0
        self.index = 0
        self.time_ns = 0
        self.out = Sealed()
        self._master = master
        self._seen: set[tuple[str, str]] = set()
        self._forget_requests: TimingWheel[str] = TimingWheel()
        self._forget_tombstones: TimingWheel[Tombstone] = TimingWheel()
        self._forget_seen: TimingWheel[tuple[str, str]] = TimingWheel()
        self._now_s = 0
        self._now_ns = 0

    def begin_message(self, sequence: int, subject: str, time_ns: int, out: Sealed) -> None:
        """Set what belongs to the next message of the log."""
        self.sequence = out.sequence = sequence
        self.subject, self.time_ns, self.out = subject, time_ns, out
        self.edge = frame.edge_of(subject)

    def begin_chain(self, name: str, *, tenant: str = "", key_id: str = "") -> Chain:
        """Create a chain; none of this name exists."""
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
        """Seal the current event onto a chain; for the amounts see `Chain.seal`."""
        record = chain.seal(
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
        self.out.records.append(record)
        if not record.seq % ANCHOR_RECORDS:
            self.anchors.setdefault(chain.name, []).append(record.hash)

    def begin_request(self, request: OpenRequest) -> None:
        """Keep a request that was admitted; none of its id is kept."""
        self.requests[request.admitted.request_id] = request
        self.open += 1

    def end(
        self,
        request: OpenRequest,
        at: datetime,
        settled: Settled,
        *,
        completed: events.RequestCompleted | None = None,
        outcome: str,
    ) -> None:
        """Report how a request ended, and keep what later events of it are compared with."""
        admitted = request.admitted
        self.out.ends.append(
            RequestEnd(
                admitted=admitted,
                admitted_at=request.at,
                ended_at=at,
                settled=settled,
                completed=completed,
                outcome=outcome,
                admission=request.seq,
                version=request.chain.seq,
                partition=self.partition,
                sequence=self.sequence,
                frame_index=self.index,
            )
        )
        self._spend(request, settled)
        if settled.terminal == "abandoned":
            request.presumed = settled
            self._forget_requests.add(seconds(admitted.deadline) + REMEMBERED_S, admitted.request_id)
        else:
            self.requests[admitted.request_id] = None
            self.open -= 1
            self._forget_requests.add(self.time_ns // NS_PER_S + COPIES_S, admitted.request_id)

    def _spend(self, request: OpenRequest, settled: Settled) -> None:
        """Add an end to what its key spent, or replace what was presumed; amounts as rows of `requests` hold them."""
        before = self.spend.get(request.chain.name, NOTHING_SPENT)
        nusd, tokens = held(settled.nusd), held(settled.tokens)
        digest = before.digest + _digest(request, settled)
        presumed = request.presumed
        if presumed is None:
            counts = settled.terminal != "cancelled"
            after = KeySpend(
                before.requests + counts,
                before.rows + 1,
                before.settled_nusd + nusd,
                before.tokens + tokens,
                digest % DIGEST_MODULUS,
            )
        else:
            after = before._replace(
                settled_nusd=before.settled_nusd + nusd - held(presumed.nusd),
                tokens=before.tokens + tokens - held(presumed.tokens),
                digest=(digest - _digest(request, presumed)) % DIGEST_MODULUS,
            )
        self.spend[request.chain.name] = self.out.spend[request.chain.name] = after

    def remember_cancel(self, tombstone: Tombstone, cancel: events.RequestCancelled) -> None:
        """Remember a cancel whose admission has not been folded, and may never be."""
        self.tombstones[tombstone] = cancel.reason
        latest_s = self.time_ns // NS_PER_S + TOMBSTONE_DEADLINE_S_MAX
        self._forget_tombstones.add(min(seconds(cancel.deadline), latest_s) + REMEMBERED_S, tombstone)

    def seen_before(self, recorded: frame.Recorded) -> bool:
        """Return whether an event of this id was on this subject within COPIES_S: an append whose answer was lost."""
        identity = (self.subject, recorded.id)
        if identity in self._seen:
            return True
        self._seen.add(identity)
        self._forget_seen.add(self.time_ns // NS_PER_S + COPIES_S, identity)
        return False

    def reject(self, type_: str, index: int, why: str) -> None:
        """Report an event that becomes no record."""
        self.out.rejected.append(RejectedEvent(self.partition, self.sequence, index, type_, why))

    def forget(self) -> None:
        """Forget what is due by the log's clock. Called after each message, so batches make no difference."""
        if self.time_ns <= self._now_ns:
            return
        self._now_ns = self.time_ns
        now_s = self.time_ns // NS_PER_S
        if now_s > self._now_s:
            self._now_s = now_s
            self._forget_due(now_s)
        if len(self.tombstones) > TOMBSTONES_MAX and (first_s := self._forget_tombstones.first_s()) is not None:
            self._forget_tombstones_until(first_s + BUCKET_S)

    def _forget_due(self, now_s: int) -> None:
        for request_id in self._forget_requests.take(now_s):
            request = self.requests.get(request_id)
            if request is None or request.presumed is not None:
                self.requests.pop(request_id, None)
                self.open -= request is not None
        self._forget_tombstones_until(now_s)
        for identity in self._forget_seen.take(now_s):
            self._seen.discard(identity)

    def _forget_tombstones_until(self, until_s: int) -> None:
        for tombstone in self._forget_tombstones.take(until_s):
            self.tombstones.pop(tombstone, None)


def _digest(request: OpenRequest, settled: Settled) -> int:
    return row_digest(request.admitted, request.at, request.seq, settled)


def seconds(at: datetime) -> int:
    """Return seconds since 1970; a time without a UTC offset, which only a faulty writer writes, is taken as UTC."""
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())
