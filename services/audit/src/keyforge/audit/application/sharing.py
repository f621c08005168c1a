"""Runs long work once for all who ask for the same at one time, and a few at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class _Work(Generic[T]):
    """Work that runs or waits for its turn, and how many wait for it."""

    def __init__(self, task: asyncio.Future[T]) -> None:
        self.task = task
        self.waiting = 0


class SharedWork(Generic[K, T]):
    """Work by what it is about. At most `at_once_max` of different kinds run at a time."""

    def __init__(self, at_once_max: int) -> None:
        self._free = asyncio.Semaphore(at_once_max)
        self._working: dict[K, _Work[T]] = {}

    async def run(self, about: K, work: Callable[[], Awaitable[T]]) -> T:
        """Return what `work` returns, or what was begun earlier about the same and has not ended.

        It is cancelled with the last who waits for it.
        """
        found = self._working.get(about)
        if found is None:
            found = self._working[about] = _Work(asyncio.ensure_future(self._in_turn(work)))
        found.waiting += 1
        try:
            return await asyncio.shield(found.task)
        finally:
            found.waiting -= 1
            if not found.waiting:
                if self._working.get(about) is found:
                    del self._working[about]
                if not found.task.done():
                    found.task.cancel()
                    await asyncio.wait([found.task])

    async def _in_turn(self, work: Callable[[], Awaitable[T]]) -> T:
        async with self._free:
            return await work()
