"""What the tests of budget's owner share: a clock that is set, and a log of one partition by it."""

import pytest

from keyforge.eventlog.memory import MemoryLog
from keyforge.runtime.clock import SetClock
from tests.unit.budget_facts import T0


@pytest.fixture
def clock() -> SetClock:
    return SetClock(T0)


@pytest.fixture
def log(clock: SetClock) -> MemoryLog:
    return MemoryLog.of_partitions(1, clock=clock.now)
