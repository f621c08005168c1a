"""Who owns a partition, as edges and other owners read it: a lease in a bucket. Liveness only, never safety."""

from typing import Final

import msgspec

from keyforge.budget.application.ports import LeaseHolder
from keyforge.budget.errors import LeasesUnavailable
from keyforge.contracts import directory, subjects
from keyforge.contracts.directory import Lease
from keyforge.contracts.ids import OwnerId
from keyforge.contracts.unreadable import UNREADABLE
from keyforge.runtime.buckets import Bucket, BucketUnavailableError

ATTEMPTS_MAX: Final = 3
"""Tries of one write while others write the lease too. Chosen: two processes write it at most, an owner and who deposes
it, and it is written again after 0.2 or 1.5 s."""

NOBODY: Final = OwnerId("")
"""The owner of a lease that was given back."""


class BucketLeases:
    """`Leases` in a bucket: the entries of all partitions, as one instance reads and writes them."""

    def __init__(self, bucket: Bucket, owner: OwnerId) -> None:
        self._bucket = bucket
        self._owner = owner

    async def read(self, partition: int) -> tuple[Lease | None, int]:
        """Return the lease and its revision; (None, 0) if nobody holds one. Raises LeasesUnavailable."""
        try:
            entry = await self._bucket.get(subjects.lease_key(partition))
        except BucketUnavailableError as error:
            raise LeasesUnavailable(str(error)) from error
        if entry is None or entry.value is None:
            return None, 0
        try:
            return msgspec.json.decode(entry.value, type=Lease), entry.revision
        except UNREADABLE as error:
            raise LeasesUnavailable(f"not a lease: {error}") from error

    async def holder(self, partition: int) -> LeaseHolder:
        """See `Leases.holder`."""
        lease, _ = await self.read(partition)
        if lease is None:
            return "none"
        if lease.owner == NOBODY:
            return "given_back"
        return "us" if lease.owner == self._owner else "another"

    async def publish(self, partition: int, epoch: int) -> bool:
        """See `Leases.publish`."""
        return await self._write(Lease(partition=partition, epoch=epoch, owner=self._owner))

    async def give_back(self, partition: int, epoch: int) -> None:
        """See `Leases.give_back`."""
        await self._write(Lease(partition=partition, epoch=epoch, owner=NOBODY))

    async def _write(self, ours: Lease) -> bool:
        key, value = subjects.lease_key(ours.partition), directory.encode(ours)
        for _ in range(ATTEMPTS_MAX):
            lease, revision = await self.read(ours.partition)
            if lease is not None and lease.epoch > ours.epoch:
                return False
            try:
                if lease is None:
                    await self._bucket.put(key, value)
                    return True
                if await self._bucket.update(key, value, revision) is not None:
                    return True
            except BucketUnavailableError as error:
                raise LeasesUnavailable(str(error)) from error
        raise LeasesUnavailable("the lease changes faster than it can be written")
