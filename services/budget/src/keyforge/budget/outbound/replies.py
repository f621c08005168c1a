"""Answers on the bus: published together when a frame is answered."""

from nats.aio.client import Client
from nats.errors import Error as NatsError

from keyforge.runtime import logs


class BusOutbox:
    """`Outbox` over a connection to NATS."""

    def __init__(self, bus: Client) -> None:
        self._bus = bus
        self._ready: list[tuple[str, bytes]] = []

    def put(self, reply_to: str, data: bytes) -> None:
        """See `Outbox.put`."""
        self._ready.append((reply_to, data))

    async def flush(self) -> None:
        """See `Outbox.flush`."""
        if not self._ready:
            return
        ready, self._ready = self._ready, []
        for reply_to, data in ready:
            try:
                await self._bus.publish(reply_to, data)
            except (NatsError, OSError) as error:
                logs.get("replies").warning("answers lost", error=type(error).__name__)
