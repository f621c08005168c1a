"""Answers to edges, published together when a frame is answered."""

from keyforge.eventlog.nats.client import NatsClient
from keyforge.eventlog.nats.errors import NatsClientError
from keyforge.runtime import logs


class NatsOutbox:
    """`Outbox` on the bus."""

    def __init__(self, client: NatsClient) -> None:
        self._client = client
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
                self._client.publish(reply_to, data)
            except NatsClientError as error:
                self._logger.warning("answers lost", error=type(error).__name__)
