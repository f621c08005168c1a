"""Who owns a partition, as edges and other owners read it: a lease in a bucket. Liveness only, never safety."""

from typing import Final

import msgspec

from keyforge.contracts import directory, subjects
from keyforge.contracts.directory import Lease
from keyforge.contracts.ids import OwnerId
from keyforge.contracts.unreadable import UNREADABLE
from keyforge.runtime.buckets import Bucket, BucketUnavailableError

RENEW_S: Final = 1.5
"""How often an owner renews; entries time out after `eventlog.streams.LEASE_TTL_S` (5 s)."""
LOOK_S: Final = 0.5
"""How often a standby looks."""
ATTEMPTS_MAX: Final = 3

NOBODY: Final = OwnerId("")
"""The owner of a lease that was given back."""


class Leases:
    """The lease entries of all partitions, as one instance reads and writes them."""

    def __init__(self, bucket: Bucket, owner: OwnerId) -> None:
        self._bucket = bucket
        self._owner = owner

    async def read(self, partition: int) -> tuple[Lease | None, int]:
        """Return the lease and its revision; (None, 0) if nobody holds one. Raises BucketUnavailableError."""
        entry = await self._bucket.get(subjects.lease_key(partition))
        if entry is None or entry.value is None:
            return None, 0
        try:
            return msgspec.json.decode(entry.value, type=Lease), entry.revision
        except UNREADABLE as error:
            raise BucketUnavailableError(f"not a lease: {error}") from error

    async def free(self, partition: int, *, restarted: bool) -> bool:
        """Say whether the partition may be taken: nobody holds it, or (`restarted`) we did before we started again."""
        lease, _ = await self.read(partition)
        return lease is None or lease.owner == NOBODY or (restarted and lease.owner == self._owner)

    async def publish(self, partition: int, epoch: int, *, owner: OwnerId | None = None) -> bool:
        """Write our lease, new or renewed; False if it names a newer epoch. Raises BucketUnavailableError."""
        value = directory.encode(Lease(partition=partition, epoch=epoch, owner=self._owner if owner is None else owner))
        key = subjects.lease_key(partition)
        for _ in range(ATTEMPTS_MAX):
            lease, revision = await self.read(partition)
            if lease is not None and lease.epoch > epoch:
                return False
            if lease is None:
                await self._bucket.put(key, value)
                return True
            if await self._bucket.update(key, value, revision) is not None:
                return True
        raise BucketUnavailableError("the lease changes faster than it can be written")

    async def give_back(self, partition: int, epoch: int) -> None:
        """Let a standby take over at once. Raises BucketUnavailableError."""
        await self.publish(partition, epoch, owner=NOBODY)
