"""Ends tasks reliably: before Python 3.12 a cancellation that meets a finished wait is lost, so it is repeated."""

import asyncio
from collections.abc import Collection
from typing import Any, Final

REPEAT_S: Final = 0.5
CANCELS_MAX: Final = 10
"""A task that ends by none of them is given up after 5 s."""


async def end(tasks: Collection["asyncio.Task[Any]"]) -> None:
    """Cancel tasks until they have ended, with whatever result; give up after `CANCELS_MAX` times."""
    for _ in range(CANCELS_MAX):
        for task in tasks:
            task.cancel()
        if not tasks or not (await asyncio.wait(tasks, timeout=REPEAT_S))[1]:
            break
    for task in tasks:
        if task.done() and not task.cancelled():
            task.exception()
