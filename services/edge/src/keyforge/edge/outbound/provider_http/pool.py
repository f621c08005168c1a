"""The connections to one origin: how many there may be, which are free, and who waits for one."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from keyforge.edge.application.provider_errors import UpstreamBusy, UpstreamRefused
from keyforge.edge.outbound.provider_http.connection import ProviderConnection

SWEEP_S: Final = 5.0
"""How often connections that were free for too long are closed. Chosen: a sixth of `free_s`, by default."""
IDLE_S: Final = 0.5
"""No provider closes a connection for having been idle so shortly; one that was idle longer is looked at before use."""


class PoolLimits(msgspec.Struct, frozen=True):
    """Bounds per origin. A request waits for a connection no longer than its `connect_s`.

    `free_s`: how long a connection is kept that nobody uses; less where its provider names less.
    """

    connections_max: int = 4096
    waiters_max: int = 4096
    free_max: int = 256
    free_s: float = 30.0


class OriginPool:
    """Hands out connections, the most recently used first; makes one where none is free and the bound allows.

    A provider may close a connection right after its answer, or once it was idle for long, and a request that is
    written then is lost. So none is used that was free for as long as its provider keeps one, and it is looked at
    before it is used again, unless it was given back less than IDLE_S ago and the event loop has polled since, and
    would have called back. Between the look and the writing it may still be closed: see `UpstreamError.unread`.
    `dial` connects; it is given this pool and the seconds that it may take.
    """

    __slots__ = (
        "_closed",
        "_dial",
        "_dialing",
        "_free",
        "_fresh",
        "_known",
        "_limits",
        "_loop",
        "_monotonic",
        "_sweep",
        "_turn_due",
        "_turning",
        "_waiters",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        monotonic: Callable[[], float],
        limits: PoolLimits,
        dial: Callable[["OriginPool", float], Awaitable[ProviderConnection]],
    ) -> None:
        self._known: set[ProviderConnection] = set()
        self._dialing = 0
        self._closed = False
        self._loop = loop
        self._monotonic = monotonic
        self._limits = limits
        self._dial = dial
        self._free: deque[ProviderConnection] = deque()
        self._fresh: list[ProviderConnection] = []
        """Given back, and the loop has not polled since."""
        self._turning: list[ProviderConnection] = []
        """Given back one turn earlier: the loop polls at the end of this one."""
        self._turn_due = False
        self._waiters: deque[asyncio.Future[ProviderConnection | None]] = deque()
        self._sweep: asyncio.TimerHandle | None = None

    @property
    def open(self) -> int:
        """Connections made or being made."""
        return len(self._known) + self._dialing

    def take(self) -> ProviderConnection | None:
        """Return a free connection that is alive."""
        while self._free:
            connection = self._free.pop()
            free_s = self._monotonic() - connection.free_since
            kept = free_s < connection.keep_s and free_s < self._limits.free_s
            if kept and connection.alive(look=free_s > IDLE_S):
                return connection
            connection.drop()
        for fresh in (self._turning, self._fresh):
            while fresh:
                connection = fresh.pop()
                if connection.alive(look=True):
                    return connection
                connection.drop()
        return None

    async def obtain(self, until: float) -> ProviderConnection:
        """Return a connection: a free one, a new one, or the next one given back. `until` is monotonic seconds."""
        while True:
            if connection := self.take():
                return connection
            if self.open < self._limits.connections_max:
                return await self._make(until)
            connection = await self._wait(until)
            if connection is not None and connection.alive(look=True):
                return connection

    async def obtain_new(self, until: float) -> ProviderConnection:
        """Return a connection that has served nothing; a free one goes where the bound leaves no room for it."""
        while self.open >= self._limits.connections_max:
            free = next((one for one in (self._free, self._turning, self._fresh) if one), None)
            connection = free.pop() if free else await self._wait(until)
            if connection is not None:
                connection.drop()
                self.lost(connection)
        return await self._make(until)

    async def _make(self, until: float) -> ProviderConnection:
        self._dialing += 1
        connection: ProviderConnection | None = None
        try:
            connection = await self._dial(self, max(until - self._monotonic(), 0.0))
        finally:
            self._dialing -= 1
            if connection is None:
                self._wake(None)
        if connection.closed:
            self._wake(None)
            raise UpstreamRefused("the connection was closed at once")
        self._known.add(connection)
        return connection

    async def _wait(self, until: float) -> ProviderConnection | None:
        """Wait for a connection given back, or None: there is room to make one."""
        if len(self._waiters) >= self._limits.waiters_max:
            raise UpstreamBusy("too many wait for a connection")
        waiter: asyncio.Future[ProviderConnection | None] = self._loop.create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(max(until - self._monotonic(), 0.0)):
                return await waiter
        except TimeoutError as error:
            self._forget(waiter)
            raise UpstreamBusy("no connection became free in time") from error
        except asyncio.CancelledError:
            self._forget(waiter)
            raise

    def _forget(self, waiter: "asyncio.Future[ProviderConnection | None]") -> None:
        """A waiter goes; what it was just given goes to the next."""
        if waiter.done() and not waiter.cancelled():
            if connection := waiter.result():
                self.give_back(connection)
            else:
                self._wake(None)
        elif waiter in self._waiters:
            self._waiters.remove(waiter)

    def give_back(self, connection: ProviderConnection) -> None:
        """Take a connection whose exchange is over."""
        if self._wake(connection):
            return
        if self._closed or (len(self._known) > self._limits.free_max and self._is_full()):
            connection.drop()
            return
        self._fresh.append(connection)
        if not self._turn_due:
            self._turn_due = True
            self._loop.call_soon(self._turn)
        if self._sweep is None:
            self._sweep = self._loop.call_later(SWEEP_S, self._drop_stale)

    def _is_full(self) -> bool:
        """Whether as many are free as may be; never where so few are open."""
        return len(self._free) + len(self._turning) + len(self._fresh) >= self._limits.free_max

    def _turn(self) -> None:
        """Once in a turn of the loop, while connections are fresh. Between two of these calls the loop has polled."""
        self._free.extend(self._turning)
        self._turning, self._fresh = self._fresh, []
        self._turn_due = bool(self._turning)
        if self._turn_due:
            self._loop.call_soon(self._turn)

    def lost(self, connection: ProviderConnection) -> None:
        """A connection is gone."""
        if connection in self._known:
            self._known.remove(connection)
            for free in (self._free, self._turning, self._fresh):
                if connection in free:
                    free.remove(connection)
            self._wake(None)

    def close(self) -> None:
        """Drop what is free now, and what is in use when its exchange ends."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for free in (self._free, self._turning, self._fresh):
            while free:
                free.pop().drop()

    def _wake(self, connection: ProviderConnection | None) -> bool:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return True
        return False

    def _drop_stale(self) -> None:
        self._sweep = None
        now = self._monotonic()
        free_s_max = self._limits.free_s
        for connection in [one for one in self._free if now - one.free_since >= min(one.keep_s, free_s_max)]:
            self._free.remove(connection)
            connection.drop()
        if self._free or self._turning or self._fresh:
            self._sweep = self._loop.call_later(SWEEP_S, self._drop_stale)
