"""When a frame may begin: at once, or under load at ticks that all partitions of the process share."""

from typing import Final

from keyforge.runtime.clock import Clock

TICK_S: Final = 0.01
"""Under load a frame begins at a multiple of this.

A message costs its sender, the server and each reader ten times what one more ask in it costs, and less where messages
travel together (ADR 13).
"""
LOAD_ASKS: Final = 24
"""So many asks in a tick and the one before are load. Chosen: 24 in 20 ms are 1,200 a second, which an agent that waits
for each answer never asks; half of it would slow a few dozen such agents, twice as many leave frames with few asks
each."""
WORTH_ASKS: Final = 12
"""So many asks are worth a frame of their own at any time. Chosen: half of what is load, as many as come in one tick
under load."""
NEAR_S: Final = 0.001
"""A tick this near counts as reached: the event loop's timers are no finer."""


class Batching:
    """Counts the asks of all committers, and spaces frames while they are many."""

    __slots__ = ("_asks", "_before", "_clock", "_tick")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tick = 0
        self._asks = 0
        self._before = 0

    def began(self, asks: int) -> None:
        """Count the asks of a frame that begins now."""
        self._turn(int(self._clock.monotonic() / TICK_S))
        self._asks += asks

    def due_s(self) -> float:
        """Return when a frame that waits from now on may begin, in monotonic seconds: the next tick; 0 without load."""
        now_s = self._clock.monotonic()
        tick = int(now_s / TICK_S)
        self._turn(tick)
        return (tick + 1) * TICK_S if self._asks + self._before >= LOAD_ASKS else 0.0

    def left_s(self, asks: int, due_s: float) -> float:
        """Return how long a frame of so many asks that is due then still has to wait; 0: it may begin."""
        left_s = due_s - self._clock.monotonic()
        return left_s if left_s > NEAR_S and asks < WORTH_ASKS else 0.0

    def _turn(self, tick: int) -> None:
        if tick != self._tick:
            self._before = self._asks if tick == self._tick + 1 else 0
            self._tick, self._asks = tick, 0
