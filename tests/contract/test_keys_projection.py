"""The directory follows the facts whatever becomes of a write; the twin of a bucket is as strict as a real one."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import msgspec
import pytest

from keyforge.contracts import subjects
from keyforge.contracts.directory import KeyEntry
from keyforge.contracts.events import Event, KeyCreated, KeyRevoked
from keyforge.contracts.ids import KeyId, TenantId, TokenId
from keyforge.eventlog.jetstream import JetStreamLog
from keyforge.eventlog.streams import declare
from keyforge.keys.core.entries import BUCKETS
from keyforge.keys.core.evolve import aggregate_of, evolve
from keyforge.keys.core.facts import Change
from keyforge.keys.outbound.fact_cache import FactCache
from keyforge.keys.outbound.projection import DirectoryProjection, EntryBucket
from keyforge.runtime import buckets
from keyforge.testkit.encrypted_names import encrypted
from keyforge.testkit.nats_client import bus_to
from keyforge.testkit.nats_server import NatsNode
from tests.contract.keys_buckets import MemoryBucket
from tests.contract.keys_queues import NOW, until

KEY, TENANT, BY = KeyId("k"), TenantId("acme"), TokenId("t")
FACT = "key:k"


@pytest.fixture(params=["memory", "node"])
async def bucket(request: pytest.FixtureRequest) -> AsyncIterator[EntryBucket]:
    if request.param == "memory":
        yield MemoryBucket()
        return
    own: Callable[..., NatsNode] = request.getfixturevalue("nats_own")
    connection = await bus_to([own().url])
    await declare(connection.nats, partitions=1, replicas=1)
    yield buckets.Bucket(connection.nats_py, JetStreamLog(connection.nats), subjects.DIRECTORY_BUCKET)
    await connection.close()


async def test_an_entry_is_written_under_the_condition_of_what_was_read(bucket: EntryBucket) -> None:
    assert (await bucket.get("a"), await bucket.entries()) == (None, [])
    first = await bucket.update("a", b"1", 0)
    assert first is not None
    assert await bucket.update("a", b"2", 0) is None
    second = await bucket.update("a", b"2", first)
    assert second is not None
    assert second > first
    assert await bucket.update("a", b"3", first) is None
    assert await bucket.update("b", b"1", second) is None
    assert await bucket.get("a") == ("a", b"2", second)
    assert await bucket.entries() == [("a", b"2", second)]


def accept(book: FactCache, event: Event, version: int) -> None:
    id_ = aggregate_of(event) or ""
    book.accept(evolve(book.committed(id_), Change(id_, version, NOW, event)))


def created() -> KeyCreated:
    return KeyCreated(
        key_id=KEY,
        tenant=TENANT,
        name=encrypted("k"),
        digest="d",
        models=None,
        limits=(),
        max_output_tokens=None,
        expires_at=None,
        revision=1,
        secret_version=1,
        by=BY,
    )


def revoked() -> KeyRevoked:
    return KeyRevoked(key_id=KEY, tenant=TENANT, reason=None, revision=2, secret_version=None, by=BY)


async def shown(bucket: MemoryBucket) -> KeyEntry:
    found = await bucket.get(KEY)
    assert found is not None
    assert found.value is not None
    return msgspec.json.decode(found.value, type=KeyEntry)


class Shop:
    """A projection of one partition's facts into buckets in memory; `run` in the background when it is asked for."""

    def __init__(self) -> None:
        self.book = FactCache()
        self.buckets = {name: MemoryBucket() for name in BUCKETS}
        self.directory = self.buckets[subjects.DIRECTORY_BUCKET]
        self.projection = DirectoryProjection({0: self.book}, self.buckets)

    async def settles(self) -> None:
        """Run until nothing is late."""
        running = asyncio.create_task(self.projection.run())
        await until(lambda: not self.projection.lagging)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def test_what_changes_while_its_entry_is_written_is_not_forgotten() -> None:
    """Another service revokes a key and dies before it shows that, just while we write the entry of its creation."""
    shop = Shop()
    accept(shop.book, created(), 1)
    shop.directory.lets.clear()
    showing = asyncio.create_task(shop.projection.project(0, [FACT]))
    await until(lambda: shop.directory.waiting == 1)
    accept(shop.book, revoked(), 2)
    shop.projection.remember(0, [FACT])
    shop.directory.lets.set()
    await showing
    await shop.settles()
    assert (await shown(shop.directory)).status == "revoked"


async def test_a_change_whose_own_write_fails_behind_an_earlier_one_is_written_later() -> None:
    shop = Shop()
    accept(shop.book, created(), 1)
    shop.directory.lets.clear()
    first = asyncio.create_task(shop.projection.project(0, [FACT]))
    await until(lambda: shop.directory.waiting == 1)
    accept(shop.book, revoked(), 2)
    second = asyncio.create_task(shop.projection.project(0, [FACT]))
    shop.directory.works = [True, False, False]
    shop.directory.lets.set()
    await asyncio.gather(first, second)
    assert shop.projection.lagging == 1
    await shop.settles()
    assert (await shown(shop.directory)).status == "revoked"
