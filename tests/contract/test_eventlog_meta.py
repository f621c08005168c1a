"""What the logs were made with: written before the first of them, compared ever after; on one node and on three."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import msgspec
import pytest

from keyforge.contracts import meta as metas
from keyforge.contracts import subjects
from keyforge.contracts.meta import FORMAT, SECRETS, Meta, MetaUnreadable, difference, fingerprint
from keyforge.eventlog import jetstream_api, meta, streams
from keyforge.eventlog.jetstream import JetStreamLog
from keyforge.eventlog.log import LogMissing
from keyforge.eventlog.meta import WrongLog, declare, read, require_same
from keyforge.eventlog.nats.client import NatsClient
from keyforge.eventlog.retry import retrying
from keyforge.testkit.nats_client import CONNECT_WITHIN_S, SMALL, open_client, until

MADE = Meta(
    audit_master_key="0a" * 8,
    commitment_secret="0c" * 8,
    edge_key="0e" * 8,
    format=FORMAT,
    key_secret="0b" * 8,
    partitions=2,
)
MINE = msgspec.structs.asdict(MADE)
OTHER: dict[str, Any] = {
    "audit_master_key": "ff" * 8,
    "commitment_secret": "ff" * 8,
    "edge_key": "ff" * 8,
    "key_secret": "ff" * 8,
    "partitions": 3,
}


async def write(client: NatsClient, entry: Meta) -> None:
    """Write the entry, however long a new stream of three replicas has no leader."""
    await retrying(partial(meta._write, client, entry), backoff=streams.BACKOFF, retry_on=LogMissing)


@pytest.fixture(params=["own", pytest.param("cluster", marks=pytest.mark.cluster)])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[NatsClient]:
    """A client to a server without any stream of ours."""
    if request.param == "own":
        node = request.getfixturevalue("nats_own")()
        async with open_client(node.urls) as client:
            yield client
        return
    cluster = request.getfixturevalue("nats_own_cluster")
    async with open_client(cluster.urls) as client:
        yield client


def replicas_of(request: pytest.FixtureRequest) -> int:
    return 3 if "cluster" in request.node.name else 1


async def test_the_first_declaration_says_what_the_logs_are_made_with(
    client: NatsClient, request: pytest.FixtureRequest
) -> None:
    replicas = replicas_of(request)
    log = JetStreamLog(client)
    assert await read(log) is None
    made = await declare(client, made_with=MADE, replicas=replicas, sizes=SMALL)
    assert made[0] == subjects.bucket_stream(subjects.META_BUCKET)
    assert await read(log) == MADE
    await require_same(log, MINE)
    assert await declare(client, made_with=MADE, replicas=replicas, sizes=SMALL) == []
    for name, value in OTHER.items():
        with pytest.raises(WrongLog, match=str(value)):
            await declare(client, made_with=msgspec.structs.replace(MADE, **{name: value}), replicas=replicas)
        with pytest.raises(WrongLog, match=str(value)):
            await require_same(log, {name: value})
    assert await read(log) == MADE
    with pytest.raises(LogMissing):
        await log.end(subjects.log_stream(MADE.partitions))  # a refusal makes nothing
    assert {await log.end(subjects.log_stream(partition)) for partition in range(MADE.partitions)} == {0}
    newer = msgspec.structs.replace(MADE, format=FORMAT + 1)
    await write(client, newer)
    with pytest.raises(WrongLog, match="upgrade"):
        await require_same(log, MINE)


async def test_any_number_of_partitions_is_that_of_the_log(client: NatsClient, request: pytest.FixtureRequest) -> None:
    replicas, log = replicas_of(request), JetStreamLog(client)
    other = msgspec.structs.replace(MADE, partitions=3)
    await declare(client, made_with=MADE, replicas=replicas, any_partitions=True, sizes=SMALL)
    assert await declare(client, made_with=other, replicas=replicas, any_partitions=True, sizes=SMALL) == []
    with pytest.raises(WrongLog, match="KEYFORGE_PARTITIONS is 3, the log was made with 2"):
        await declare(client, made_with=other, replicas=replicas, sizes=SMALL)
    wrong = msgspec.structs.replace(other, key_secret="dd" * 8)
    with pytest.raises(WrongLog, match="KEYFORGE_KEY_SECRET"):
        await declare(client, made_with=wrong, replicas=replicas, any_partitions=True, sizes=SMALL)
    without = {name: value for name, value in MINE.items() if name != "partitions"}
    assert (await require_same(log, without)).partitions == MADE.partitions
    assert await read(log) == MADE


async def test_logs_of_which_nothing_is_said_are_not_touched(
    client: NatsClient, request: pytest.FixtureRequest
) -> None:
    replicas = replicas_of(request)
    await streams.declare(client, partitions=2, replicas=replicas, sizes=SMALL)
    log = JetStreamLog(client)
    with pytest.raises(WrongLog, match="does not say"):
        await declare(client, made_with=MADE, replicas=replicas, sizes=SMALL)
    with pytest.raises(WrongLog, match="does not say"):
        await require_same(log, MINE)
    assert await read(log) is None


@pytest.mark.parametrize("left", [subjects.log_stream(1), subjects.PLATFORM_STREAM])
async def test_any_log_that_is_left_holds_what_was_said_of_it(
    client: NatsClient, request: pytest.FixtureRequest, left: str
) -> None:
    """Not the first alone: an entry that was overwritten no longer says what the other logs were made with."""
    replicas = replicas_of(request)
    await declare(client, made_with=MADE, replicas=replicas, sizes=SMALL)
    logs = {*map(subjects.log_stream, range(MADE.partitions)), subjects.PLATFORM_STREAM}
    for gone in logs - {left}:
        await jetstream_api.call(client, f"STREAM.DELETE.{gone}", {})
    log = JetStreamLog(client)
    with pytest.raises(WrongLog, match="KEYFORGE_KEY_SECRET"):
        await declare(client, made_with=msgspec.structs.replace(MADE, key_secret="dd" * 8), replicas=replicas)
    assert await read(log) == MADE
    for gone in logs - {left}:
        with pytest.raises(LogMissing):
            await log.end(gone)
    assert set(await declare(client, made_with=MADE, replicas=replicas, sizes=SMALL)) == logs - {left}


async def test_a_declaration_that_was_killed_before_the_first_log_is_begun_again(client: NatsClient) -> None:
    """The entry is written first: what it says before there is a log may be replaced."""
    replicas = 1
    spec = streams.bucket_spec(subjects.META_BUCKET, replicas=replicas)
    await streams.declare_stream(client, spec)
    other = msgspec.structs.replace(MADE, key_secret="dd" * 8, partitions=1)
    await write(client, other)
    await declare(client, made_with=MADE, replicas=replicas, sizes=SMALL)
    assert await read(JetStreamLog(client)) == MADE


async def test_of_two_declarations_at_once_that_differ_one_is_refused(
    client: NatsClient, request: pytest.FixtureRequest
) -> None:
    other = msgspec.structs.replace(MADE, key_secret="dd" * 8)
    outcomes = await asyncio.gather(
        *(declare(client, made_with=one, replicas=replicas_of(request), sizes=SMALL) for one in (MADE, other)),
        return_exceptions=True,
    )
    refused = [outcome for outcome in outcomes if isinstance(outcome, WrongLog)]
    assert len(refused) == 1, outcomes
    assert await read(JetStreamLog(client)) == (other if isinstance(outcomes[0], WrongLog) else MADE)


async def test_a_service_waits_for_a_log_that_is_not_declared_yet(client: NatsClient) -> None:
    log, told = JetStreamLog(client), list[str]()
    waiting = asyncio.ensure_future(require_same(log, MINE, lambda why: told.append(str(why))))
    await until(lambda: asyncio.sleep(0, told))
    assert told[0] == "the log is not declared: run `keyforge declare`"
    assert not waiting.done()
    await declare(client, made_with=MADE, replicas=1, sizes=SMALL)
    async with asyncio.timeout(CONNECT_WITHIN_S):
        await waiting


def test_an_entry_that_is_none_is_refused() -> None:
    assert metas.decode(metas.encode(MADE)) == MADE
    for data in (b"", b"{}", b'{"format":"1"}', b"[]", b"\xff"):
        with pytest.raises(MetaUnreadable):
            metas.decode(data)


def test_a_difference_names_the_variable_and_both_values() -> None:
    assert difference(MADE, MINE) is None
    assert difference(MADE, {"key_secret": MADE.key_secret}) is None
    assert difference(MADE, {"format": FORMAT + 1}) is None
    for name, value in OTHER.items():
        said = difference(MADE, {name: value})
        assert said is not None
        assert SECRETS.get(name, "KEYFORGE_PARTITIONS") in said
        assert str(value) in said
        assert str(getattr(MADE, name)) in said


def test_fingerprints_are_the_specs() -> None:
    """Computed by hand from the module's docstring; one secret under two names has two fingerprints."""
    assert fingerprint("key_secret", bytes(range(32))) == "1911dafed8849dce"
    assert fingerprint("commitment_secret", bytes(range(32))) != fingerprint("key_secret", bytes(range(32)))
    with pytest.raises(ValueError, match="no secret"):
        fingerprint("password", b"")
