"""What an owner needs of the outside, and no more: `outbound` and `inbound` implement it, `app` hands it in.

The log's port is `eventlog.log.EventLog`.
"""

from typing import Literal, Protocol

LeaseHolder = Literal["us", "another", "given_back", "none"]
"""Of a lease: this instance or another, nobody since it was given back, or nobody as its time is over or there never
was one."""


class Leases(Protocol):
    """Who owns a partition, as edges and other owners see it. Liveness only, never safety."""

    async def holder(self, partition: int) -> LeaseHolder:
        """Return who holds the lease. Raises LeasesUnavailable."""
        ...

    async def publish(self, partition: int, epoch: int) -> bool:
        """Write this instance's lease, new or renewed; False if the lease names a newer epoch.

        Raises LeasesUnavailable.
        """
        ...

    async def give_back(self, partition: int, epoch: int) -> None:
        """Let a standby take over at once. Raises LeasesUnavailable."""
        ...


class Outbox(Protocol):
    """Where answers go: collected while a frame is answered, sent together."""

    def put(self, reply_to: str, data: bytes) -> None:
        """Take one message of answers."""
        ...

    def flush(self) -> None:
        """Send what was taken. What cannot be sent is lost: its edge gives up and cancels."""
        ...


class Listener(Protocol):
    """Takes the reserves of an owned partition, from the subject of each epoch, and offers them to its committer."""

    @property
    def epoch(self) -> int:
        """The newest epoch whose subject it listens on; 0 before the first."""
        ...

    async def listen(self, epoch: int) -> None:
        """Listen on the subject of `epoch`; on return the server has the subscription. Raises NotListening."""
        ...

    async def drain(self) -> None:
        """End all subscriptions; on return everything that the server had sent us until then was offered."""
        ...
