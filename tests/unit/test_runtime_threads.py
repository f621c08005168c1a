"""Blocking calls in threads: a caller that is cancelled waits for their end."""

import asyncio
import threading

import pytest

from keyforge.runtime.threads import in_thread

UNTIL_S = 20.0


@pytest.mark.parametrize("times", [1, 3])
async def test_what_is_cancelled_ends_after_its_thread(times: int) -> None:
    begun, go, ended = threading.Event(), threading.Event(), threading.Event()

    def call() -> None:
        begun.set()
        assert go.wait(UNTIL_S)
        ended.set()

    running = asyncio.ensure_future(in_thread(call))
    await asyncio.to_thread(begun.wait, UNTIL_S)
    for _ in range(times):
        running.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert not running.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended.is_set()


async def test_what_it_returns_or_raises_is_passed_on() -> None:
    assert await in_thread(int, "7") == 7
    with pytest.raises(ValueError, match="invalid literal"):
        await in_thread(int, "x")
