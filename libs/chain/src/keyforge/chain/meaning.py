"""What the records of one chain mean together: rules M1 to M18 of docs/spec/audit-format.md.

Each record is compared with its body and with the records before it. The rules are those of the fold that makes a
chain, and settlement is `contracts.settlement`: what a correct fold can make of any log is right here.
"""

from collections import deque
from typing import Any, Final

from keyforge.chain import names
from keyforge.chain.memory import COPIES_S, Memory, Message, Remembered
from keyforge.chain.names import ChainKind
from keyforge.chain.pairing import NOTHING, Movement, Requests
from keyforge.chain.record import (
    AMOUNT_MAX,
    NO_REQUEST,
    PLATFORM_PARTITION,
    Header,
    RecordType,
    held,
    record_type,
    request_bytes,
)
from keyforge.chain.rules import Broken, RecordRule
from keyforge.contracts import frame
from keyforge.contracts.events import EVENTS, Event, RequestAdmitted, RequestOverran, Writer
from keyforge.contracts.frame import Recorded, Unread
from keyforge.contracts.limits import is_known_scope

IDS_MAX: Final = 20_000
"""Ids of events of the last COPIES_S that are remembered; with more the oldest are forgotten, and a copy is not counted
as unproven. Chosen: 33 a second, where an edge records one refusal per key and second."""
_NS_PER_US: Final = 1000
_ALL_KEYS: Final = frozenset((RecordType.KEY_CREATED, RecordType.KEY_UPDATED, RecordType.KEY_REVOKED))
_REQUESTS: Final = frozenset(kind for kind in RecordType if kind.name.startswith("REQUEST_"))
_FIRST: Final = {"key": RecordType.KEY_CREATED, "tenant": RecordType.TENANT_CREATED}
"""What a chain begins with, and what is never on it again."""
_EVENTS: Final[dict[int, type[Event]]] = {
    kind: event for name, event in EVENTS.items() if (kind := record_type(name)) is not None
}
"""The version in force of the event that each type of record is about."""
_WRITERS: Final[dict[int, Writer]] = {kind: event.WRITER for kind, event in _EVENTS.items()}
_HOLDS: Final[dict[ChainKind, frozenset[int]]] = {
    "key": _ALL_KEYS | _REQUESTS,
    "tenant": _ALL_KEYS | {RecordType.TENANT_CREATED, RecordType.TENANT_UPDATED, RecordType.MODEL_RESUMED},
    "partition": frozenset((RecordType.PARTITION_FENCED,)),
    "platform": frozenset(kind for kind, writer in _WRITERS.items() if writer == "platform"),
}
"""What is recorded on a chain of each kind."""
_PAIRED: Final = frozenset(
    (
        RecordType.REQUEST_ADMITTED,
        RecordType.REQUEST_COMPLETED,
        RecordType.REQUEST_CANCELLED,
        RecordType.REQUEST_ABANDONED,
    )
)
"""Their copies are recognised by the request, those of all others by the event's id."""


_Identity = tuple[str, str | None, str]
"""Of an event: its writer, on `use` the edge, and its id."""


