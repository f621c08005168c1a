"""Promises in seconds, kept on a machine that has other work: allowed is as much longer as it makes any work."""

import time

WORK_S = 0.05
"""Processor time of the work that is measured."""


def crowd() -> float:
    """How many times as long as its processor time some work takes here, now: 1 where nobody else computes."""
    begun, used = time.perf_counter(), time.thread_time()
    while (worked := time.thread_time() - used) < WORK_S:
        pass
    return max(1.0, (time.perf_counter() - begun) / worked)


def within(elapsed_s: float, promise_s: float, *, others: float | None = None) -> bool:
    """Whether `promise_s` was kept: twice as long is allowed on a quiet machine, for a test waits and asks as well.

    `others`: what `crowd` says; it is asked only where a quiet machine would have been too late.
    """
    return elapsed_s < 2 * promise_s or elapsed_s < promise_s * (1 + (crowd() if others is None else others))
