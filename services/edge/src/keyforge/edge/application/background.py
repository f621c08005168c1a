"""What an edge does once a second, and at its end: refusals and outcomes go to the log, stalled agents are let go."""

import asyncio
from contextlib import suppress
from typing import Final

from keyforge.edge.application.ports import OutcomeLog
from keyforge.edge.application.running import RunningRequests
from keyforge.edge.core.settlement.refusal_counter import RefusalCounter
from keyforge.edge.metrics import Metrics
from keyforge.runtime import logs
from keyforge.runtime.clock import Clock

TICK_S: Final = 1.0
"""Refusals are recorded at most once in this time for each key."""
FLUSH_S_MAX: Final = 5.0
"""How long the end of the service waits for its last outcomes to be stored."""


class Background:
    """The work that belongs to no request."""

    def __init__(
        self,
        running: RunningRequests,
        refusals: RefusalCounter,
        outcomes: OutcomeLog,
        clock: Clock,
        metrics: Metrics,
        *,
        stall_s: float,
    ) -> None:
        self._running = running
        self._refusals = refusals
        self._outcomes = outcomes
        self._clock = clock
        self._metrics = metrics
        self._stall_s = stall_s
        self._unknown_keys = 0
        self._comments: set[asyncio.Task[None]] = set()
        """On their way to agents, one for each stream at most."""
        self._logger = logs.get("background")

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            await asyncio.sleep(TICK_S)
            self._tick()

    async def flush(self) -> int:
        """Record what is left, and wait until it is stored: at most FLUSH_S_MAX. Return how many outcomes are not.

        Those were sent where the log could be reached, and may be stored all the same once a log that hangs goes on:
        nats-server may drop what it has not read yet of a connection that was closed. What is not stored is abandoned
        at its deadline and counts as spent.
        """
        for due in self._refusals.rest():
            self._outcomes.append(due.partition, due.event)
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_S_MAX):
                await self._running.all_ended()  # those that were just cut still have to record their outcome
                await self._outcomes.drain()
        count = len(self._running) + self._outcomes.give_up()
        if count:
            self._logger.critical("outcomes were not stored", count=count)
        return count

    def _tick(self) -> None:
        for due in self._refusals.due(self._outcomes.has_room):
            self._outcomes.append(due.partition, due.event)
        now = self._clock.monotonic()
        self._running.drop_stalled(now, self._stall_s)
        for stream in list(self._running.waiting(now)):
            task = asyncio.get_running_loop().create_task(stream.keep_alive(now))
            self._comments.add(task)
            task.add_done_callback(self._comments.discard)
        unknown_keys = self._metrics.unknown_keys
        if unknown_keys > self._unknown_keys:
            self._logger.warning("requests with an unknown key", count=unknown_keys - self._unknown_keys)
            self._unknown_keys = unknown_keys
