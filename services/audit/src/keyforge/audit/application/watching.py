"""Works until something that is watched ends."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def unless_ended(watched: asyncio.Future[None], working: Coroutine[Any, Any, T]) -> T:
    """Return what `working` returns; raise what ended `watched` if that comes first."""
    task = asyncio.ensure_future(working)
    try:
        both: list[asyncio.Future[Any]] = [task, watched]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            watched.result()
        return await task
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
