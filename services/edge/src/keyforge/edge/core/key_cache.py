"""The keys that an edge was asked for last, and the last changes of any keys, within a bound in bytes."""

import hmac
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Final

import msgspec

from keyforge.contracts.directory import KeyEntry
from keyforge.contracts.events import KeyCreated, KeyRevoked, KeyUpdated
from keyforge.contracts.ids import KeyId
from keyforge.edge.core.lru import BytesLru

CHANGES_PART: Final = 8
"""One byte in so many is for changes. Chosen: of the 64 MiB that the setting is at least, 8 MiB hold 30,000 changes of
270 bytes, as many as keys can store in a partition in 6 s; its answers wait 3 s at most for a bucket."""
PLACE_BYTES: Final = 90
"""What an item's place in its dict takes. Measured: 66 to 100, by how full the dict's table is."""
FINGERPRINT_BYTES: Final = 65
"""A SHA-256 digest as an object. Measured."""
DATETIME_BYTES: Final = 48
"""Measured. Its zone is shared by all."""


SizeOf = Callable[[object], int]
"""Returns what an object alone takes in memory, in bytes: `sys.getsizeof`."""


class KnownKey(msgspec.Struct, eq=False, gc=False):
    """A key, and the fingerprint of the text that was verified against its digest; None: none was so far."""

    entry: KeyEntry
    fingerprint: bytes | None = None


class KeyChange(msgspec.Struct, frozen=True, gc=False):
    """What the last change of a key made of it. A revocation leaves the policy as it was."""

    key_id: KeyId
    revision: int
    revoked: bool
    models: tuple[str, ...] | None = None
    max_output_tokens: int | None = None
    expires_at: datetime | None = None

    @classmethod
    def of(cls, event: KeyUpdated | KeyRevoked) -> "KeyChange":
        """Return the change that an event made."""
        if isinstance(event, KeyRevoked):
            return cls(event.key_id, event.revision, revoked=True)
        return cls(
            event.key_id,
            event.revision,
            revoked=False,
            models=event.models,
            max_output_tokens=event.max_output_tokens,
            expires_at=event.expires_at,
        )

    def applied(self, entry: KeyEntry) -> KeyEntry:
        """Return the entry as it is after the change; one that is no newer than the entry changes nothing."""
        if self.revision <= entry.revision:
            return entry
        if self.revoked:
            return msgspec.structs.replace(entry, status="revoked", revision=self.revision)
        return msgspec.structs.replace(
            entry,
            models=self.models,
            max_output_tokens=self.max_output_tokens,
            expires_at=self.expires_at,
            revision=self.revision,
        )


class KeyCache:
    """Keys by id, those evicted first that were used least recently.

    A key that an agent shows without its secret becomes no more recent by that. Changes have memory of their own, so
    that many of them push out no key, and keys no change.
    """

    def __init__(self, bytes_max: int, sizeof: SizeOf) -> None:
        for_changes = bytes_max // CHANGES_PART
        self._keys: BytesLru[KeyId, KnownKey] = BytesLru(bytes_max - for_changes, partial(_bytes_of_known, sizeof))
        self._changes: BytesLru[KeyId, KeyChange] = BytesLru(for_changes, partial(_bytes_of_change, sizeof))

    def __len__(self) -> int:
        """Return how many keys are kept."""
        return len(self._keys)

    @property
    def held_bytes(self) -> int:
        """What keys and changes take."""
        return self._keys.held_bytes + self._changes.held_bytes

    def verified(self, key_id: KeyId, fingerprint: bytes) -> KeyEntry | None:
        """Return the key of this id if the text that has this fingerprint was verified to be its own."""
        known = self._keys.peek(key_id)
        if known is None or known.fingerprint is None or not hmac.compare_digest(known.fingerprint, fingerprint):
            return None
        self._keys.get(key_id)
        return known.entry

    def get(self, key_id: KeyId) -> KeyEntry | None:
        """Return a key, or None."""
        known = self._keys.get(key_id)
        return None if known is None else known.entry

    def verify(self, entry: KeyEntry, fingerprint: bytes) -> None:
        """Note that the text that has this fingerprint was verified against the digest of `entry`."""
        known = self._keys.peek(entry.key_id)
        if known is not None and _same_text(known.entry, entry):
            known.fingerprint = fingerprint

    def keep(self, entry: KeyEntry) -> KeyEntry:
        """Keep a key, with the last change of it if that is newer; return it as it is kept."""
        change = self._changes.get(entry.key_id)
        if change is not None:
            entry = change.applied(entry)
        self._put(entry)
        return entry

    def created(self, partition: int, event: KeyCreated) -> None:
        """Keep a key that was just created: the bucket may not have it yet."""
        self._put(
            KeyEntry(
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
        )

    def change(self, event: KeyUpdated | KeyRevoked) -> None:
        """Apply a change, and keep it: the bucket may show the key as it was before."""
        change = KeyChange.of(event)
        self._changes.put(event.key_id, change)
        known = self._keys.peek(event.key_id)
        if known is not None:
            self._put(change.applied(known.entry))

    def drop(self, key_id: KeyId) -> None:
        """Forget a key, and no change."""
        self._keys.drop(key_id)

    def _put(self, entry: KeyEntry) -> None:
        known = self._keys.peek(entry.key_id)
        same = known is not None and _same_text(known.entry, entry)
        self._keys.put(entry.key_id, KnownKey(entry, known.fingerprint if known is not None and same else None))


def _same_text(one: KeyEntry, other: KeyEntry) -> bool:
    return one.digest is other.digest or hmac.compare_digest(one.digest, other.digest)


def _bytes_of_known(sizeof: SizeOf, known: KnownKey) -> int:
    """Return what a key takes with its place and a fingerprint, which it has or will have."""
    entry = known.entry
    objects = (known, entry, entry.key_id, entry.tenant, entry.digest)
    return PLACE_BYTES + FINGERPRINT_BYTES + sum(map(sizeof, objects)) + _bytes_of_policy(sizeof, entry)


def _bytes_of_change(sizeof: SizeOf, change: KeyChange) -> int:
    return PLACE_BYTES + sizeof(change) + sizeof(change.key_id) + _bytes_of_policy(sizeof, change)


def _bytes_of_policy(sizeof: SizeOf, policy: KeyEntry | KeyChange) -> int:
    models = policy.models
    return (0 if policy.expires_at is None else DATETIME_BYTES) + (
        0 if models is None else sizeof(models) + sum(map(sizeof, models))
    )
