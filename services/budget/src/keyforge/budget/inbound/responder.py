"""Hears reserves on the bus, and hands them to the lane of their partition. Plain subscriptions: see ADR 0007.

A process that was paused finds old asks in its socket when it wakes. Their edges have long given up, so from a stall on
nothing is believed until the server has answered a ping: what it had buffered for us arrives before that answer.
"""

import asyncio
from typing import Final

import msgspec

from keyforge.budget.application.committer import Lane
from keyforge.budget.errors import NotListening
from keyforge.budget.metrics import Metrics
from keyforge.contracts import subjects
from keyforge.contracts.reserve import RESERVES_MAX, decode_reserves
from keyforge.eventlog.nats.client import Link, Subscription
from keyforge.eventlog.nats.errors import LinkError
from keyforge.eventlog.nats.protocol import Delivery
from keyforge.runtime import logs
from keyforge.runtime.clock import Clock

OLD_SUBJECT_S: Final = 10.0
"""How long the subject of an ended epoch of our own is still heard."""
PULSE_S: Final = 0.25
STALL_S: Final = 1.0
PING_S: Final = 2.0


class Pulse:
    """Tells whether this process stood still for longer than STALL_S, and what the bus delivers may be old."""

    def __init__(self, link: Link, clock: Clock) -> None:
        self._link = link
        self._clock = clock
        self._beat_s = clock.monotonic()
        self._stalled = False
        self._timer: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to beat."""
        self._beat_s = self._clock.monotonic()
        self._timer = asyncio.get_running_loop().call_later(PULSE_S, self._beat)

    def stop(self) -> None:
        """Stop beating."""
        if self._timer is not None:
            self._timer.cancel()
        if self._flushing is not None:
            self._flushing.cancel()

    def stalled(self) -> bool:
        """Say whether what arrives now may have lain somewhere since before a stall."""
        if not self._stalled and self._clock.monotonic() - self._beat_s > STALL_S:
            self._stalled = True
            self._flushing = asyncio.get_running_loop().create_task(self._flush())
        return self._stalled

    def _beat(self) -> None:
        self.stalled()
        self._beat_s = self._clock.monotonic()
        self._timer = asyncio.get_running_loop().call_later(PULSE_S, self._beat)

    async def _flush(self) -> None:
        logs.get("pulse").warning("this process stood still; what lay in its socket is dropped")
        try:
            await self._link.heard(within_s=PING_S)
        except LinkError:
            pass  # a connection that was lost in the meantime has nothing old to deliver
        finally:
            self._stalled = False


class Responder:
    """`Listener` on the bus: the subscription of the current epoch, and for a while those before it."""

    def __init__(self, link: Link, lane: Lane, pulse: Pulse, metrics: Metrics) -> None:
        self._link = link
        self._lane = lane
        self._pulse = pulse
        self._dropped = metrics.dropped
        self._partition = lane.partition
        self.epoch = 0
        self._current: Subscription | None = None
        self._old: dict[Subscription, asyncio.TimerHandle] = {}

    async def listen(self, epoch: int) -> None:
        """See `Listener.listen`."""
        try:
            if self._current is not None:
                loop = asyncio.get_running_loop()
                self._old[self._current] = loop.call_later(OLD_SUBJECT_S, self._end_old, self._current)
            self._current = self._link.subscribe(subjects.reserve(self._partition, epoch), self._arrived)
            self.epoch = epoch
            await self._link.heard(within_s=PING_S)
        except LinkError as error:
            raise NotListening(str(error) or type(error).__name__) from error

    def close(self) -> None:
        """See `Listener.close`."""
        for timer in self._old.values():
            timer.cancel()
        for subscription in [*self._old, *([self._current] if self._current else [])]:
            subscription.end()
        self._old.clear()
        self._current = None

    def _arrived(self, message: Delivery) -> None:
        if self._pulse.stalled():
            self._dropped.labels(self._partition, "stalled").inc()
            return
        try:
            reserves = decode_reserves(message.data)
        except msgspec.MsgspecError:
            self._dropped.labels(self._partition, "malformed").inc()
            return
        reply = message.reply
        if not reply or not 0 < len(reserves.asks) <= RESERVES_MAX:
            self._dropped.labels(self._partition, "malformed").inc()
            return
        self._lane.offer(reserves.edge, reserves.asks, reply)

    def _end_old(self, subscription: Subscription) -> None:
        self._old.pop(subscription, None)
        subscription.end()