class Meaning:
    """Checks the records of one chain, in order; the first that is wrong is final."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._chain = names.parse(name)
        self._holds = frozenset[int]() if self._chain is None else _HOLDS[self._chain.kind]
        self._first = None if self._chain is None else _FIRST.get(self._chain.kind)
        self._memory = Memory()
        self._requests = Requests(self._memory)
        self._settled: int | None = 0
        self._reserved: int | None = 0
        self._partition: int | None = None if self._chain is None else self._chain.partition
        self._message: Message = (0, 0)
        self._time_ns = 0
        self._writer: Writer = "ctl"
        self._edge: str | None = None
        self._ids: dict[_Identity, Remembered] = {}
        self._ids_order: deque[tuple[_Identity, Remembered]] = deque()
        self._keys: set[str] = set()
        self._keys_erased = 0

    @property
    def open(self) -> int:
        """How many requests are open."""
        return self._requests.open

    @property
    def unproven(self) -> int:
        """How many records are right only if the broker's time went back in the log, or it was full of cancels."""
        return self._memory.unproven

    def check(self, header: Header, body: bytes | None) -> Broken | None:
        """Return what is wrong with the next record, whose form is right; `body` None: erased."""
        if (broken := self._placed(header)) is not None:
            return broken
        recorded = None
        if body is not None:
            read = _read(header, body)
            if isinstance(read, Broken):
                return read
            recorded = read
        event = None if recorded is None else recorded.event
        broken = self._of_one_message(header, event) or self._owned(header, event) or self._of_request(header, event)
        if broken is None and recorded is not None and header.type not in _PAIRED:
            broken = self._copied(header, recorded)
        if broken is not None:
            return broken
        moved = self._moved(header, event)
        return moved if isinstance(moved, Broken) else self._added_up(header, moved)

    def _placed(self, header: Header) -> Broken | None:
        """Check what the header alone shows: whether this record may be here."""
        chain = self._chain
        if chain is None:
            return Broken(RecordRule.CHAIN, f"{self._name} is not the name of a chain")
        if header.type not in self._holds:
            return Broken(RecordRule.CHAIN, f"a record of type {header.type} is not on the chain of a {chain.kind}")
        first = self._first
        if first is not None and (header.type == first) != (header.seq == 1):
            name = first.name.lower().replace("_", ".")
            return Broken(RecordRule.FIRST, f"{name} is the first record of the chain of a {chain.kind}, and no other")
        if header.generation < 1 or header.sequence < 1:
            return Broken(RecordRule.LOG, "generation and sequence count from 1")
        if self._partition is None and header.partition != PLATFORM_PARTITION:
            self._partition = header.partition
        if header.partition != self._partition:
            return Broken(RecordRule.LOG, f"a record of the log of partition {header.partition}")
        if header.time_ns % _NS_PER_US:
            return Broken(RecordRule.TIME, "the broker time is not in whole microseconds")
        if header.time_ns != self._time_ns and (header.generation, header.sequence) == self._message:
            return Broken(RecordRule.TIME, "records of one message have different broker times")
        return None

    def _of_one_message(self, header: Header, event: Any) -> Broken | None:
        """Check that the records of one message are of one writer and one edge."""
        message = (header.generation, header.sequence)
        writer = _WRITERS[header.type]
        edge = event.edge if writer == "use" and event is not None else None
        if message != self._message:
            self._message, self._time_ns, self._writer, self._edge = message, header.time_ns, writer, edge
            self._memory.begin(message, header.time_ns)
            return None
        if writer != self._writer or (edge is not None and self._edge is not None and edge != self._edge):
            return Broken(RecordRule.WRITER, "records of one message are of different writers")
        self._edge = self._edge or edge
        return None

    def _owned(self, header: Header, event: Any) -> Broken | None:
        """Check the tenant and the key that the body names, and on a tenant's chain that the key exists."""
        chain = self._chain
        if chain is None or chain.kind not in ("key", "tenant"):
            return None
        if event is None:
            return self._some_key_exists(header.type) if chain.kind == "tenant" else None
        if event.tenant != chain.tenant:
            return Broken(RecordRule.OWNER, f"the body is of tenant {event.tenant}")
        if chain.kind == "key":
            return (
                None if event.key_id == chain.key_id else Broken(RecordRule.OWNER, f"the body is of key {event.key_id}")
            )
        return self._key_exists(header.type, event.key_id) if header.type in _ALL_KEYS else None

    def _some_key_exists(self, type_: int) -> Broken | None:
        """Check, where the body is erased, that a tenant has any key before one is changed."""
        self._keys_erased += type_ == RecordType.KEY_CREATED
        if type_ in _ALL_KEYS and not self._keys and not self._keys_erased:
            return Broken(RecordRule.KEYS, "no key was created")
        return None

    def _key_exists(self, type_: int, key_id: str) -> Broken | None:
        """Check that a tenant's key is created once, and before it is changed."""
        if type_ == RecordType.KEY_CREATED:
            if key_id in self._keys:
                return Broken(RecordRule.KEYS, f"key {key_id} is created a second time")
            if names.KEY_ID.fullmatch(key_id) is None:
                return Broken(RecordRule.KEYS, f"{key_id} is not a valid key id")
        elif key_id not in self._keys:
            if not self._keys_erased:
                return Broken(RecordRule.KEYS, f"key {key_id} was not created")
            self._keys_erased -= 1
        self._keys.add(key_id)
        return None

    def _of_request(self, header: Header, event: Any) -> Broken | None:
        if header.type not in _REQUESTS:
            return (
                Broken(RecordRule.REQUEST, "a request id without a request")
                if header.request_id != NO_REQUEST
                else None
            )
        if event is not None and header.request_id != request_bytes(event.request_id):
            return Broken(RecordRule.REQUEST, f"the body is of request {event.request_id}")
        return None

    def _copied(self, header: Header, recorded: Recorded) -> Broken | None:
        """Check that an event is not the copy of one that the fold still remembers."""
        writer = _WRITERS[header.type]
        identity = (writer, getattr(recorded.event, "edge", None) if writer == "use" else None, recorded.id)
        before = self._ids.get(identity)
        if before is not None and not self._memory.may_be_gone(before):
            return Broken(RecordRule.COPY, f"event {recorded.id} is recorded twice")
        self._ids[identity] = entry = self._memory.until(self._memory.now_s + COPIES_S)
        order = self._ids_order
        order.append((identity, entry))
        while len(order) > IDS_MAX or (
            (due_s := order[0][1].due_s) is not None and self._memory.gone(order[0][1], due_s)
        ):
            oldest, entry = order.popleft()
            if self._ids[oldest] is entry:
                del self._ids[oldest]
        return None

    def _moved(self, header: Header, event: Any) -> Movement | Broken:
        """Return what the record moves, by its body and by the records of its request."""
        type_ = header.type
        if type_ == RecordType.REQUEST_ADMITTED:
            return self._requests.admitted(header, event, self._reserved)
        if type_ == RecordType.REQUEST_COMPLETED:
            return self._requests.completed(header, event)
        if type_ == RecordType.REQUEST_CANCELLED:
            return self._requests.cancelled(header, event)
        if type_ == RecordType.REQUEST_ABANDONED:
            return self._requests.abandoned(header, event)
        if type_ == RecordType.REQUEST_OVERRAN:
            return Movement(event.settled.nusd if isinstance(event, RequestOverran) else None)
        return NOTHING

    def _added_up(self, header: Header, moved: Movement) -> Broken | None:
        """Check the amount, and both totals against those of the record before."""
        if moved.amount is not None and header.amount_nusd != (due := held(moved.amount)):
            return Broken(RecordRule.AMOUNT, f"the amount is {header.amount_nusd}, by the bodies it is {due}")
        self._settled = settled = _sum(self._settled, moved.settled, header.settled_nusd)
        if settled is not None and header.settled_nusd != held(settled):
            return Broken(
                RecordRule.SETTLED, f"settled is {header.settled_nusd}, the movements add up to {held(settled)}"
            )
        self._reserved = reserved = _sum(self._reserved, moved.reserved, header.reserved_nusd)
        if reserved is not None and header.reserved_nusd != held(reserved):
            return Broken(
                RecordRule.RESERVED, f"reserved is {header.reserved_nusd}, the movements add up to {held(reserved)}"
            )
        return None


