"""Group commit: items that wait are sent together.

A frame of 1 to 256 events costs the log the same, so events that arrive while one is being stored share the next.
`tick_s=0` sends at the end of the loop turn (reserves never wait for others). Otherwise a group is sent at the next
multiple of `tick_s` on the loop's clock (completions may wait that long): groups of several partitions are sent in one
turn, so in one write, and their reader wakes once. Everything is bounded: the group in count and bytes, the groups in
flight, the items that wait.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class GroupCommit(Generic[T]):
    """Collects items and passes them to `send` in groups, in the order in which they were added.

    `send` must not fail: it deals with an append that is refused or unknown itself. If it raises all the same, the
    fate of its items is unknown, so `failed` is called and nothing is sent any more; they count as `unsent`.
    """

    def __init__(
        self,
        send: Callable[[list[T]], Awaitable[None]],
        *,
        size_of: Callable[[T], int],
        failed: Callable[[BaseException], None],
        items_max: int,
        bytes_max: int,
        waiting_max: int,
        in_flight_max: int = 1,
        tick_s: float = 0.0,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._send = send
        self._size_of = size_of
        self._failed = failed
        self._items_max = items_max
        self._bytes_max = bytes_max
        self._waiting_max = waiting_max
        self._tick_s = tick_s
        self._free = in_flight_max
        self._waiting: deque[T] = deque()
        self._waiting_bytes = 0
        self._taken = 0
        """Items of groups that are in flight, or whose sending failed."""
        self._timer: asyncio.Handle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._broken = False
        self._given_up = False
        self._draining = False

    def __len__(self) -> int:
        """Return how many items wait (those in flight do not)."""
        return len(self._waiting)

    @property
    def in_flight(self) -> int:
        """How many groups are being sent."""
        return len(self._tasks)

    @property
    def unsent(self) -> int:
        """How many items were added of which it is not known that they were sent."""
        return len(self._waiting) + self._taken

    def add(self, item: T) -> bool:
        """Add an item to the next group; return False, without adding it, if too many wait or sending has failed."""
        waiting = self._waiting
        if self._broken or len(waiting) >= self._waiting_max:
            return False
        waiting.append(item)
        self._waiting_bytes += self._size_of(item)
        if len(waiting) == 1:
            self._idle.clear()
        if self._free and (self._timer is None or self._full()):
            self._arm()
        return True

    def rest(self) -> list[T]:
        """Remove and return the items that wait: for a sender that has failed."""
        rest = list(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0
        return rest

    async def drain(self) -> None:
        """Send the items that wait, at once, and wait until nothing is in flight or sending has failed."""
        self._draining = True
        try:
            if self._free and self._waiting:
                self._flush()
            await self._idle.wait()
        finally:
            self._draining = False

    def give_up(self) -> int:
        """Send nothing any more and cancel what is in flight; `failed` is not called. Return `unsent`."""
        self._broken = self._given_up = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for task in self._tasks:
            task.cancel()
        return self.unsent

    def _full(self) -> bool:
        return len(self._waiting) >= self._items_max or self._waiting_bytes >= self._bytes_max

    def _arm(self) -> None:
        """Schedule a flush: at once if a group is full, at the end of this turn, or at the next tick."""
        full = self._full()
        if self._timer is not None:
            if not full or not self._tick_s:
                return
            self._timer.cancel()
        loop = self._loop
        if full or self._draining or not self._tick_s:
            self._timer = loop.call_soon(self._flush)
        else:
            self._timer = loop.call_at((loop.time() // self._tick_s + 1) * self._tick_s, self._flush)

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._free and self._waiting and not self._broken:
            self._free -= 1
            group = self._take()
            self._taken += len(group)
            task = self._loop.create_task(self._run(group))
            self._tasks.add(task)
            task.add_done_callback(self._sent)

    def _take(self) -> list[T]:
        """Return the next group: at least one item, otherwise within both bounds."""
        if len(self._waiting) <= self._items_max and self._waiting_bytes <= self._bytes_max:
            everything = list(self._waiting)
            self._waiting.clear()
            self._waiting_bytes = 0
            return everything
        group: list[T] = []
        group_bytes = 0
        while self._waiting and len(group) < self._items_max:
            size = self._size_of(self._waiting[0])
            if group and group_bytes + size > self._bytes_max:
                break
            group_bytes += size
            group.append(self._waiting.popleft())
        self._waiting_bytes -= group_bytes
        return group

    async def _run(self, group: list[T]) -> None:
        await self._send(group)
        self._taken -= len(group)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._free += 1
        fault = asyncio.CancelledError() if task.cancelled() else task.exception()
        if fault is not None and not self._given_up:
            self._broken = True
            self._failed(fault)
        if self._broken or not (self._waiting or self._tasks):
            self._idle.set()
        elif self._waiting:
            self._arm()
