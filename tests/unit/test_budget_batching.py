"""When frames may begin: a lone ask never waits, many share ticks."""

from datetime import timedelta

import pytest

from keyforge.budget.application.batching import LOAD_ASKS, TICK_S, WORTH_ASKS, Batching
from keyforge.runtime.clock import SetClock
from tests.unit.budget_facts import T0


class Turned(SetClock):
    """Begins a little after a tick."""

    def turn(self, seconds: float) -> None:
        self.set(self.now() + timedelta(seconds=seconds))


def left_s(batching: Batching, asks: int) -> float:
    """What a frame that begins to wait now has to wait."""
    return batching.left_s(asks, batching.due_s())


@pytest.fixture
def clock() -> Turned:
    clock = Turned(T0)
    clock.turn(TICK_S / 10)
    return clock


def test_asks_one_by_one_never_wait(clock: Turned) -> None:
    batching = Batching(clock)
    for _ in range(1000):
        assert left_s(batching, 1) == 0.0
        batching.began(1)
        clock.turn(0.001)


def test_under_load_all_committers_wait_for_the_same_tick(clock: Turned) -> None:
    batching = Batching(clock)
    batching.began(LOAD_ASKS)
    clock.turn(TICK_S * 0.4)
    first = clock.monotonic() + left_s(batching, 1)
    clock.turn(TICK_S * 0.4)
    second = clock.monotonic() + left_s(batching, 1)
    assert 0 < left_s(batching, 1) <= TICK_S
    assert first == pytest.approx(second)


def test_asks_of_the_tick_before_count(clock: Turned) -> None:
    batching = Batching(clock)
    batching.began(LOAD_ASKS // 2)
    assert left_s(batching, 1) == 0.0
    clock.turn(TICK_S)
    batching.began(LOAD_ASKS // 2)
    assert left_s(batching, 1) > 0.0


def test_load_ends_two_ticks_after_its_last_frame(clock: Turned) -> None:
    batching = Batching(clock)
    batching.began(LOAD_ASKS)
    clock.turn(TICK_S)
    assert left_s(batching, 1) > 0.0
    clock.turn(TICK_S)
    assert left_s(batching, 1) == 0.0


def test_many_waiting_are_worth_a_frame_at_once(clock: Turned) -> None:
    batching = Batching(clock)
    batching.began(LOAD_ASKS)
    assert left_s(batching, WORTH_ASKS - 1) > 0.0
    assert left_s(batching, WORTH_ASKS) == 0.0


def test_a_frame_that_wakes_after_its_tick_does_not_wait_for_the_next(clock: Turned) -> None:
    batching = Batching(clock)
    batching.began(LOAD_ASKS)
    due_s = batching.due_s()
    clock.turn(batching.left_s(1, due_s) + TICK_S / 5)
    assert left_s(batching, 1) > 0.0, "one that came just now waits"
    assert batching.left_s(1, due_s) == 0.0


def test_a_pause_ends_load_however_long_it_is(clock: Turned) -> None:
    batching = Batching(clock)
    batching.began(LOAD_ASKS)
    clock.turn(TICK_S * 100)
    assert left_s(batching, 1) == 0.0