def _sum(before: int | None, moved: int | None, shown: int) -> int | None:
    """Return the exact total; where that is not known, what the header shows, None if it may be more than fits."""
    if before is not None and moved is not None:
        return before + moved
    return shown if -AMOUNT_MAX < shown < AMOUNT_MAX else None


def _read(header: Header, body: bytes) -> Recorded | Broken:
    """Return the event of a body, which must be one that this type of record is about."""
    try:
        read = frame.decode_one(body, _WRITERS[header.type])
    except frame.FrameError as error:
        return Broken(RecordRule.ENVELOPE, f"the body is not an event: {error}")
    if isinstance(read, Recorded) and type(read.event) is _EVENTS[header.type]:
        if isinstance(read.event, RequestAdmitted):
            for debit in read.event.debits:
                if not is_known_scope(debit.scope):
                    return Broken(RecordRule.EVENT, f"the body debits an unknown scope: {debit.scope}")
        return read
    found = read.type if isinstance(read, Unread) else read.event.TYPE
    if record_type(found) != header.type:
        return Broken(RecordRule.TYPE, f"the body is of type {found}, the record of type {header.type}")
    why = read.why if isinstance(read, Unread) else "unknown version"
    return Broken(RecordRule.EVENT, f"the body is unread: {why} ({found})")
