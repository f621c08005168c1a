"""Answers to edges, published together when a frame is answered."""

from keyforge.eventlog.nats.client import Link
from keyforge.eventlog.nats.errors import LinkError
from keyforge.runtime import logs


class NatsOutbox:
    """`Outbox` on the bus."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._ready: list[tuple[str, bytes]] = []
        self._logger = logs.get("replies")

    def put(self, reply_to: str, data: bytes) -> None:
        """See `Outbox.put`."""
        self._ready.append((reply_to, data))

    def flush(self) -> None:
        """See `Outbox.flush`."""
        if not self._ready:
            return
        ready, self._ready = self._ready, []
        for reply_to, data in ready:
            try:
                self._link.publish(reply_to, data)
            except LinkError as error:
                self._logger.warning("answers lost", error=type(error).__name__)
