"""Canonical JSON: what msgspec writes for events is what RFC 8785 asks for, byte for byte."""

import json
from typing import Any

import msgspec
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from keyforge.contracts import events, frame
from keyforge.contracts.canonical import SAFE_INTEGER_MAX, canonical
from keyforge.contracts.limits import CAP_MAX, Amounts, Limit
from keyforge.contracts.usage import UnitPrices, Usage
from tests.unit import audit_facts as facts

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
ASCII = st.text(st.characters(max_codepoint=127), max_size=8)
SAFE = st.integers(-SAFE_INTEGER_MAX, SAFE_INTEGER_MAX)
VALUES = st.recursive(
    st.none() | st.booleans() | SAFE | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ASCII, inner, max_size=4),
    max_leaves=20,
)
EVERY = [
    facts.tenant_created(),
    facts.key_created(),
    facts.key_revoked(),
    facts.fenced(),
    facts.admitted(1),
    facts.completed(1),
    facts.completed(2, usage=None),
    facts.cancelled(1),
    facts.abandoned(1),
    facts.refused(1),
    facts.overran(1),
    facts.price_set(),
]


@given(VALUES)
def test_equal_to_the_library(value: Any) -> None:
    assert canonical(value) == rfc8785.dumps(value)


@given(st.integers(SAFE_INTEGER_MAX + 1, 10**40), VALUES)
def test_an_integer_that_no_double_holds_becomes_text(number: int, beside: Any) -> None:
    for sign in (1, -1):
        long = sign * number
        found = canonical({"a": [long], "b": beside, "c": [0, long], "d": long})
        assert found == rfc8785.dumps({"a": [str(long)], "b": beside, "c": [0, str(long)], "d": str(long)})


@given(st.integers(2**53, 10**18), st.sampled_from(["a", "b", "c"]))
def test_a_long_integer_alone_is_found_wherever_it_stands(number: int, where: str) -> None:
    shapes: dict[str, tuple[Any, Any]] = {
        "a": ([number], [str(number)]), "b": ([0, number], [0, str(number)]), "c": ({"n": number}, {"n": str(number)})
    }  # fmt: skip
    value, expected = shapes[where]
    assert canonical(value) == rfc8785.dumps(expected)


@pytest.mark.parametrize("number", [SAFE_INTEGER_MAX - 1, SAFE_INTEGER_MAX, 10**15, -SAFE_INTEGER_MAX])
def test_the_largest_safe_integers_stay_numbers(number: int) -> None:
    assert canonical({"n": number}) == b'{"n":%d}' % number


def test_sixteen_digits_in_a_text_change_nothing() -> None:
    for text in ("1234567890123456789", ":1234567890123456789", "[-1234567890123456"):
        assert canonical({"n": text}) == b'{"n":"%s"}' % text.encode()


@pytest.mark.parametrize("recorded", EVERY, ids=lambda recorded: recorded.event.TYPE)
def test_an_event_is_written_in_canonical_json(recorded: frame.Recorded) -> None:
    found = frame.encode_one(recorded)
    assert found == rfc8785.dumps(json.loads(found))
    (again,) = frame.decode(b"[" + found + b"]", _subject(recorded.event), bodies=True)
    assert again == msgspec.structs.replace(recorded, body=found)


@pytest.mark.parametrize("cap", [SAFE_INTEGER_MAX, SAFE_INTEGER_MAX + 1, CAP_MAX, 10**25])
def test_an_event_with_a_long_integer_is_written_and_read(cap: int) -> None:
    limits = (Limit(unit="usd", window="day", cap=cap), Limit(unit="usd", window="hour", cap=5))
    event = msgspec.structs.replace(facts.key_created().event, limits=limits)
    written = frame.encode_one(frame.Recorded("1", "keys", facts.NOW, event))
    assert written == rfc8785.dumps(json.loads(written))
    assert (b'"cap":"%d"' % cap in written) == (cap > SAFE_INTEGER_MAX)
    (read,) = frame.decode(b"[" + written + b"]", "kf.log.0.ctl", bodies=True)
    assert isinstance(read, frame.Recorded)
    assert (read.event, read.body) == (event, written)


