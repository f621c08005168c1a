"""Requests whose answers come to one inbox, told apart by number: nats-py's `request` does the same at a higher cost.

That one draws randomness and builds a timeout context for each request, and a frame is two or three of them per
millisecond. The inbox itself is as random as any; only the server and its own user can write to it.
"""

import asyncio
from contextlib import suppress

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError

_NO_RESPONDERS = "503"


class Answers:
    """Asks over a connection; survives its reconnects."""

    def __init__(self, nc: Client) -> None:
        self._nc = nc
        self._inbox = ""
        self._opening = asyncio.Lock()
        self._asked = 0
        self._waiting: dict[str, asyncio.Future[Msg | None]] = {}

    async def ask(
        self, subject: str, payload: bytes, *, timeout_s: float, headers: dict[str, str] | None = None
    ) -> Msg:
        """Publish and return the first answer. Raises NoRespondersError, TimeoutError, and what `publish` does."""
        if not self._inbox:
            await self._open()
        loop = asyncio.get_running_loop()
        self._asked += 1
        inbox = f"{self._inbox}.{self._asked}"
        answer: asyncio.Future[Msg | None] = loop.create_future()
        self._waiting[inbox] = answer
        timer = loop.call_later(timeout_s, _give_up, answer)
        try:
            await self._nc.publish(subject, payload, reply=inbox, headers=headers)
            message = await answer
        finally:
            timer.cancel()
            del self._waiting[inbox]
        if message is None:
            raise TimeoutError(f"no answer from {subject} within {timeout_s} s")
        if message.headers and message.headers.get("Status") == _NO_RESPONDERS:
            raise NoRespondersError
        return message

    async def _open(self) -> None:
        async with self._opening:
            if not self._inbox:
                inbox = self._nc.new_inbox()
                await self._nc.subscribe(f"{inbox}.*", cb=self._arrived)
                self._inbox = inbox

    async def _arrived(self, message: Msg) -> None:
        with suppress(KeyError, asyncio.InvalidStateError):  # too late, or a second answer
            self._waiting[message.subject].set_result(message)


def _give_up(answer: asyncio.Future[Msg | None]) -> None:
    if not answer.done():
        answer.set_result(None)
