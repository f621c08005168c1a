"""The small parts of the core: holds, overdue events, timing wheel, decision time, broker's clock, limit statuses."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyforge.budget.core.broker_clock import BrokerClock
from keyforge.budget.core.decision_time import DecisionTime
from keyforge.budget.core.holds import HeldFrame
from keyforge.budget.core.limit_status import limit_statuses
from keyforge.budget.core.overdue import Overdue
from keyforge.budget.core.state_hash import state_hash
from keyforge.contracts.events import ModelResumed, RequestAbandoned, RequestAdmitted, RequestOverran
from keyforge.contracts.ids import ModelName, OwnerId
from keyforge.contracts.limits import WINDOWS, Window, window_id
from keyforge.contracts.timing_wheel import BUCKET_S, TimingWheel
from tests.unit.budget_facts import (
    KEY,
    T0,
    Story,
    abandoned,
    after,
    ask,
    cancelled,
    cap,
    completed,
    fenced,
    key_created,
    key_revoked,
    key_updated,
    resumed,
    rid,
    tenant_created,
)


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=20))
def test_undoing_a_frame_is_exact(asks: list[tuple[int, bool]]) -> None:
    """Hold any number of admissions and take them back, in any order: nothing is left, and the ledger never moved."""
    story = Story(tenant_created(cap("tokens", "day", 200)), key_created(cap("usd", "day", 100)))
    before = state_hash(story.ledger)
    held = []
    for number, (nusd, named) in enumerate(asks):
        admitted = story.decide(ask(number, nusd, idempotency_hash=f"h{number}" if named else None))
        if isinstance(admitted, RequestAdmitted):
            story.holds.hold(story.ledger, admitted, HeldFrame())
            held.append((nusd, admitted))
    for _, admitted in sorted(held, key=lambda one: one[0]):
        story.holds.release(admitted.request_id)
        story.holds.release(admitted.request_id)
    assert [len(story.held()), len(story.holds.requests), len(story.holds.idempotency)] == [0, 0, 0]
    assert state_hash(story.ledger) == before


def test_what_is_held_counts_like_what_is_reserved() -> None:
    story = Story(tenant_created(), key_created(cap("usd", "day", 100)))
    admitted = story.decide(ask(1, 60, idempotency_hash="h"))
    assert isinstance(admitted, RequestAdmitted)
    frame = HeldFrame(admissions=3)
    story.holds.hold(story.ledger, admitted, frame)
    assert frame.admissions == 4
    assert getattr(story.decide(ask(2, 41)), "type", "") == "budget_exceeded"
    assert getattr(story.decide(ask(2, 1, idempotency_hash="h")), "first_request", "") == rid(1)
    known = story.decide(ask(1, 60, idempotency_hash="h"))
    assert (getattr(known, "sequence", None), getattr(known, "index", None)) == (0, 0)
    frame.sequence = 7
    again = story.decide(ask(1, 60, idempotency_hash="h"))
    assert (getattr(again, "sequence", 0), getattr(again, "index", 0)) == (7, 3)


def test_an_abandonment_is_due_when_the_grace_is_over_and_is_recorded_once() -> None:
    story = Story(tenant_created(), key_created())
    story.reserve(ask(1))
    story.reserve(ask(2))
    story.use(completed(2, 1))
    overdue = Overdue(timedelta(seconds=10))
    assert not overdue.due(story.ledger, after(69.9), 10)
    [event] = overdue.due(story.ledger, after(70), 10)
    assert event == abandoned(1)
    assert overdue.due(story.ledger, after(71), 10) == [event]  # its frame was refused: still due
    overdue.stored(event)
    assert not overdue.due(story.ledger, after(72), 10)
    story.now = after(72)
    story.adm(event)
    assert not overdue.due(story.ledger, after(1000), 10)


def test_overdue_events_come_in_bounded_portions_and_all_of_them_come() -> None:
    story = Story(tenant_created(), key_created())
    for i in range(50):
        story.reserve(ask(i, ttl_ms=1000 + i * 700))
    overdue = Overdue(timedelta(seconds=10))
    stored = set()
    for turn in range(20):
        events = overdue.due(story.ledger, after(100 + turn), 7)
        assert len(events) <= 7
        for event in events:
            assert isinstance(event, RequestAbandoned)
            stored.add(event.request_id)
            overdue.stored(event)
        story.adm(*events)
    assert stored == {rid(i) for i in range(50)}


def test_an_admission_that_is_folded_late_falls_due_all_the_same() -> None:
    """The owner's reader lagged by more than the deadline and the grace."""
    story = Story(tenant_created(), key_created())
    first, late = story.decide(ask(1)), story.decide(ask(2))
    assert isinstance(first, RequestAdmitted)
    assert isinstance(late, RequestAdmitted)
    story.adm(first)
    overdue = Overdue(timedelta(seconds=10))
    for seconds in (80, 160, 10_000):
        for event in overdue.due(story.ledger, after(seconds), 10):
            overdue.stored(event)
    story.adm(late)
    assert overdue.due(story.ledger, after(10_001), 10) == [abandoned(2)]


