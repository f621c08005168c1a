"""A frame is the unit of append: one log message that holds the events of one flush, as CloudEvents 1.0 batch JSON.

Writers append that JSON compressed (`compression`); `decode` reads either.

Events are written in canonical JSON (RFC 8785), so that the bytes in the log are the bytes that a record hashes. Their
structs declare their fields in the order of their names, which makes the plain encoder's output canonical; an event
with an integer beyond 2^53 - 1, which is written as a string, is the one exception.

Position of an event: (generation, sequence of the message in its stream, index in the frame). An event that must not be
folded is decoded as `Unread`, with the kind of the fault; it keeps its index.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple, Union, get_args

import msgspec

from keyforge.contracts.canonical import canonical, quote_long_integers, unquote_long_integers
from keyforge.contracts.compression import CONTENT_BYTES_MAX, CompressionError, decompress
from keyforge.contracts.events import EVENTS, Event, Moment, Writer
from keyforge.contracts.nesting import TOO_DEEP, is_too_deep
from keyforge.contracts.unreadable import UNREADABLE, is_utf8

FRAME_EVENTS_MAX: Final = 256
FRAME_BYTES_MAX: Final = CONTENT_BYTES_MAX
"""Of a frame's JSON, so of what a writer gathers before it is compressed."""
SPEC_VERSION: Final = "1.0"

Fault = Literal["unknown_type", "undecodable", "wrong_subject"]
"""Why an event is not folded. The first two may come of a newer writer, so a fold must not go on past them where they
change what may be admitted; the last is a fault of its writer's and changes nothing."""


class FrameError(ValueError):
    """The message is no frame: of an unknown encoding, damaged, past its bounds, or not a CloudEvents batch."""


class Recorded(msgspec.Struct, frozen=True, gc=False):
    """An event with what its envelope says: `id` (unique per source), `source` (the writer), `at` (its time).

    `body` is the event as it stands in the log, where it was asked for.
    """

    id: str
    source: str
    at: datetime
    event: Event
    body: bytes = b""


class Unread(msgspec.Struct, frozen=True, gc=False):
    """Something in a frame that must not be folded, and why."""

    id: str
    source: str
    type: str
    why: str
    fault: Fault = "undecodable"


class Retired(NamedTuple):
    """A version of an event that nobody writes any more: its struct, and how it becomes the next version."""

    schema: type[Event]
    upcast: Callable[[Any], Event]


RETIRED: Final[dict[str, Retired]] = {}
"""By type. Empty until the first tag: until then an event is changed in place (ADR 23)."""


class _Envelope(msgspec.Struct, kw_only=True, gc=False):
    data: Any
    id: str
    source: str
    specversion: str
    subject: str
    time: datetime
    type: str


class _Received(msgspec.Struct, kw_only=True, gc=False):
    data: msgspec.Raw
    id: str
    source: str
    specversion: str
    time: Moment
    type: str


_NOT_UTF8: Final = "not UTF-8"
_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(list[_Received])
_ONE: Final = msgspec.json.Decoder(_Received)
_RAW: Final = msgspec.json.Decoder(list[msgspec.Raw])


class Codec:
    """Reads and writes frames of a set of events; `retired` versions are read and handed out as the one in force."""

    def __init__(self, events: Mapping[str, type[Event]], retired: Mapping[str, Retired]) -> None:
        """Raises ValueError for a retired version that does not lead to a version in force."""
        self._events = events
        self._retired = retired
        for name, old in retired.items():
            if name in events or name != old.schema.TYPE:
                raise ValueError(f"{name} is in force, or is not the type of its struct")
        self._schemas = {**events, **{name: old.schema for name, old in retired.items()}}
        self._data = {name: msgspec.json.Decoder(schema) for name, schema in self._schemas.items()}
        self._lax = {name: msgspec.json.Decoder(schema, strict=False) for name, schema in self._schemas.items()}
        self._expected = {writer: self._expected_of(writer, many=True) for writer in get_args(Writer)}
        self._expected_one = {writer: self._expected_of(writer, many=False) for writer in get_args(Writer)}

    def decode(self, data: bytes, subject: str, *, bodies: bool = False) -> list[Recorded | Unread]:
        """Read a frame that was found on `subject` of the log, with the bytes of each event if `bodies` is set.
        Raises FrameError."""
        try:
            data = decompress(data)
        except CompressionError as error:
            raise FrameError(str(error)) from None
        writer = writer_of(subject)
        expected = self._expected.get(writer)
        read = None if expected is None or not is_utf8(data) else _decode_expected(expected, data, bodies=bodies)
        if is_too_deep(data, 1, read or ()):
            raise FrameError(TOO_DEEP)
        if read is not None:
            return [self._in_force(one) for one in read] if self._retired else list(read)
        # seldom: something in it is not as expected, so each event is looked at by itself
        try:
            received, raw = _DECODER.decode(data), _RAW.decode(data)
        except UNREADABLE as error:
            raise FrameError(str(error)) from None
        return [self._read(one, bytes(body), writer, bodies=bodies) for one, body in zip(received, raw, strict=True)]

    def decode_one(self, event: bytes, writer: Writer) -> Recorded | Unread:
        """Read one event, such as the body of a record, exactly as it is read in a frame on a subject of `writer`.
        Raises FrameError if it is no event at all."""
        if not is_utf8(event):
            raise FrameError(_NOT_UTF8)
        if is_too_deep(event, 0, ()):
            raise FrameError(TOO_DEEP)
        expected = self._expected_one.get(writer)
        if expected is not None:
            try:
                found = expected.decode(event)
            except UNREADABLE:
                pass
            else:
                recorded = Recorded(found.id, found.source, found.time, found.data)
                return self._in_force(recorded) if self._retired else recorded
        try:
            received = _ONE.decode(event)
        except UNREADABLE as error:
            raise FrameError(str(error)) from None
        return self._read(received, event, writer, bodies=False)

    def _read(self, one: _Received, body: bytes, writer: str, *, bodies: bool) -> Recorded | Unread:
        schema = self._schemas.get(one.type)
        if not is_utf8(body):
            return Unread(one.id, one.source, one.type, _NOT_UTF8)
        if schema is None:
            return Unread(one.id, one.source, one.type, "unknown type", "unknown_type")
        if writer != schema.WRITER:
            return Unread(one.id, one.source, one.type, f"not accepted on a subject of {writer}", "wrong_subject")
        try:
            event = self._data_of(one)
        except UNREADABLE as error:
            return Unread(one.id, one.source, one.type, str(error))
        return self._in_force(Recorded(one.id, one.source, one.time, event, body if bodies else b""))

    def _data_of(self, one: _Received) -> Event:
        """Decode an event's data. Where a string of digits stands beside a quoted integer and looks like one, a lax
        decoder keeps them apart; what it decodes is accepted only if writing it again gives the same bytes."""
        decoder, data = self._data[one.type], bytes(one.data)
        try:
            return decoder.decode(data)
        except UNREADABLE:
            with suppress(*UNREADABLE):
                return decoder.decode(unquote_long_integers(data))
            event = self._lax[one.type].decode(data)
            if canonical(event) != data:
                raise
            return event

    def _in_force(self, recorded: Recorded | Unread) -> Recorded | Unread:
        """Return the event as the version in force; unchanged if it is one."""
        if isinstance(recorded, Unread):
            return recorded
        event = recorded.event
        for _ in range(len(self._retired)):
            old = self._retired.get(event.TYPE)
            if old is None:
                break
            event = old.upcast(event)
        return recorded if event is recorded.event else msgspec.structs.replace(recorded, event=event)

    def _expected_of(self, writer: str, *, many: bool) -> "msgspec.json.Decoder[Any] | None":
        """Return a decoder for a frame of nothing but events of this writer's, or for one event: one pass. None if
        there are none."""
        envelopes = [
            msgspec.defstruct(
                f"_{schema.__name__}",
                [("data", schema), ("id", str), ("source", str), ("specversion", str), ("time", Moment)],
                tag_field="type",
                tag=name,
                kw_only=True,
                gc=False,
            )
            for name, schema in self._schemas.items()
            if writer == schema.WRITER
        ]
        if not envelopes:
            return None
        event: Any = Union[tuple(envelopes)]  # noqa: UP007  # made here
        return msgspec.json.Decoder(list[event] if many else event)


