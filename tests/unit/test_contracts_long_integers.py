"""Caps of any size take the way of small ones: written and read in one pass, and decided on alike."""

import json
from collections.abc import Callable, Sequence
from typing import NoReturn

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyforge.budget.core.admit import Outcome
from keyforge.contracts import canonical, frame, subjects
from keyforge.contracts.canonical import SAFE_INTEGER_MAX, quote_long_integers, unquote_long_integers
from keyforge.contracts.events import Event, KeyCreated, TenantUpdated
from keyforge.contracts.ids import TenantId
from keyforge.contracts.limits import CAP_MAX
from keyforge.contracts.money import NUSD_PER_USD
from tests.unit.budget_facts import (
    T0,
    Story,
    ask,
    cap,
    completed,
    fenced,
    key_created,
    key_revoked,
    rid,
    tenant_created,
    tenant_updated,
)

CTL = subjects.ctl(0)
USD = (100, 999_999, 1_000_000, 1_000_001, 9_007_199, 9_007_200, 10_000_000, 1_000_000_000, CAP_MAX // NUSD_PER_USD)
CAPS = (
    st.sampled_from(USD).map(NUSD_PER_USD.__mul__)
    | st.integers(SAFE_INTEGER_MAX - 2, SAFE_INTEGER_MAX + 3)
    | st.integers(0, CAP_MAX)
)
DIGITS = st.sampled_from(["1", "1234567890123456789", ":1234567890123456789,", '"', "\\", ',"9007199254740993"', "[-"])
TEXT = st.lists(DIGITS, max_size=3).map("".join)


def recorded(events: Sequence[Event]) -> list[frame.Recorded]:
    return [frame.Recorded(str(number), "keys", T0, event) for number, event in enumerate(events)]


def refuse(*_: object, **__: object) -> NoReturn:
    raise AssertionError("the slow way")


@pytest.mark.parametrize("usd", USD)
def test_a_cap_of_any_size_takes_the_short_way(usd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    events = recorded([key_created(cap("usd", "month", usd * NUSD_PER_USD)), key_revoked()])
    with monkeypatch.context() as patched:
        patched.setattr(canonical, "_quoted", refuse)
        patched.setattr(frame.Codec, "_read", refuse)
        written = frame.encode(events)
        assert frame.decode(written, CTL) == events
        bodies = [one.body for one in frame.decode(written, CTL, bodies=True) if isinstance(one, frame.Recorded)]
    assert b"[" + b",".join(bodies) + b"]" == written


@st.composite
def control_events(draw: st.DrawFn) -> list[Event]:
    """Control events with caps and texts of every kind."""
    made: list[Callable[..., KeyCreated | TenantUpdated]] = [key_created, tenant_updated]
    events: list[Event] = []
    for _ in range(draw(st.integers(1, 4))):
        event = draw(st.sampled_from(made))(*(cap("usd", "day", amount) for amount in draw(st.lists(CAPS, max_size=3))))
        event = msgspec.structs.replace(event, tenant=TenantId(draw(TEXT)))
        if isinstance(event, KeyCreated):
            models = draw(st.none() | st.lists(TEXT, max_size=2).map(tuple))
            event = msgspec.structs.replace(event, models=models, max_output_tokens=draw(st.none() | CAPS))
        events.append(event)
    return events


@given(control_events())
def test_what_is_written_is_canonical_and_read_as_it_was(events: list[Event]) -> None:
    sent = recorded(events)
    written = frame.encode(sent)
    assert written == canonical.canonical(json.loads(written))
    assert frame.decode(written, CTL) == sent


@given(control_events())
def test_an_event_is_read_alike_beside_one_that_is_unread(events: list[Event]) -> None:
    sent = recorded(events)
    unknown = b'{"data":{},"id":"x","source":"keys","specversion":"1.0","time":"2026-11-23T12:00:30Z","type":"new.v1"}'
    read = frame.decode(frame.join([*map(frame.encode_one, sent), unknown]), CTL)
    assert read[:-1] == sent
    assert isinstance(read[-1], frame.Unread)


VALUES = st.recursive(
    st.none() | st.booleans() | CAPS | CAPS.map(int.__neg__) | TEXT | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT.filter(str.isascii), inner, max_size=3),
    max_leaves=12,
)


@given(VALUES)
def test_quotes_are_put_and_taken_where_they_belong(value: object) -> None:
    written = msgspec.json.encode(value, order="sorted")
    assert quote_long_integers(written, value) == canonical._quoted(value)
    assert msgspec.json.decode(unquote_long_integers(quote_long_integers(written, value))) == unquoted(value)


def unquoted(value: object) -> object:
    """A value as it is where every string of a long integer is one."""
    if isinstance(value, dict):
        return {name: unquoted(item) for name, item in value.items()}
    if isinstance(value, list):
        return [unquoted(item) for item in value]
    if isinstance(value, str) and value.isdigit() and not value.startswith("0") and int(value) > SAFE_INTEGER_MAX:
        return int(value)
    return value


def test_what_is_no_json_does_not_become_some() -> None:
    """Without its quotes this would be: a string, and a member beside it."""
    written = frame.encode(recorded([key_created(cap("usd", "day", 2**53))]))
    broken = written.replace(b'"by":"op1"', b'"by":"op1,"9007199254740993","')
    assert broken != written
    with pytest.raises(frame.FrameError):
        frame.decode(broken, CTL)


@given(
    CAPS.filter(lambda amount: amount >= 1000),
    st.lists(st.tuples(st.integers(0, 600), st.none() | st.integers(0, 600)), max_size=8),
)
def test_a_large_cap_decides_as_a_small_one_of_which_as_much_is_left(
    amount: int, requests: list[tuple[int, int | None]]
) -> None:
    small, large = told(1000), told(amount)
    for story, spent in ((small, 0), (large, amount - 1000)):
        assert shown(story.reserve(ask("before", spent))) == "admitted"
        story.use(completed("before", spent))
    for number, (worst, used) in enumerate(requests):
        outcomes = [shown(story.reserve(ask(number, worst))) for story in (small, large)]
        assert outcomes[0] == outcomes[1]
        if used is not None and outcomes[0] == "admitted":
            for story in (small, large):
                story.use(completed(number, used))
                assert story.ledger.state_of(rid(number)) == "completed"


def told(amount: int) -> Story:
    """A story whose caps came through the log."""
    written = frame.encode(recorded([tenant_created(cap("usd", "month", amount)), key_created(), fenced(1)]))
    return Story(*(one.event for one in frame.decode(written, CTL) if isinstance(one, frame.Recorded)))


def shown(outcome: Outcome) -> str:
    return getattr(outcome, "type", "admitted")
