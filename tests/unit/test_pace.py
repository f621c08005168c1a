"""Promises in seconds: as strict as they read on a quiet machine, as patient as need be on a busy one."""

import threading
import time

import pytest

from tests.pace import crowd, within


@pytest.mark.parametrize(
    ("elapsed_s", "others", "kept"),
    [
        pytest.param(0.9, 1, True, id="as promised"),
        pytest.param(1.9, 1, True, id="with the test's own time"),
        pytest.param(2.1, 1, False, id="too late"),
        pytest.param(2.1, 2, True, id="two at once"),
        pytest.param(9.9, 9, True, id="nine at once"),
        pytest.param(10.1, 9, False, id="too late even there"),
    ],
)
def test_within(elapsed_s: float, others: float, kept: bool) -> None:
    assert within(elapsed_s, 1.0, others=others) is kept


def test_others_that_compute_are_felt() -> None:
    """Threads of one interpreter take turns, as processes of one core do."""
    alone = crowd()
    ended = threading.Event()

    def compute() -> None:
        while not ended.is_set():
            pass

    threads = [threading.Thread(target=compute) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        least = min(crowd() for _ in range(3))
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert alone >= 1
    assert least > 1.5


def test_it_takes_no_time_where_the_promise_is_kept() -> None:
    used = time.thread_time()
    assert within(0.1, 1.0)
    assert time.thread_time() - used < 0.01
