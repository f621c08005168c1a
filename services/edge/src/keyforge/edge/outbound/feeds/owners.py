"""Who answers reserves in each partition, from the leases. Liveness only: a stale owner cannot admit anything."""

import asyncio
import contextlib
from collections.abc import Callable

import msgspec

from keyforge.contracts.directory import Lease
from keyforge.contracts.unreadable import UNREADABLE
from keyforge.eventlog.streams import LEASE_TTL_S
from keyforge.runtime import logs
from keyforge.runtime.buckets import Entry

FRESH_S = LEASE_TTL_S + 1.0
"""A lease not renewed for so long has no owner: the bucket sends no message for an entry that times out."""

_DECODER = msgspec.json.Decoder(Lease)


class Owners:
    """The last lease of each partition."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._leases: dict[int, tuple[Lease, float]] = {}
        self._changed = asyncio.Event()
        self._logger = logs.get("owners")

    def apply(self, changes: list[Entry], *, loaded: bool) -> None:  # noqa: ARG002 - leases are never complete
        """Apply changes of the bucket."""
        now = self._monotonic()
        for entry in changes:
            if entry.value is None:
                continue
            try:
                lease = _DECODER.decode(entry.value)
            except UNREADABLE:
                self._logger.error("a lease cannot be read", key=entry.key)
                continue
            known = self._leases.get(lease.partition)
            if known is None or known[0].epoch <= lease.epoch:
                self._leases[lease.partition] = (lease, now)
            if known is None or known[0].epoch < lease.epoch:
                self._logger.info("owner", partition=lease.partition, owner=lease.owner, epoch=lease.epoch)
        self._changed.set()
        self._changed = asyncio.Event()

    def of(self, partition: int) -> Lease | None:
        """Return the last lease that has an owner, fresh or not."""
        found = self._leases.get(partition)
        return found[0] if found and found[0].owner else None

    def owned(self, partition: int) -> bool:
        """Return whether a partition has an owner that renewed its lease within FRESH_S."""
        found = self._leases.get(partition)
        return found is not None and bool(found[0].owner) and found[1] > self._monotonic() - FRESH_S

    async def changed(self, timeout_s: float) -> None:
        """Wait until a lease changes, or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
