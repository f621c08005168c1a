"""Finds the key whose text a request shows: a bounded cache over the directory bucket, updated by control events.

The bucket is a projection and may lag; newer facts from the log take precedence. The cost of a look-up does not grow
with the number of keys, and texts that are no keys of ours are dropped by their tag, without a look-up. A key that the
cache has no room for is read from the bucket whenever it comes.
"""

import asyncio
import hashlib
import hmac
import sys
from collections.abc import Callable
from typing import Final

import msgspec

from keyforge.contracts import keyformat
from keyforge.contracts.directory import KeyEntry
from keyforge.contracts.errors import Problem, problem
from keyforge.contracts.events import Event, KeyCreated, KeyRevoked, KeyUpdated
from keyforge.contracts.ids import KeyId
from keyforge.contracts.keyformat import KeySecrets
from keyforge.contracts.unreadable import UNREADABLE
from keyforge.edge.core.key_cache import KeyCache
from keyforge.edge.core.lru import Lru
from keyforge.edge.metrics import Metrics
from keyforge.runtime import logs
from keyforge.runtime.buckets import Bucket, BucketUnavailableError

ABSENT_MAX: Final = 20_000
"""Ids remembered that the bucket lacks, apart from keys. Chosen: 5 MB at 250 bytes each; who makes ids up meets the tag
first, which one in 14.8 million passes (`keyformat`)."""
ABSENT_S: Final = 1.0
"""How long an id that the bucket lacks is not asked for again."""

_DECODER = msgspec.json.Decoder(KeyEntry)


class BucketKeyDirectory:
    """`KeyDirectory` over a bucket: holds the keys that this edge was asked for last, in `bytes_max`."""

    def __init__(
        self,
        bucket: Bucket,
        secrets: KeySecrets,
        monotonic: Callable[[], float],
        metrics: Metrics,
        *,
        bytes_max: int,
    ) -> None:
        self._bucket = bucket
        self._secrets = secrets
        self._monotonic = monotonic
        self._metrics = metrics
        self._keys = KeyCache(bytes_max, sys.getsizeof)
        self._absent: Lru[KeyId, float] = Lru(ABSENT_MAX)
        self._loading: dict[KeyId, asyncio.Future[KeyEntry | Problem]] = {}
        self._logger = logs.get("directory")

    @property
    def count(self) -> int:
        """How many keys are in memory."""
        return len(self._keys)

    @property
    def held_bytes(self) -> int:
        """What they take, and what is kept of changes."""
        return self._keys.held_bytes

    def known(self, text: bytes) -> KeyEntry | None:
        """See `KeyDirectory`."""
        claimed = keyformat.claimed_id("vk", text)
        return None if claimed is None else self._keys.verified(KeyId(claimed), hashlib.sha256(text).digest())

    async def identify(self, text: bytes) -> KeyEntry | Problem:
        """See `KeyDirectory`."""
        known = self.known(text)
        return known if known is not None else await self._verify(text)

    async def refresh(self, key_id: KeyId) -> KeyEntry | Problem:
        """See `KeyDirectory`."""
        self._keys.drop(key_id)
        return await self._load(key_id)

    def apply(self, partition: int, event: Event) -> None:
        """Apply an event of a partition's control subject."""
        if isinstance(event, KeyCreated):
            self._absent.drop(event.key_id)
            self._keys.created(partition, event)
        elif isinstance(event, (KeyUpdated, KeyRevoked)):
            self._keys.change(event)

    async def _verify(self, text: bytes) -> KeyEntry | Problem:
        try:
            shown = text.decode("ascii")
        except UnicodeDecodeError:
            return problem("key_invalid")
        parsed = keyformat.parse_id("vk", shown, self._secrets)
        if parsed is None:
            return problem("key_invalid")
        key_id = KeyId(parsed)
        entry: KeyEntry | Problem | None = self._keys.get(key_id)
        if entry is None:
            entry = await self._load(key_id)
        if isinstance(entry, Problem):
            return entry
        if not hmac.compare_digest(entry.digest, keyformat.digest(shown, self._secrets)):
            return problem("key_invalid")
        self._keys.verify(entry, hashlib.sha256(text).digest())
        return entry

    async def _load(self, key_id: KeyId) -> KeyEntry | Problem:
        """Read one entry; requests for it at the same time share the answer."""
        if (self._absent.get(key_id) or 0.0) > self._monotonic():
            return problem("key_invalid")
        loading = self._loading.get(key_id)
        if loading is None:
            loading = asyncio.ensure_future(self._read(key_id))
            self._loading[key_id] = loading
            loading.add_done_callback(lambda _: self._loading.pop(key_id, None))
        return await asyncio.shield(loading)

    async def _read(self, key_id: KeyId) -> KeyEntry | Problem:
        self._metrics.directory_reads += 1
        try:
            found = await self._bucket.get(key_id)
            entry = _DECODER.decode(found.value) if found is not None and found.value else None
        except BucketUnavailableError as fault:
            self._logger.warning("the directory cannot be read", error=str(fault))
            return problem("policy_unavailable")
        except UNREADABLE as fault:
            self._logger.error("a directory entry cannot be read", key_id=key_id, error=str(fault))
            return problem("policy_unavailable")
        if entry is None:
            known = self._keys.get(key_id)  # created meanwhile
            if known is not None:
                return known
            self._absent.put(key_id, self._monotonic() + ABSENT_S)
            return problem("key_invalid")
        if entry.key_id != key_id:
            self._logger.error("a directory entry is of another key", key_id=key_id)
            return problem("policy_unavailable")
        return self._keys.keep(entry)
