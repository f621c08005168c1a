"""Receives reserves on the bus and offers them to the committer of their partition. Plain subscriptions: see ADR 7."""

import asyncio
from typing import Final

import msgspec

from keyforge.budget.application.committer import Committer
from keyforge.budget.errors import NotListening
from keyforge.budget.inbound.stall_detector import StallDetector
from keyforge.budget.metrics import Metrics
from keyforge.contracts import subjects
from keyforge.contracts.reserve import RESERVES_MAX, decode_reserves
from keyforge.eventlog.nats.client import NatsClient, Subscription
from keyforge.eventlog.nats.errors import NatsClientError
from keyforge.eventlog.nats.protocol import Delivery

OLD_SUBJECT_S: Final = 10.0
"""How long the subject of an earlier epoch of our own is listened on. Chosen: twice the 5 s that edges wait for an
owner, so none of them still asks there."""
CONFIRM_S: Final = 2.0
"""How long the server may take to confirm a subscription. Chosen: two tries fit into the 5 s that an edge waits for an
owner."""


class Responder:
    """`Listener` on the bus: the subscription of the current epoch, and for a while those before it."""

    def __init__(
        self, client: NatsClient, committer: Committer, stall_detector: StallDetector, metrics: Metrics
    ) -> None:
        self._client = client
        self._committer = committer
        self._stall_detector = stall_detector
        self._dropped = metrics.dropped
        self._partition = committer.partition
        self.epoch = 0
        self._current: Subscription | None = None
        self._old: dict[Subscription, asyncio.TimerHandle] = {}

    async def listen(self, epoch: int) -> None:
        """See `Listener.listen`."""
        try:
            if self._current is not None:
                loop = asyncio.get_running_loop()
                self._old[self._current] = loop.call_later(OLD_SUBJECT_S, self._end_old, self._current)
            self._current = self._client.subscribe(subjects.reserve(self._partition, epoch), self._receive)
            self.epoch = epoch
            await self._client.flush(within_s=CONFIRM_S)
        except NatsClientError as error:
            raise NotListening(str(error) or type(error).__name__) from error

    async def drain(self) -> None:
        """See `Listener.drain`."""
        for timer in self._old.values():
            timer.cancel()
        ending = [*self._old, *([self._current] if self._current else [])]
        self._old.clear()
        self._current = None
        drained = [self._client.drain(one, within_s=CONFIRM_S) for one in ending]
        await asyncio.gather(*drained, return_exceptions=True)  # a connection that is lost brings nothing more

    def _receive(self, message: Delivery) -> None:
        if self._stall_detector.stalled():
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
        self._committer.offer(reserves.edge, reserves.asks, reply)

    def _end_old(self, subscription: Subscription) -> None:
        self._old.pop(subscription, None)
        subscription.unsubscribe()
