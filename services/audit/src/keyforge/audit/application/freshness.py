"""Makes answers current: they hold what the logs held when they were asked for, and rows of one build of the tables."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, TypeVar

from keyforge.audit.application.build import Build
from keyforge.audit.application.follow import FollowedLog
from keyforge.audit.application.projection import Projection
from keyforge.audit.errors import StoreError
from keyforge.eventlog.log import EventLogError

T = TypeVar("T")

BUILDS_MAX: Final = 3
"""How often an answer is begun again because a rebuild swapped the tables meanwhile. Chosen: a rebuild takes longer
than an answer, so two in a row are not to be expected."""


async def wait_until_stored(build: Build, logs: Sequence[FollowedLog], wait_s: float) -> int:
    """Wait up to `wait_s` until what these logs hold now is stored; return how many of their messages are not.

    It does not wait for a store that fails, or for a log that has stopped: what is not stored because of them counts.
    """
    writer = build.writer
    if wait_s:
        with suppress(TimeoutError, EventLogError):
            async with asyncio.timeout(wait_s):
                await build.refresh_ends(logs)
                ends = {followed.partition: followed.end for followed in logs}
                if writer.healthy:
                    await writer.until(ends)
                return sum(max(0, end - writer.done.get(partition, 0)) for partition, end in ends.items())
    return sum(build.lag_of(followed) for followed in logs)


def left_s(end_s: float) -> float:
    """Return how long it is until a time of the event loop; 0 if that is past."""
    return max(0.0, end_s - asyncio.get_running_loop().time())


async def of_one_build(projection: Projection, answer: Callable[[Build], Awaitable[T]]) -> T:
    """Return an answer that was made from one build; it is made again if a rebuild took its place meanwhile.

    Raises StoreError if there is none.
    """
    for _ in range(BUILDS_MAX):
        build = projection.build
        if build is None:
            break
        try:
            found = await answer(build)
        except StoreError:
            if projection.build is build:
                raise
            continue
        if projection.build is build:
            return found
    raise StoreError("the store is not open")
