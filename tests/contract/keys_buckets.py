"""A twin of a KV bucket, in memory, for what shows facts in one; it can hold a write up, or lose it."""

import asyncio

from keyforge.runtime.buckets import BucketUnavailableError, Entry


class MemoryBucket:
    """`runtime.buckets.Bucket` as far as keys uses it. `lets`: writes wait for it; `works`: which of the next do."""

    def __init__(self) -> None:
        self.lets = asyncio.Event()
        self.lets.set()
        self.waiting = 0
        self.works: list[bool] = []
        self._entries: dict[str, Entry] = {}
        self._revision = 0

    async def get(self, key: str) -> Entry | None:
        """Return an entry, or None."""
        await asyncio.sleep(0)
        return self._entries.get(key)

    async def update(self, key: str, value: bytes, revision: int) -> int | None:
        """Write an entry if it still has `revision` (0: if there is none); return the new revision, None if it has not.

        Raises BucketUnavailableError.
        """
        self.waiting += 1
        await self.lets.wait()
        self.waiting -= 1
        await asyncio.sleep(0)
        if self.works and not self.works.pop(0):
            raise BucketUnavailableError("asked to fail")
        known = self._entries.get(key)
        if (known.revision if known else 0) != revision:
            return None
        self._revision += 1
        self._entries[key] = Entry(key, value, self._revision)
        return self._revision

    async def entries(self) -> list[Entry]:
        """Return all that is there now."""
        await asyncio.sleep(0)
        return list(self._entries.values())
