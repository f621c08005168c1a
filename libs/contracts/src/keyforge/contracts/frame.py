"""A frame is the unit of append: one log message that holds the events of one flush, as CloudEvents 1.0 batch JSON.

Position of an event: (generation, sequence of the message in its stream, index in the frame).
An event on a subject that it is not believed on, or of an unknown type, is decoded as `Unread`: a fold ignores it and
reports it, but it keeps its index.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final, Union, get_args

import msgspec

from keyforge.contracts.events import EVENTS, Event, Moment, Writer
from keyforge.contracts.unreadable import UNREADABLE

FRAME_EVENTS_MAX: Final = 256
FRAME_BYTES_MAX: Final = 512 * 1024
SPEC_VERSION: Final = "1.0"


class Position(msgspec.Struct, frozen=True, order=True, gc=False):
    """Where an event stands in its partition's log. Generation is 1 until streams are sealed and begun anew."""

    generation: int
    sequence: int
    index: int


class FrameError(ValueError):
    """The message is no frame: not a CloudEvents batch, or past its bounds."""


class Recorded(msgspec.Struct, frozen=True, gc=False):
    """An event with what its envelope says: `id` (unique per source), `source` (the writer), `at` (its time)."""

    id: str
    source: str
    at: datetime
    event: Event


class Unread(msgspec.Struct, frozen=True, gc=False):
    """Something in a frame that must not be folded, and why."""

    id: str
    source: str
    type: str
    why: str


class _Envelope(msgspec.Struct, kw_only=True, gc=False):
    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: datetime
    data: Any


class _Received(msgspec.Struct, kw_only=True, gc=False):
    specversion: str
    id: str
    source: str
    type: str
    time: Moment
    data: msgspec.Raw


def _believed(writer: str) -> Any:
    """Return a decoder for a frame of nothing but events that are believed on this writer's subjects: one pass."""
    envelopes = [
        msgspec.defstruct(
            f"_{event.__name__}",
            [("specversion", str), ("id", str), ("source", str), ("time", Moment), ("data", event)],
            tag_field="type",
            tag=name,
            kw_only=True,
            gc=False,
        )
        for name, event in EVENTS.items()
        if writer == event.WRITER
    ]
    return msgspec.json.Decoder(list[Union[tuple(envelopes)]])  # type: ignore[misc]  # noqa: UP007  # made here


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(list[_Received])
_DATA: Final = {name: msgspec.json.Decoder(event) for name, event in EVENTS.items()}
_BELIEVED: Final[dict[str, msgspec.json.Decoder[Any]]] = {writer: _believed(writer) for writer in get_args(Writer)}


def subject_of(event: Event) -> str:
    """Return the CloudEvents subject: tenant/key, tenant, or the name of a platform fact's owner."""
    tenant = getattr(event, "tenant", "")
    key_id = getattr(event, "key_id", "")
    if key_id:
        return f"{tenant}/{key_id}"
    return tenant or str(getattr(event, "provider", "")) or "platform"


def encode(events: Iterable[Recorded]) -> bytes:
    """Write events as one frame. The caller keeps to FRAME_EVENTS_MAX and FRAME_BYTES_MAX; see `eventlog`."""
    return b"[" + b",".join([encode_one(recorded) for recorded in events]) + b"]"


def encode_one(recorded: Recorded) -> bytes:
    """Write one event as CloudEvents JSON; frames are these, joined. Lets a writer bound a frame before it is whole."""
    event = recorded.event
    return _ENCODER.encode(
        _Envelope(
            specversion=SPEC_VERSION,
            id=recorded.id,
            source=recorded.source,
            type=event.TYPE,
            subject=subject_of(event),
            time=recorded.at,
            data=event,
        )
    )


def join(encoded: Sequence[bytes]) -> bytes:
    """Make a frame of events that `encode_one` wrote."""
    return b"[" + b",".join(encoded) + b"]"


def decode(data: bytes, subject: str) -> list[Recorded | Unread]:
    """Read a frame that was found on `subject` of the log. Raises FrameError."""
    writer = writer_of(subject)
    if believed := _BELIEVED.get(writer):
        try:
            return [Recorded(one.id, one.source, one.time, one.data) for one in believed.decode(data)]
        except UNREADABLE:
            pass  # seldom: something in it is not believed, so each event is looked at by itself
    try:
        received = _DECODER.decode(data)
    except UNREADABLE as error:
        raise FrameError(str(error)) from None
    return [_read(one, writer) for one in received]


def writer_of(subject: str) -> str:
    """Return which writer's subject this is: ctl, adm, use or platform."""
    words = subject.split(".")
    return "platform" if words[1] == "platform" else words[3]


def edge_of(subject: str) -> str | None:
    """Return the edge that wrote on a `use` subject; None elsewhere."""
    words = subject.split(".")
    return words[4] if len(words) == 5 and words[3] == "use" else None


def _read(one: _Received, writer: str) -> Recorded | Unread:
    decoder = _DATA.get(one.type)
    if decoder is None:
        return Unread(one.id, one.source, one.type, "unknown type")
    if writer != EVENTS[one.type].WRITER:
        return Unread(one.id, one.source, one.type, f"not believed on a subject of {writer}")
    try:
        event = decoder.decode(one.data)
    except UNREADABLE as error:
        return Unread(one.id, one.source, one.type, str(error))
    return Recorded(one.id, one.source, one.time, event)
