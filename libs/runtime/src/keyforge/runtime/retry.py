"""Calls something until it succeeds, with pauses between the attempts that grow to a bound."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

T = TypeVar("T")
Errors = type[Exception] | tuple[type[Exception], ...]


class Backoff(msgspec.Struct, frozen=True):
    """The pauses between attempts: `first_s`, each next one twice as long, none over `max_s`."""

    first_s: float
    max_s: float


async def retrying(
    attempt: Callable[[], Awaitable[T]],
    *,
    backoff: Backoff,
    retry_on: Errors,
    failed: Callable[[Exception], None],
    raise_on: Errors = (),
) -> T:
    """Return what `attempt` returns, calling it again after a pause each time it raises one of `retry_on`.

    `failed` is called with each of these errors, before the pause. Everything else is raised at once, and of `retry_on`
    what is one of `raise_on`. There is no limit to the attempts: who must not wait without end bounds the time.
    """
    pause_s = backoff.first_s
    while True:
        try:
            return await attempt()
        except raise_on:
            raise
        except retry_on as fault:
            failed(fault)
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, backoff.max_s)
