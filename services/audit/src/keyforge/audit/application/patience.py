"""How long a rebuild waits for the store, and how it notices that only the tables of before are refused."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

from keyforge.audit.application.follow import BACKOFF
from keyforge.audit.application.ports import RecordWriter
from keyforge.audit.application.watching import unless_ended
from keyforge.audit.errors import BesideLostError, StoreError, TablesRefusedError
from keyforge.eventlog.retry import Backoff, retrying

WATCH_S: Final = 0.1
"""Chosen: shorter than the 0.25 s between two questions of the command line (`reports.REBUILD_POLL_S`)."""
REFUSED_TRIES: Final = 8
"""How often what concerns the current tables is tried in a row while the store answers for those beside them: then it
refuses these tables. Chosen: with REFUSED_BACKOFF 22 s, in which the writer tries four times itself."""
REFUSED_BACKOFF: Final = Backoff(0.5, 5.0)
"""Chosen: as long as the writer waits at most (`writer.BACKOFF`)."""

T = TypeVar("T")


async def while_stored(writer: RecordWriter, working: Coroutine[Any, Any, T], patience_s: float) -> T:
    """Return what `working` returns. Raises StoreError once the store has not taken a block for `patience_s`."""
    refused = asyncio.ensure_future(_refused(writer, patience_s))
    try:
        return await unless_ended(refused, working)
    finally:
        refused.cancel()
        await asyncio.wait([refused])


async def _refused(writer: RecordWriter, patience_s: float) -> None:
    now = asyncio.get_running_loop().time
    healthy_s = now()
    while now() - healthy_s <= patience_s:
        await asyncio.sleep(WATCH_S)
        if writer.healthy:
            healthy_s = now()
    raise StoreError(f"the store has not taken a block of rows for {patience_s:.0f} s")


async def patiently(
    call: Callable[[], Awaitable[T]],
    *,
    failed: Callable[[Exception], None],
    patience_s: float,
    answers: Callable[[], Awaitable[None]] | None = None,
) -> T:
    """Return what `call` returns, calling it again until it does.

    Raises StoreError once it has failed for `patience_s`; TablesRefusedError once it has failed REFUSED_TRIES times
    in a row and `answers`, where there is one, after none of these; BesideLostError at once.
    """
    now = asyncio.get_running_loop().time
    until_s, refused = now() + patience_s, 0

    async def attempt() -> T:
        nonlocal refused
        try:
            return await call()
        except BesideLostError:
            raise
        except StoreError as error:
            refused = refused + 1 if answers is not None and await _succeeds(answers) else 0
            if refused >= REFUSED_TRIES:
                raise TablesRefusedError(str(error)) from error
            raise

    return await retrying(
        attempt,
        backoff=REFUSED_BACKOFF if answers is not None else BACKOFF,
        retry_on=StoreError,
        raise_on=(BesideLostError, TablesRefusedError),
        failed=failed,
        until_s=until_s,
    )


async def _succeeds(answers: Callable[[], Awaitable[None]]) -> bool:
    try:
        await answers()
    except BesideLostError:
        raise
    except StoreError:
        return False
    return True
