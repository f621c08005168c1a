"""Compares tables and folds while no block is stored, or while none can be."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import Final, TypeVar

from keyforge.audit.application.build import Build
from keyforge.audit.errors import StoreError

BLOCK_S: Final = 2.0
"""How long it waits for the block that is being stored. Chosen: a hundred INSERTs (some 20 ms, `insert_seconds`); one
that the store does not take is repeated without an end, and what others did is compared all the same."""
TRIES_MAX: Final = 5
"""Of a comparison during which such a block was stored after all. Chosen: 10 s in all; then the store is slow, and the
comparison counts as failed."""

T = TypeVar("T")


async def between_blocks(build: Build, compare: Callable[[], Awaitable[T]]) -> T:
    """Return what `compare` returns of tables and folds between two blocks.

    Or while one is repeated that the store does not take: what may be stored of that is after the messages that are
    `done`, so callers leave it for the next time. Raises StoreError if such a block was stored each time.
    """
    for _ in range(TRIES_MAX):
        between = False
        async with AsyncExitStack() as stack:
            with suppress(TimeoutError):
                async with asyncio.timeout(BLOCK_S):
                    await stack.enter_async_context(build.writer.between_blocks())
                    between = True
            done = dict(build.writer.done)
            found = await compare()
        if between or build.writer.done == done:
            return found
    raise StoreError("the tables are written while they are compared: the writer takes long for each block")