@pytest.mark.parametrize(
    ("written", "altered"),
    [
        (b'"cap":"9007199254740993"', b'"cap":"5"'),
        (b'"cap":"9007199254740993"', b'"cap":"09007199254740993"'),
        (b'"cap":"9007199254740993"', b'"cap": "9007199254740993"'),
        (b'"revision":1', b'"revision":"1"'),
        (b'"max_output_tokens":null', b'"max_output_tokens":"null"'),
    ],
)
def test_nothing_else_is_read_laxly(written: bytes, altered: bytes) -> None:
    event = msgspec.structs.replace(
        facts.key_created().event, limits=(Limit(unit="usd", window="day", cap=2**53 + 1),), max_output_tokens=None
    )
    data = frame.encode([frame.Recorded("1", "keys", facts.NOW, event)])
    assert written in data
    (read,) = frame.decode(data.replace(written, altered), "kf.log.0.ctl")
    assert isinstance(read, frame.Unread)
    assert read.fault == "undecodable"


LARGE = st.integers(0, 2**62) | st.sampled_from([SAFE_INTEGER_MAX, SAFE_INTEGER_MAX + 1, CAP_MAX])


@given(LARGE, LARGE, st.sampled_from(sorted(UnitPrices.__struct_fields__)), LARGE)
def test_an_admission_with_any_amount_is_written_in_canonical_json(
    nusd: int, tokens: int, name: str, price: int
) -> None:
    recorded = facts.admitted(1, reserved=Amounts(nusd=nusd, tokens=tokens))
    assert isinstance(recorded.event, events.RequestAdmitted)
    prices = msgspec.structs.replace(recorded.event.prices, **{name: price})
    event = msgspec.structs.replace(recorded.event, prices=prices)
    _is_canonical(msgspec.structs.replace(recorded, event=event), "kf.log.0.adm")


@given(st.sampled_from(sorted(Usage.__struct_fields__)), LARGE, st.none() | LARGE)
def test_a_completion_with_any_usage_is_written_in_canonical_json(name: str, count: int, cost: int | None) -> None:
    recorded = facts.completed(1, usage=Usage(**{name: count}))
    assert isinstance(recorded.event, events.RequestCompleted)
    event = msgspec.structs.replace(recorded.event, reported_cost_nusd=cost)
    _is_canonical(msgspec.structs.replace(recorded, event=event), "kf.log.0.use.edge-0")


def _is_canonical(recorded: frame.Recorded, subject: str) -> None:
    written = frame.encode_one(recorded)
    assert written == rfc8785.dumps(json.loads(written))
    (read,) = frame.decode(b"[" + written + b"]", subject)
    assert read == recorded


def test_structs_of_events_declare_their_fields_in_order() -> None:
    """What makes the plain encoder's output canonical; see `contracts.events`."""
    seen: set[type] = set()
    for event in events.EVENTS.values():
        assert not _floats(msgspec.inspect.type_info(event), seen)
    assert len(seen) > len(events.EVENTS)
    for struct in seen:
        names = [field.encode_name for field in msgspec.structs.fields(struct)]
        assert names == sorted(names), struct.__name__


def test_no_event_holds_a_floating_point_number() -> None:
    for event in events.EVENTS.values():
        assert not _floats(msgspec.inspect.type_info(event), set()), event.TYPE


def _subject(event: events.Event) -> str:
    writer = type(event).WRITER
    return {"use": "kf.log.0.use.edge-0", "platform": "kf.platform.ctl"}.get(writer, f"kf.log.0.{writer}")


def _floats(info: Any, seen: set[type]) -> bool:
    """Whether a float is anywhere in a type."""
    if isinstance(info, msgspec.inspect.FloatType | msgspec.inspect.AnyType):
        return True
    if isinstance(info, msgspec.inspect.StructType):
        if info.cls in seen:
            return False
        seen.add(info.cls)
        return any(_floats(field.type, seen) for field in info.fields)
    if isinstance(info, msgspec.inspect.UnionType):
        return any(_floats(one, seen) for one in info.types)
    if isinstance(info, msgspec.inspect.VarTupleType | msgspec.inspect.ListType):
        return _floats(info.item_type, seen)
    return False
