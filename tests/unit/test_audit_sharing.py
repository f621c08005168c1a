"""Long work that several ask for at once is done once, a few at a time, and ends with the last who waits."""

import asyncio

import pytest

from keyforge.audit.application.sharing import SharedWork


class Working:
    """Work that waits for `go`; counts what began, what runs and what was cancelled."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.begun = self.running = self.most = self.cancelled = 0

    async def work(self) -> int:
        self.begun += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
        return self.begun


async def _turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_what_is_the_same_is_done_once_and_again_after_it_ended() -> None:
    shared, working = SharedWork[str, int](2), Working()
    asking = [asyncio.ensure_future(shared.run("a", working.work)) for _ in range(50)]
    await _turns()
    working.go.set()
    assert set(await asyncio.gather(*asking)) == {1}
    assert await shared.run("a", working.work) == 2


async def test_a_few_at_a_time() -> None:
    shared, working = SharedWork[int, int](2), Working()
    asking = [asyncio.ensure_future(shared.run(number, working.work)) for number in range(7)]
    await _turns()
    assert working.running == 2
    working.go.set()
    await asyncio.gather(*asking)
    assert (working.begun, working.most) == (7, 2)


async def test_it_ends_with_the_last_who_waits() -> None:
    shared, working = SharedWork[str, int](1), Working()
    one, other = (asyncio.ensure_future(shared.run("a", working.work)) for _ in range(2))
    await _turns()
    one.cancel()
    await _turns()
    assert (working.running, working.cancelled) == (1, 0)
    other.cancel()
    await asyncio.wait([one, other])
    assert (working.running, working.cancelled) == (0, 1)


async def test_what_fails_fails_for_all() -> None:
    async def fails() -> int:
        raise ValueError("no")

    shared = SharedWork[str, int](1)
    found = await asyncio.gather(*[shared.run("a", fails) for _ in range(3)], return_exceptions=True)
    assert [str(one) for one in found] == ["no"] * 3
    with pytest.raises(ValueError, match="no"):
        await shared.run("a", fails)
