"""The laws of the money over long histories and many of them: minutes each, so by hand (`./taskw test:slow`)."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.unit import test_audit_and_budget as alike
from tests.unit.test_budget_invariants import MACHINES, Owner

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
HISTORIES = 1000
STEPS = 250
"""Of each history: more than the wheel of ends, the windows of a day and the tombstones that are held have turns."""


@pytest.mark.parametrize("machine", MACHINES)
def test_the_invariants_hold_over_long_histories(machine: type[Owner]) -> None:
    run_state_machine_as_test(machine, settings=settings(max_examples=HISTORIES, stateful_step_count=STEPS))


@pytest.fixture(scope="module")
def few_tombstones() -> Iterator[None]:
    yield from alike.with_few_tombstones()


def test_audit_and_budget_end_every_request_alike(few_tombstones: None) -> None:
    settings(max_examples=20_000)(given(alike.STEPS)(alike.check_ends))()
