"""Frames of a vocabulary of the tests' own: retired versions are read as the one in force, faults are named by kind."""

import sys
from datetime import UTC, datetime
from typing import ClassVar

import msgspec
import pytest

from keyforge.contracts.events import Event, Writer
from keyforge.contracts.frame import Codec, FrameError, Recorded, Retired, Unread, encode, encode_one, join
from keyforge.contracts.nesting import NESTING_MAX

AT = datetime(2030, 1, 1, tzinfo=UTC)
CTL, ADM, USE = "kf.log.0.ctl", "kf.log.0.adm", "kf.log.0.use.edge-0"


class DoorOpenedV1(Event, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "keyforge.door.opened.v1"

    door: str


class DoorOpenedV2(Event, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "keyforge.door.opened.v2"

    door: str
    wide: bool


class DoorOpened(Event, frozen=True, kw_only=True):
    TYPE: ClassVar[str] = "keyforge.door.opened.v3"

    degrees: int
    door: str


RETIRED = {
    DoorOpenedV1.TYPE: Retired(DoorOpenedV1, lambda old: DoorOpenedV2(door=old.door, wide=False)),
    DoorOpenedV2.TYPE: Retired(DoorOpenedV2, lambda old: DoorOpened(door=old.door, degrees=90 if old.wide else 10)),
}
CODEC = Codec({DoorOpened.TYPE: DoorOpened}, RETIRED)
NARROW = DoorOpened(door="front", degrees=10)
BESIDE = encode_one(Recorded("x", "test", AT, NARROW))


@pytest.mark.parametrize(
    ("written", "read"),
    [
        pytest.param(DoorOpenedV1(door="front"), NARROW, id="through two upcasters"),
        pytest.param(DoorOpenedV2(door="front", wide=True), DoorOpened(door="front", degrees=90), id="through one"),
        pytest.param(NARROW, NARROW, id="in force"),
    ],
)
@pytest.mark.parametrize(
    "beside",
    [
        pytest.param([], id="alone"),
        pytest.param([BESIDE], id="beside another"),
        pytest.param([BESIDE.replace(b"door.opened", b"door.closed")], id="beside one that cannot be read"),
    ],
)
def test_a_retired_version_is_read_as_the_one_in_force(written: Event, read: Event, beside: list[bytes]) -> None:
    """Its body stays what was written."""
    body = encode_one(Recorded("1", "test", AT, written))
    data = join([body, *beside])
    assert CODEC.decode(data, CTL, bodies=True)[0] == Recorded("1", "test", AT, read, body)
    assert CODEC.decode(data, CTL)[0] == Recorded("1", "test", AT, read)


@pytest.mark.parametrize(
    ("data", "subject", "fault"),
    [
        (b'"type":"keyforge.door.opened.v4"', CTL, "unknown_type"),
        (b'"type":"keyforge.door.opened.v3"', ADM, "wrong_subject"),
        (b'"type":"keyforge.door.opened.v3"', USE, "wrong_subject"),
        (b'"type":"keyforge.door.opened.v2"', CTL, "undecodable"),
    ],
)
def test_what_is_not_folded_says_which_kind_of_fault_it_is(data: bytes, subject: str, fault: str) -> None:
    written = encode([Recorded("1", "test", AT, NARROW)]).replace(b'"type":"keyforge.door.opened.v3"', data)
    (read,) = CODEC.decode(written, subject)
    assert isinstance(read, Unread)
    assert read.fault == fault


def test_a_writer_that_has_no_events_has_no_frames_that_are_folded() -> None:
    assert CODEC.decode(b"[]", USE) == []
    with pytest.raises(FrameError):
        CODEC.decode(b"{}", USE)


@pytest.mark.parametrize(
    "retired",
    [
        pytest.param({DoorOpened.TYPE: Retired(DoorOpened, lambda old: old)}, id="in force"),
        pytest.param({"keyforge.door.opened.v0": Retired(DoorOpenedV1, lambda old: old)}, id="of another type"),
    ],
)
def test_a_registry_that_contradicts_itself_is_refused(retired: dict[str, Retired]) -> None:
    with pytest.raises(ValueError, match="in force, or is not"):
        Codec({DoorOpened.TYPE: DoorOpened}, retired)


def test_the_tests_own_events_are_like_ours() -> None:
    for event in (DoorOpenedV1, DoorOpenedV2, DoorOpened):
        names = [field.name for field in msgspec.structs.fields(event)]
        assert names == sorted(names)


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(encode_one(Recorded("1", "s", AT, DoorOpened(degrees=4, door="d"))), id="in force"),
        pytest.param(encode_one(Recorded("1", "s", AT, DoorOpenedV1(door="d"))), id="retired"),
        pytest.param(encode_one(Recorded("1", "s", AT, DoorOpened(degrees=10**30, door="d"))), id="a long integer"),
        pytest.param(b' {"time":"2030-01-01T00:00:00Z","type":"keyforge.door.closed.v1","id":"1","source":"s",'
                     b'"specversion":"1.0","data":1} ', id="unknown"),
        pytest.param(b'{"id":"1","source":"s","specversion":"1.0","time":"2030-01-01T00:00:00Z",'
                     b'"type":"keyforge.door.opened.v1","type":"keyforge.door.opened.v3",'
                     b'"data":{"degrees":3,"degrees":4,"door":"d"}}', id="members twice"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("subject", [CTL, ADM])
def test_one_event_is_read_as_it_is_in_a_frame(event: bytes, subject: str) -> None:
    writer: Writer = "ctl" if subject == CTL else "adm"
    assert [CODEC.decode_one(event, writer)] == CODEC.decode(b"[" + event + b"]", subject)


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"1", b"{} {}", b"\xff", b"{}" * 2])
def test_what_is_no_event_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises(FrameError):
        CODEC.decode_one(body, "ctl")


def test_what_is_not_utf8_is_no_event_even_where_nobody_looks() -> None:
    """A decoder skips a member that it does not know, and JSON that is not UTF-8 is none for other readers."""
    event = encode_one(Recorded("1", "test", AT, NARROW))
    odd = event.replace(b'"specversion"', b'"colour":"\xff","specversion"')
    read, after = CODEC.decode(join([odd, event]), CTL, bodies=True)
    assert (type(read), after) == (Unread, Recorded("1", "test", AT, NARROW, event))
    assert isinstance(read, Unread)
    assert (read.fault, read.why) == ("undecodable", "not UTF-8")
    with pytest.raises(FrameError, match="not UTF-8"):
        CODEC.decode_one(odd, "ctl")
    fine = event.replace(b'"specversion"', '"colour":"💧","specversion"'.encode())
    assert CODEC.decode_one(fine, "ctl") == Recorded("1", "test", AT, NARROW)
    assert CODEC.decode(join([fine]), CTL) == [Recorded("1", "test", AT, NARROW)]


def _deep(levels: int, *, place: bytes = b'"specversion"', opening: bytes = b"[", closing: bytes = b"]") -> bytes:
    """An event of so many levels, the envelope being the first; its member `colour` has all that no one knows."""
    inner = levels - 1
    colour = b'"colour":' + opening * (inner - 1) + b"[" + b"]" + closing * (inner - 1) + b","
    return encode_one(Recorded("1", "test", AT, NARROW)).replace(place, colour + place)


DEEPEST = [
    pytest.param({}, id="lists"),
    pytest.param({"opening": b'{"x":', "closing": b"}"}, id="objects"),
    pytest.param({"opening": b'["]]]}}","\\"]", ', "closing": b"]"}, id="lists with brackets in their strings"),
    pytest.param({"opening": b'[[],{"y":"\\\\"} , ', "closing": b"]"}, id="lists with others beside"),
]


@pytest.mark.parametrize("shape", DEEPEST)
@pytest.mark.parametrize("beside", [0, 1, 255])
def test_an_event_is_nested_as_deep_as_it_may_be(shape: dict[str, bytes], beside: int) -> None:
    """Alone, in a frame, and in one of so many events that its brackets alone say nothing."""
    event = _deep(NESTING_MAX, **shape)
    assert CODEC.decode_one(event, "ctl") == Recorded("1", "test", AT, NARROW)
    read = CODEC.decode(join([event, *[BESIDE] * beside]), CTL, bodies=True)
    assert (len(read), read[0]) == (beside + 1, Recorded("1", "test", AT, NARROW, event))


@pytest.mark.parametrize("shape", DEEPEST)
@pytest.mark.parametrize("beside", [0, 1, 255])
@pytest.mark.parametrize(
    "levels",
    [
        pytest.param(NESTING_MAX + 1, id="one more"),
        pytest.param(500, id="so deep that a decoder reads it"),
        pytest.param(10_000, id="so deep that none does"),
    ],
)
def test_what_is_nested_deeper_is_no_frame(shape: dict[str, bytes], beside: int, levels: int) -> None:
    event = _deep(levels, **shape)
    for damaged in (event, event.replace(b"door.opened.v3", b"door.closed.v1"), event + b"}"):
        with pytest.raises(FrameError, match="nested more than 64 levels deep"):
            CODEC.decode_one(damaged, "ctl")
        for frame in ([damaged, *[BESIDE] * beside], [*[BESIDE] * beside, damaged]):
            with pytest.raises(FrameError, match="nested more than 64 levels deep"):
                CODEC.decode(join(frame), CTL)


def test_many_brackets_in_the_strings_of_an_event_mean_nothing() -> None:
    event = Recorded("1", "test", AT, DoorOpened(door="[{" * 500 + '"' + "[" * 500, degrees=1))
    assert CODEC.decode(encode([event]), CTL) == [event]
    assert CODEC.decode_one(encode_one(event), "ctl") == event


def test_an_integer_has_as_many_digits_as_the_specification_says_whatever_python_takes() -> None:
    event = encode_one(Recorded("1", "test", AT, NARROW))
    before = sys.get_int_max_str_digits()
    try:
        for digits_max in (4300, 0, 10_000):
            sys.set_int_max_str_digits(digits_max)
            for quote in (b"", b'"'):
                longest, longer = (
                    event.replace(b'"degrees":10', b'"degrees":' + quote + b"9" * digits + quote)
                    for digits in (4300, 4301)
                )
                assert isinstance(CODEC.decode_one(longest, "ctl"), Recorded)
                read = CODEC.decode_one(longer, "ctl")
                assert isinstance(read, Unread)
                assert read.fault == "undecodable"
    finally:
        sys.set_int_max_str_digits(before)
