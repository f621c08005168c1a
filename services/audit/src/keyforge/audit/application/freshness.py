"""Makes answers current: they hold what the logs held when they were asked for, and no table that a rebuild empties."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import ParamSpec, TypeVar

from keyforge.audit.application.projection import Projection
from keyforge.audit.errors import StoreError
from keyforge.eventlog.log import EventLogError

P = ParamSpec("P")
T = TypeVar("T")


async def wait_until_stored(projection: Projection, wait_s: float) -> int:
    """Wait up to `wait_s` until what the logs hold now is stored; return how many of their messages are not.

    It does not wait for a store that fails, a projection that does not follow, or a log that cannot be read on: what is
    not stored because of them is counted.
    """
    writer = projection.writer
    if wait_s and writer is not None:
        with suppress(TimeoutError, EventLogError):
            async with asyncio.timeout(wait_s):
                await projection.refresh_ends()
                if writer.healthy and projection.state == "following":
                    ends = projection.ends()
                    await writer.until(ends)
                    return sum(max(0, end - writer.done.get(partition, 0)) for partition, end in ends.items())
    return sum(projection.lag().values())


async def read_store(projection: Projection, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call the store in a thread. Raises StoreError also if it is not open, or if a rebuild drops its tables."""
    writer = projection.writer
    if writer is not None:
        found = await asyncio.to_thread(call, *args, **kwargs)
        if projection.writer is writer:
            return found
    raise StoreError("the store is not open")
