"""Finds the key whose text a request shows: a bounded cache over the directory bucket, updated by control events.

The bucket is a projection and may lag; newer facts from the log take precedence. The cost of a look-up does not grow
with the number of keys, and texts that are no keys of ours are dropped by their tag, without a look-up.
"""

import asyncio
import hashlib
import hmac
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
from keyforge.edge.core.lru import Lru
from keyforge.runtime import logs
from keyforge.runtime.buckets import Bucket, BucketUnavailableError

KEYS_MAX: Final = 20_000
"""Keys kept, texts verified, and events remembered. Chosen: 11 MB of keys at 570 bytes each (measured), a few tens of
megabytes of all at most."""
ABSENT_S: Final = 1.0
"""How long an id that the bucket lacks is not asked for again."""

_DECODER = msgspec.json.Decoder(KeyEntry)


class BucketKeyDirectory:
    """`KeyDirectory` over a bucket: holds the keys that this edge was asked for last."""

    def __init__(self, bucket: Bucket, secrets: KeySecrets, monotonic: Callable[[], float]) -> None:
        self._bucket = bucket
        self._secrets = secrets
        self._monotonic = monotonic
        self._verified: Lru[bytes, tuple[KeyId, str]] = Lru(KEYS_MAX)
        self._entries: Lru[KeyId, KeyEntry] = Lru(KEYS_MAX)
        self._absent: Lru[KeyId, float] = Lru(KEYS_MAX)
        self._changes: Lru[KeyId, KeyUpdated | KeyRevoked] = Lru(KEYS_MAX)
        self._loading: dict[KeyId, asyncio.Future[KeyEntry | Problem]] = {}
        self._logger = logs.get("directory")

    async def identify(self, text: bytes) -> KeyEntry | Problem:
        """See `KeyDirectory`."""
        fingerprint = hashlib.sha256(text).digest()
        known = self._verified.get(fingerprint)
        if known is not None:
            entry: KeyEntry | Problem | None = self._entries.get(known[0])
            if entry is None:
                entry = await self._load(known[0])
            if isinstance(entry, Problem):
                return entry
            if entry.digest is known[1] or hmac.compare_digest(entry.digest, known[1]):
                return entry
        return await self._verify(text, fingerprint)

    async def refresh(self, key_id: KeyId) -> KeyEntry | Problem:
        """See `KeyDirectory`."""
        self._entries.drop(key_id)
        return await self._load(key_id)

    def apply(self, partition: int, event: Event) -> None:
        """Apply an event of a partition's control subject."""
        if isinstance(event, KeyCreated):
            self._absent.drop(event.key_id)
            self._entries.put(event.key_id, _created(partition, event))
        elif isinstance(event, (KeyUpdated, KeyRevoked)):
            self._changes.put(event.key_id, event)
            known = self._entries.get(event.key_id)
            if known is not None:
                self._entries.put(event.key_id, _changed(known, event))

    async def _verify(self, text: bytes, fingerprint: bytes) -> KeyEntry | Problem:
        try:
            claimed = keyformat.parse_id("vk", text.decode("ascii"), self._secrets)
        except UnicodeDecodeError:
            claimed = None
        if claimed is None:
            return problem("key_invalid")
        key_id = KeyId(claimed)
        entry: KeyEntry | Problem | None = self._entries.get(key_id)
        if entry is None:
            entry = await self._load(key_id)
        if isinstance(entry, Problem):
            return entry
        digest = keyformat.digest(text.decode("ascii"), self._secrets)
        if not hmac.compare_digest(entry.digest, digest):
            return problem("key_invalid")
        self._verified.put(fingerprint, (key_id, entry.digest))
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
            known = self._entries.get(key_id)  # created meanwhile
            if known is not None:
                return known
            self._absent.put(key_id, self._monotonic() + ABSENT_S)
            return problem("key_invalid")
        change = self._changes.get(key_id)
        if change is not None and change.revision > entry.revision:
            entry = _changed(entry, change)
        self._entries.put(key_id, entry)
        return entry


def _created(partition: int, event: KeyCreated) -> KeyEntry:
    return KeyEntry(
        key_id=event.key_id,
        tenant=event.tenant,
        partition=partition,
        digest=event.digest,
        status="active",
        models=event.models,
        max_output_tokens=event.max_output_tokens,
        expires_at=event.expires_at,
        revision=event.revision,
    )


def _changed(entry: KeyEntry, event: KeyUpdated | KeyRevoked) -> KeyEntry:
    """Return the entry as it is after `event`; an event of an earlier revision changes nothing."""
    if event.revision <= entry.revision:
        return entry
    if isinstance(event, KeyRevoked):
        return msgspec.structs.replace(entry, status="revoked", revision=event.revision)
    return msgspec.structs.replace(
        entry,
        models=event.models,
        max_output_tokens=event.max_output_tokens,
        expires_at=event.expires_at,
        revision=event.revision,
    )
