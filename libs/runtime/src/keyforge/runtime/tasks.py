"""Ends tasks reliably.

Before Python 3.12 `asyncio.wait_for`, through which nats-py waits for each answer, loses a cancellation that comes in
the same turn as the answer (python/cpython#86296). A task that then goes on with its next step ends by a later one.
"""

import asyncio
from collections.abc import Collection
from typing import Any, Final

REPEAT_S: Final = 0.5
"""Before a task is cancelled again. Chosen: what a task does at its end takes milliseconds; doubled, an owner that ends
gives its lease back a second late."""
CANCELS_MAX: Final = 10
"""A task that ends by none of them is given up. Chosen: with REPEAT_S 5 s; each is lost by chance alone."""


async def end(tasks: Collection["asyncio.Task[Any]"], *, repeat_s: float = REPEAT_S) -> None:
    """Cancel tasks until they have ended, with whatever result; give up after `CANCELS_MAX` times.

    `repeat_s`: more where what a task does at its end takes longer.
    """
    for _ in range(CANCELS_MAX):
        for task in tasks:
            task.cancel()
        if not tasks or not (await asyncio.wait(tasks, timeout=repeat_s))[1]:
            break
    for task in tasks:
        if task.done() and not task.cancelled():
            task.exception()
