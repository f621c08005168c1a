"""Audit's position in KF_AUDIT on the twin, one node and three: conditional, never back, healed where it was lost."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

import pytest

from keyforge.audit.outbound.publish_position import (
    NOTHING_PUBLISHED,
    NotAdvancedError,
    OtherStreamsError,
    Published,
    PublishPosition,
)
from keyforge.contracts import subjects
from keyforge.eventlog import jetstream_api
from keyforge.eventlog.jetstream import JetStreamLog
from keyforge.eventlog.log import Appended, AppendUnknown, EventLog
from keyforge.eventlog.memory import MemoryLog
from keyforge.eventlog.nats.client import NatsClient
from keyforge.eventlog.streams import declare
from keyforge.testkit.nats_client import CONNECT_WITHIN_S, SMALL, open_client, taken

BUCKET = subjects.bucket_stream(subjects.AUDIT_POSITION_BUCKET)
ENTRY = subjects.bucket_subject(subjects.AUDIT_POSITION_BUCKET, subjects.audit_position_key(0))


class Lab(NamedTuple):
    """A log of one partition that has five messages; `again` creates an empty stream in place of one of that name."""

    log: EventLog
    again: Callable[[str], Awaitable[None]]

    async def fill(self) -> None:
        await taken(self.log, subjects.ctl(0))
        for _ in range(5):
            assert isinstance(await self.log.append(subjects.ctl(0), b"x"), Appended)


def on_twin() -> Lab:
    log = MemoryLog.of_partitions(1)

    async def again(stream: str) -> None:
        log.declare(stream, log._streams[stream].patterns)

    return Lab(log, again)


async def on_server(client: NatsClient, replicas: int) -> Lab:
    async def again(stream: str) -> None:
        await jetstream_api.call(client, f"STREAM.DELETE.{stream}")
        await declare(client, partitions=1, replicas=replicas, sizes=SMALL)
        await taken(log, ENTRY)

    await declare(client, partitions=1, replicas=replicas, sizes=SMALL)
    log = JetStreamLog(client, append_timeout_s=CONNECT_WITHIN_S)
    await taken(log, ENTRY)
    return Lab(log, again)


@pytest.fixture(params=["twin", "own", "own_cluster"])
async def lab(request: pytest.FixtureRequest) -> AsyncIterator[Lab]:
    if request.param == "twin":
        found = on_twin()
        await found.fill()
        yield found
        return
    fixture = request.getfixturevalue(f"nats_{request.param}")
    server = fixture() if callable(fixture) else fixture
    async with open_client(server.urls) as client:
        found = await on_server(client, server.replicas)
        await found.fill()
        yield found


def upto(sequence: int) -> Published:
    """A log that is published up to a message; each became two records."""
    return Published(sequence, 2 * sequence)


async def advanced(position: PublishPosition, sequence: int) -> Published:
    """Advance after one attempt that lost to another writer."""
    with pytest.raises(NotAdvancedError):
        await position.advance(0, upto(sequence))
    return await position.advance(0, upto(sequence))


async def test_of_two_the_slower_goes_on_from_where_the_other_is(lab: Lab) -> None:
    one, other = PublishPosition(lab.log, 1), PublishPosition(lab.log, 1)
    assert (await one.find(), await other.find()) == ({0: NOTHING_PUBLISHED}, {0: NOTHING_PUBLISHED})
    assert await one.advance(0, upto(2)) == upto(2)
    assert await one.advance(0, upto(4)) == upto(4)
    assert await advanced(other, 3) == upto(4)
    assert await PublishPosition(lab.log, 1).find() == {0: upto(4)}
    assert await other.advance(0, upto(5)) == upto(5)
    assert await advanced(one, 5) == upto(5)
    assert await PublishPosition(lab.log, 1).find() == {0: upto(5)}


async def test_an_entry_that_is_lost_meanwhile_is_written_again(lab: Lab) -> None:
    position = PublishPosition(lab.log, 1)
    await position.find()
    await position.advance(0, upto(1))
    await position.advance(0, upto(2))
    await lab.again(BUCKET)
    with pytest.raises(AppendUnknown):
        await position.advance(0, upto(3))
    assert await position.advance(0, upto(3)) == upto(3)
    assert await PublishPosition(lab.log, 1).find() == {0: upto(3)}


async def test_an_entry_past_the_end_of_the_log_is_written_over(lab: Lab) -> None:
    one, other = PublishPosition(lab.log, 1), PublishPosition(lab.log, 1)
    await one.find()
    await other.find()
    await other.advance(0, upto(900))
    assert await PublishPosition(lab.log, 1).find() == {0: NOTHING_PUBLISHED}
    with pytest.raises(NotAdvancedError):
        await one.advance(0, upto(1))
    assert await one.advance(0, upto(1)) == upto(1)
    assert await PublishPosition(lab.log, 1).find() == {0: upto(1)}


@pytest.mark.parametrize("stream", [subjects.AUDIT_STREAM, subjects.log_stream(0)])
async def test_of_another_stream_of_the_name_nothing_is_published_yet(lab: Lab, stream: str) -> None:
    old = PublishPosition(lab.log, 1)
    await old.find()
    await old.advance(0, upto(5))
    await lab.again(stream)
    if stream != subjects.AUDIT_STREAM:
        await lab.fill()
    new = PublishPosition(lab.log, 1)
    assert await new.find() == {0: NOTHING_PUBLISHED}
    assert await new.advance(0, upto(1)) == upto(1)
    with pytest.raises(NotAdvancedError):
        await old.advance(0, upto(5))
    with pytest.raises(OtherStreamsError):
        await old.advance(0, upto(5))
    assert await old.find() == {0: upto(1)}
