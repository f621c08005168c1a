"""A bucket over a real server: what is there, what is not, and a bucket that is not there itself."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from keyforge.contracts import subjects
from keyforge.eventlog.jetstream import JetStreamLog
from keyforge.eventlog.streams import declare
from keyforge.runtime.buckets import Bucket, BucketUnavailableError
from keyforge.runtime.bus import Bus
from keyforge.testkit.nats_client import bus_to
from keyforge.testkit.nats_server import NatsNode


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[Bus]:
    node = NatsNode(tmp_path / "nats")
    await asyncio.to_thread(node.start)
    try:
        made = await bus_to([node.url])
        yield made
        await made.close()
    finally:
        await asyncio.to_thread(node.stop)


async def test_a_bucket_that_is_not_there_is_not_an_empty_one(bus: Bus) -> None:
    bucket = Bucket(bus.nats_py, JetStreamLog(bus.nats), subjects.TOKENS_BUCKET)
    with pytest.raises(BucketUnavailableError):
        await bucket.get("one")
    await declare(bus.nats, partitions=1, replicas=1)
    assert await bucket.get("one") is None
    revision = await bucket.put("one", b"value")
    assert await bucket.get("one") == ("one", b"value", revision)
    await bucket.delete("one")
    assert await bucket.get("one") is None
