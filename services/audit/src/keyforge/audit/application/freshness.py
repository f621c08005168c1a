"""Answers that hold what the logs held when they were asked for: who makes a call and then looks for it finds it."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import ParamSpec, TypeVar

from keyforge.audit.application.projection import Projection
from keyforge.audit.errors import StoreError
from keyforge.eventlog.log import EventLogError

P = ParamSpec("P")
T = TypeVar("T")


async def settle(projection: Projection, wait_s: float) -> int:
    """Wait until what the logs hold now is stored; return how many of their messages are not when time is up.

    A store that takes nothing, or a projection that does not follow, is not waited for; only the logs are asked.
    """
    writer = projection.writer
    if wait_s and writer is not None:
        with suppress(TimeoutError, EventLogError):
            async with asyncio.timeout(wait_s):
                await projection.learn_ends()
                if writer.healthy and projection.state == "following":
                    await writer.until(projection.ends())
                    return 0
    return sum(projection.lag().values())


async def ask(projection: Projection, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Ask the store. Raises StoreError also where it is not open yet, or a rebuild takes the tables away meanwhile."""
    writer = projection.writer
    if writer is not None:
        found = await asyncio.to_thread(call, *args, **kwargs)
        if projection.writer is writer:
            return found
    raise StoreError("the tables are not there yet")