def _decode_expected(expected: "msgspec.json.Decoder[Any]", data: bytes, *, bodies: bool) -> list[Recorded] | None:
    """Decode a frame in one pass, or in two if integers are in quotes; None if something in it is not as expected."""
    raw: list[msgspec.Raw] | None = None
    try:
        found = expected.decode(data)
    except UNREADABLE:
        try:
            raw = _RAW.decode(data)
            found = expected.decode(unquote_long_integers(data))
        except UNREADABLE:
            return None
    if not bodies:
        return [Recorded(one.id, one.source, one.time, one.data) for one in found]
    pairs = zip(found, raw or _RAW.decode(data), strict=True)
    return [Recorded(one.id, one.source, one.time, one.data, bytes(body)) for one, body in pairs]


_CODEC: Final = Codec(EVENTS, RETIRED)


def subject_of(event: Event) -> str:
    """Return the CloudEvents subject: tenant/key, tenant, or the name of a platform fact's owner."""
    tenant = getattr(event, "tenant", "")
    key_id = getattr(event, "key_id", "")
    if key_id:
        return f"{tenant}/{key_id}"
    return tenant or str(getattr(event, "provider", "")) or "platform"


def encode(events: Iterable[Recorded]) -> bytes:
    """Write events as a frame's JSON. The caller keeps to FRAME_EVENTS_MAX and FRAME_BYTES_MAX; see `eventlog`."""
    return b"[" + b",".join([encode_one(recorded) for recorded in events]) + b"]"


def encode_one(recorded: Recorded) -> bytes:
    """Write one event as a CloudEvent in canonical JSON; frames are these, joined. Lets a writer bound a frame before
    it is whole."""
    event = recorded.event
    envelope = _Envelope(
        data=event,
        id=recorded.id,
        source=recorded.source,
        specversion=SPEC_VERSION,
        subject=subject_of(event),
        time=recorded.at,
        type=event.TYPE,
    )
    try:
        written = _ENCODER.encode(envelope)
    except OverflowError:  # an integer past 64 bits
        return canonical(envelope)
    return quote_long_integers(written, envelope) if event.may_hold_long_integer() else written


def join(encoded: Sequence[bytes]) -> bytes:
    """Make the JSON of a frame of events that `encode_one` wrote."""
    return b"[" + b",".join(encoded) + b"]"


def decode(data: bytes, subject: str, *, bodies: bool = False) -> list[Recorded | Unread]:
    """Read a frame of our events; see `Codec.decode`. Raises FrameError."""
    return _CODEC.decode(data, subject, bodies=bodies)


def decode_one(event: bytes, writer: Writer) -> Recorded | Unread:
    """Read one of our events; see `Codec.decode_one`. Raises FrameError."""
    return _CODEC.decode_one(event, writer)


def writer_of(subject: str) -> str:
    """Return which writer's subject this is: ctl, adm, use or platform."""
    words = subject.split(".")
    return "platform" if words[1] == "platform" else words[3]


def edge_of(subject: str) -> str | None:
    """Return the edge that wrote on a `use` subject; None elsewhere."""
    words = subject.split(".")
    return words[4] if len(words) == 5 and words[3] == "use" else None
