"""Answers that hold what the logs held when they were asked for: who makes a call and then looks for it finds it."""

import asyncio
from contextlib import suppress
from typing import Annotated, Final

from fastapi import Query

from keyforge.audit.application.projection import Projection
from keyforge.eventlog.log import EventLogError

WAIT_S: Final = 5.0
WAIT_S_MAX: Final = 30.0

Wait = Annotated[
    float,
    Query(
        ge=0,
        le=WAIT_S_MAX,
        allow_inf_nan=False,
        description="Seconds to wait at most until what the log holds at this moment is in the answer.",
    ),
]


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
