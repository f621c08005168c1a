"""Whose key a text is: its secret decides, and what the log said last about a key holds over an entry that lags."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from keyforge.contracts.directory import KeyEntry, encode
from keyforge.contracts.errors import Problem
from keyforge.contracts.events import KeyRevoked, KeyUpdated
from keyforge.contracts.ids import KeyId, TenantId, TokenId
from keyforge.contracts.keyformat import ID_BYTES, SECRET_BYTES, KeySecrets, Minted, mint
from keyforge.edge.metrics import Metrics
from keyforge.edge.outbound.feeds.key_directory import BucketKeyDirectory
from keyforge.runtime.buckets import Bucket, Entry
from keyforge.testkit.encrypted_names import encrypted

BYTES_MAX = 64 * 1024 * 1024
SECRETS = KeySecrets.derive(bytes(range(32)))


def minted(secret_byte: int = 1) -> Minted:
    return mint("vk", SECRETS, bytes([1]) * ID_BYTES, bytes([secret_byte]) * SECRET_BYTES)


KEY = minted()
ENTRY = KeyEntry(
    key_id=KeyId(KEY.id), tenant=TenantId("t"), partition=0, digest=KEY.digest, status="active", models=None,
    max_output_tokens=None, expires_at=None, revision=1,
)  # fmt: skip
REVOKED = KeyRevoked(
    key_id=KeyId(KEY.id), tenant=TenantId("t"), reason=None, revision=2, secret_version=None, by=TokenId("o")
)
EXPIRY = datetime(2031, 1, 1, tzinfo=UTC)
UPDATED = KeyUpdated(
    key_id=KeyId(KEY.id), tenant=TenantId("t"), name=encrypted(""), models=("m",), limits=(), max_output_tokens=7,
    expires_at=EXPIRY, revision=2, secret_version=1, by=TokenId("o"),
)  # fmt: skip


class Keys(Bucket):
    """A bucket in memory; counts what is read."""

    def __init__(self, entry: KeyEntry | None = ENTRY) -> None:
        self.entry = entry
        self.reads = 0

    async def get(self, key: str) -> Entry | None:
        self.reads += 1
        return Entry(key, encode(self.entry), 1) if self.entry is not None and key == KEY.id else None


def directory(bucket: Keys) -> BucketKeyDirectory:
    return BucketKeyDirectory(bucket, SECRETS, lambda: 0.0, Metrics(), bytes_max=BYTES_MAX)


async def found(keys: BucketKeyDirectory, text: str = KEY.text) -> Any:
    """Status and revision of the key of a text, or the type of the problem."""
    entry = await keys.identify(text.encode())
    return entry.kind.type if isinstance(entry, Problem) else (entry.status, entry.revision)


@pytest.mark.parametrize("known", [False, True], ids=["first", "after its key"])
async def test_a_well_formed_text_with_another_secret_is_nobodys_key(known: bool) -> None:
    keys = directory(Keys())
    if known:
        assert await found(keys) == ("active", 1)
    assert await found(keys, minted(2).text) == "key_invalid"
    assert await found(keys) == ("active", 1)


async def test_a_text_that_was_verified_is_not_its_keys_under_another_digest() -> None:
    bucket = Keys()
    keys = directory(bucket)
    assert await found(keys) == ("active", 1)
    bucket.entry = msgspec.structs.replace(ENTRY, digest=minted(2).digest, revision=2)
    await keys.refresh(KeyId(KEY.id))
    assert await found(keys) == "key_invalid"
    assert await found(keys, minted(2).text) == ("active", 2)


async def test_a_key_that_is_known_is_not_read_again() -> None:
    bucket = Keys()
    keys = directory(bucket)
    for _ in range(3):
        assert await found(keys) == ("active", 1)
    assert bucket.reads == 1


@pytest.mark.parametrize("known", [False, True], ids=["not known yet", "known"])
async def test_a_revocation_in_the_log_holds_over_an_entry_that_lags(known: bool) -> None:
    keys = directory(Keys())
    if known:
        assert await found(keys) == ("active", 1)
    keys.apply(0, REVOKED)
    assert await found(keys) == ("revoked", 2)
    await keys.refresh(KeyId(KEY.id))
    assert await found(keys) == ("revoked", 2), "the bucket still has the entry of before"


async def test_a_new_policy_in_the_log_holds_over_an_entry_that_lags() -> None:
    keys = directory(Keys())
    keys.apply(0, UPDATED)
    entry = await keys.identify(KEY.text.encode())
    assert isinstance(entry, KeyEntry)
    assert (entry.models, entry.max_output_tokens, entry.expires_at, entry.revision) == (("m",), 7, EXPIRY, 2)


async def test_an_event_of_an_earlier_revision_changes_nothing() -> None:
    keys = directory(Keys(msgspec.structs.replace(ENTRY, revision=3)))
    assert await found(keys) == ("active", 3)
    keys.apply(0, REVOKED)
    assert await found(keys) == ("active", 3)


async def test_a_key_that_is_refreshed_is_read_again() -> None:
    bucket = Keys()
    keys = directory(bucket)
    assert await found(keys) == ("active", 1)
    bucket.entry = msgspec.structs.replace(ENTRY, revision=2)
    assert await found(keys) == ("active", 1)
    await keys.refresh(KeyId(KEY.id))
    assert await found(keys) == ("active", 2)


async def test_a_key_that_the_directory_has_no_more_is_nobodys_once_it_is_refreshed() -> None:
    bucket = Keys()
    keys = directory(bucket)
    assert await found(keys) == ("active", 1)
    bucket.entry = None
    assert isinstance(await keys.refresh(KeyId(KEY.id)), Problem)
    assert await found(keys) == "key_invalid"
