"""Calls something until it succeeds, with pauses between the attempts that grow to a bound; or again without end."""

import asyncio
from collections.abc import Awaitable, Callable
from math import inf
from typing import NoReturn, TypeVar

import msgspec

T = TypeVar("T")
Errors = type[Exception] | tuple[type[Exception], ...]


class Backoff(msgspec.Struct, frozen=True):
    """The pauses between attempts: `first_s`, each next one twice as long, none over `max_s`."""

    first_s: float
    max_s: float


def ignored(_fault: Exception) -> None:
    """Nobody needs to know of an attempt that failed."""


async def retrying(
    attempt: Callable[[], Awaitable[T]],
    *,
    backoff: Backoff,
    retry_on: Errors,
    failed: Callable[[Exception], None] = ignored,
    raise_on: Errors = (),
    until_s: float = inf,
) -> T:
    """Return what `attempt` returns, calling it again after a pause each time it raises one of `retry_on`.

    `failed` is called with each of these errors, before the pause. Raised at once are all other errors, what is one of
    `raise_on`, and what is raised once the event loop's time is `until_s`.
    """
    now_s, pause_s = asyncio.get_running_loop().time, backoff.first_s
    while True:
        try:
            return await attempt()
        except raise_on:
            raise
        except retry_on as fault:
            if now_s() >= until_s:
                raise
            failed(fault)
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, backoff.max_s)


async def repeating(
    step: Callable[[], Awaitable[None]],
    *,
    pause_s: Callable[[], float],
    failed: Callable[[Exception], None],
    raise_on: Errors = (),
) -> NoReturn:
    """Do a step again and again, with a pause after each. For tasks that nobody awaits: a fault would end one unseen.

    `failed` is called with each fault of a step, and the next one is made all the same; what is one of `raise_on` ends
    it. `pause_s` is asked each time.
    """
    while True:
        try:
            await step()
        except raise_on:
            raise
        except Exception as fault:  # noqa: BLE001 - `failed` gets it, whatever it is
            failed(fault)
        await asyncio.sleep(pause_s())
