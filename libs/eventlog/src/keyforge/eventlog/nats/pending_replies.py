"""The requests of a client that wait for their replies, each at a subject of its own below one inbox."""

import asyncio
from typing import Final

from keyforge.eventlog.nats.errors import ConnectionLost, NoResponders, ReplyTimeout
from keyforge.eventlog.nats.protocol import Delivery

_NO_RESPONDERS: Final = "503"


class PendingReplies:
    """`inbox` must be subscribed with a wildcard below it, and `resolve` be given what arrives there."""

    def __init__(self, inbox: str) -> None:
        self._inbox = inbox
        self._loop = asyncio.get_running_loop()
        self._count = 0
        self._waiting: dict[str, asyncio.Future[Delivery | None]] = {}

    def next_subject(self) -> str:
        """Return a reply subject that was not used before."""
        self._count += 1
        return f"{self._inbox}.{self._count}"

    async def wait(self, reply: str, subject: str, timeout_s: float) -> Delivery:
        """Return the first message at `reply`, to a request that was sent to `subject`.

        Raises NoResponders, ReplyTimeout, ConnectionLost.
        """
        answer: asyncio.Future[Delivery | None] = self._loop.create_future()
        self._waiting[reply] = answer
        timer = self._loop.call_later(timeout_s, _expire, answer)
        try:
            delivery = await answer
        finally:
            timer.cancel()
            del self._waiting[reply]
        if delivery is None:
            raise ReplyTimeout(f"no reply from {subject} within {timeout_s} s")
        if delivery.head and delivery.status().startswith(_NO_RESPONDERS):
            raise NoResponders(f"no responders for {subject}")
        return delivery

    def resolve(self, delivery: Delivery) -> None:
        """Complete the request that waits for this message, if one does: it may be late, or a second reply."""
        answer = self._waiting.get(delivery.subject)
        if answer is not None and not answer.done():
            answer.set_result(delivery)

    def fail(self, why: str) -> None:
        """End every request that waits with ConnectionLost."""
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(ConnectionLost(why))


def _expire(answer: "asyncio.Future[Delivery | None]") -> None:
    if not answer.done():
        answer.set_result(None)
