"""Virtual keys as edges meet them: their text, their entry in the bucket, what memory counts for it."""

import sys
from typing import Any

from keyforge.contracts import keyformat
from keyforge.contracts.directory import KeyEntry
from keyforge.contracts.ids import KeyId, TenantId
from keyforge.contracts.keyformat import KeySecrets, Minted
from keyforge.edge.core.key_cache import CHANGES_PART, KeyCache
from keyforge.edge.settings import MIB

SECRETS = KeySecrets.derive(bytes(range(32)))
TWO_MODELS = ("openai/gpt-4o-mini", "anthropic/claude-3-5-haiku")
BYTES_FOR_KEYS = CHANGES_PART / (CHANGES_PART - 1)
"""How much memory there must be for a byte of keys."""


def minted(number: int, secrets: KeySecrets = SECRETS) -> Minted:
    return keyformat.mint("vk", secrets, number.to_bytes(9, "big"), number.to_bytes(32, "big"))


def entry_of(key: Minted, **changed: Any) -> KeyEntry:
    fields: dict[str, Any] = {
        "key_id": KeyId(key.id),
        "tenant": TenantId("tenant-0001"),
        "partition": 0,
        "digest": key.digest,
        "status": "active",
        "models": TWO_MODELS,
        "max_output_tokens": None,
        "expires_at": None,
        "revision": 1,
    }
    return KeyEntry(**(fields | changed))


def cache_of(bytes_max: int) -> KeyCache:
    return KeyCache(bytes_max, sys.getsizeof)


def bytes_of(entry: KeyEntry) -> int:
    """What is counted for a key."""
    cache = cache_of(MIB)
    cache.keep(entry)
    return cache.held_bytes
