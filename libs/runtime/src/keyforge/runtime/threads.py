"""Runs blocking calls in threads that nobody outlives."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


async def in_thread(call: Callable[..., T], *args: Any) -> T:
    """Run a blocking call in a thread. A cancellation waits for its end, since a thread cannot be cancelled."""
    return await _ended(asyncio.ensure_future(asyncio.to_thread(call, *args)))


async def in_thread_of(executor: Executor, call: Callable[..., T], *args: Any) -> T:
    """Do what `in_thread` does, in a thread of `executor`: behind nothing but what that was given before."""
    return await _ended(asyncio.get_running_loop().run_in_executor(executor, call, *args))


async def _ended(running: asyncio.Future[T]) -> T:
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            with suppress(asyncio.CancelledError):  # a second one waits as well
                await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # nobody asks for it any more
        raise