def test_an_overrun_is_reported() -> None:
    story = Story(tenant_created(), key_created())
    story.reserve(ask(1, 10))
    story.use(completed(1, 15))
    [event] = Overdue(timedelta(seconds=10)).due(story.ledger, T0, 10)
    assert isinstance(event, RequestOverran)
    assert (event.reserved.nusd, event.settled.nusd, event.settled.tokens) == (10, 15, 15)


@given(st.lists(st.integers(0, 5000), max_size=50), st.integers(0, 6000))
def test_a_timing_wheel_gives_each_entry_once_when_its_bucket_is_over(dues: list[int], now_s: int) -> None:
    agenda: TimingWheel[int] = TimingWheel()
    for due in dues:
        agenda.add(due, due)
    taken = agenda.take(now_s)
    assert sorted(taken) == sorted(due for due in dues if due // BUCKET_S < now_s // BUCKET_S)
    assert sorted(taken + agenda.take(10**9)) == sorted(dues)
    assert len(agenda) == 0
    assert agenda.first_s() is None


@pytest.mark.parametrize("window", [w for w in WINDOWS if w != "total"])
@given(seconds=st.floats(0, 80 * 365 * 86_400))
def test_what_is_left_of_a_window_ends_it(window: Window, seconds: float) -> None:
    at = after(seconds)
    decision_time = DecisionTime(at)
    left = timedelta(seconds=decision_time.left_s(window))
    assert window_id(window, at + left) == decision_time.ids[window] + 1
    assert (
        left == timedelta(seconds=1) or window_id(window, at + left - timedelta(seconds=1)) == decision_time.ids[window]
    )


def test_total_never_ends() -> None:
    assert DecisionTime(T0).left_s("total") == 0


@pytest.mark.parametrize(
    ("wall", "skewed"),
    [
        pytest.param(10.0, False, id="right"),
        pytest.param(10.9, False, id="a little ahead"),
        pytest.param(11.1, True, id="ahead"),
        pytest.param(8.6, False, id="late by the append's own time and less than a second"),
        pytest.param(8.4, True, id="late"),
        pytest.param(90000.0, True, id="a day ahead"),
    ],
)
def test_a_wall_clock_is_wrong_only_when_it_must_be(wall: float, skewed: bool) -> None:
    """The broker stamped 0 s; we had sent at 100 and seen it at 100.5 of our monotonic seconds; it is 110 now."""
    clock = BrokerClock()
    assert not clock.skewed(after(wall), 110.0)
    clock.sampled(T0, sent_s=100.0, seen_s=100.5)
    assert clock.skewed(after(wall), 110.0) is skewed


def test_limit_statuses_show_what_is_left() -> None:
    story = Story(tenant_created(cap("requests", "minute", 3)), key_created(cap("usd", "month", 100)))
    story.reserve(ask(1, 60))
    story.reserve(ask(2, 30))
    story.use(completed(1, 20))
    usd, requests = limit_statuses(story.ledger.keys[KEY], DecisionTime(story.now))
    assert (usd.scope, usd.cap, usd.settled, usd.reserved, usd.remaining) == ("key", 100, 20, 30, 50)
    assert (usd.start, usd.end) == (datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
    assert (requests.scope, requests.settled, requests.reserved, requests.remaining) == ("tenant", 1, 1, 1)
    [usd, requests] = limit_statuses(story.ledger.keys[KEY], DecisionTime(after(60)))
    assert (requests.settled, requests.reserved) == (0, 0)


def test_an_overrun_is_reported_once() -> None:
    story = Story(tenant_created(), key_created())
    story.reserve(ask(1, 10))
    story.use(completed(1, 15))
    overdue = Overdue(timedelta(seconds=10))
    [event] = overdue.due(story.ledger, T0, 10)
    assert overdue.due(story.ledger, T0, 10) == [event]  # its frame was refused: still to be reported
    overdue.stored(event)
    assert not overdue.due(story.ledger, T0, 10)


def test_an_owner_that_looked_before_it_folded_anything_looks_again() -> None:
    story = Story(tenant_created(), key_created())
    admitted = story.decide(ask(1))
    assert isinstance(admitted, RequestAdmitted)
    overdue = Overdue(timedelta(seconds=10))
    assert not overdue.due(story.ledger, after(10_000), 10)
    story.adm(admitted)
    assert overdue.due(story.ledger, after(10_001), 10) == [abandoned(1)]


def test_a_cap_below_what_is_used_leaves_nothing() -> None:
    story = Story(tenant_created(), key_created(cap("usd", "month", 100)))
    story.reserve(ask(1, 60))
    story.ctl(key_updated(cap("usd", "month", 40)))
    [usd] = limit_statuses(story.ledger.keys[KEY], DecisionTime(story.now))
    assert (usd.cap, usd.reserved, usd.remaining) == (40, 60, 0)


def a_story() -> Story:
    story = Story(tenant_created(), key_created(cap("usd", "month", 100)))
    story.reserve(ask(1, 10))
    return story


def billed(story: Story, resumed_: ModelResumed) -> None:
    """A request that overran was reported, and a model resumed."""
    story.use(completed(1, 15))
    [overran] = Overdue(timedelta(seconds=10)).due(story.ledger, T0, 10)
    story.adm(overran)
    story.ctl(resumed_)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(
            lambda story: story.use(completed(1, 3)), lambda story: story.use(completed(1, 4)), id="what is settled"
        ),
        pytest.param(
            lambda story: story.use(completed(1, 0)), lambda story: story.use(cancelled(1)), id="how a request ended"
        ),
        pytest.param(
            lambda story: story.ctl(key_revoked()),
            lambda story: story.ctl(key_updated(cap("usd", "month", 100))),
            id="a key's status",
        ),
        pytest.param(
            lambda story: billed(story, resumed()),
            lambda story: billed(story, msgspec.structs.replace(resumed(), model=ModelName("other"))),
            id="what is frozen",
        ),
        pytest.param(
            lambda story: story.use(cancelled(9)), lambda story: story.use(cancelled(8)), id="what was cancelled before"
        ),
        pytest.param(
            lambda story: story.ctl(fenced(1)), lambda story: story.ctl(fenced(1, OwnerId("b"))), id="who owns it"
        ),
    ],
)
def test_replicas_that_differ_show_it(one: Callable[[Story], object], other: Callable[[Story], object]) -> None:
    stories = a_story(), a_story()
    assert state_hash(stories[0].ledger) == state_hash(stories[1].ledger)
    for story, change in zip(stories, (one, other), strict=True):
        change(story)
    assert stories[0].ledger.sequence == stories[1].ledger.sequence
    assert state_hash(stories[0].ledger) != state_hash(stories[1].ledger)
