"""Declaring streams and buckets on one node and on three, and refusing a server that acknowledges before it syncs."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing

import msgspec
import pytest
from nats.aio.client import Client
from nats.js.errors import KeyWrongLastSequenceError

from keyforge.contracts import subjects
from keyforge.eventlog import jetstream_api, stream_api, streams
from keyforge.eventlog.jetstream import JetStreamLog
from keyforge.eventlog.log import Appended, LogMissing
from keyforge.eventlog.stream_api import DeclareFailed
from keyforge.eventlog.streams import StreamDiffers, declare, declare_stream, log_spec
from keyforge.testkit.nats_client import SMALL, NatsServer, connected, open_client
from keyforge.testkit.nats_server import NatsNode

StartNode = Callable[..., NatsNode]

ALL = {
    "KF_LOG_0",
    "KF_LOG_1",
    "KF_PLATFORM",
    "KF_AUDIT",
    "KV_KF_LEASES",
    "KV_KF_AUDIT_POSITION",
    *(subjects.bucket_stream(bucket) for bucket in streams.BUCKETS),
}


@pytest.fixture(params=["own", "own_cluster"])
def server(request: pytest.FixtureRequest) -> NatsServer:
    found: NatsServer | StartNode = request.getfixturevalue(f"nats_{request.param}")
    return found() if callable(found) else found


async def test_declare_creates_once_and_checks_ever_after(server: NatsServer) -> None:
    async with open_client(server.urls) as client:
        made = await declare(client, partitions=2, replicas=server.replicas, sizes=SMALL)
        assert set(made) == ALL
        assert await declare(client, partitions=2, replicas=server.replicas) == []
        assert await declare(client, partitions=3, replicas=server.replicas, sizes=SMALL) == ["KF_LOG_2"]
        with pytest.raises(StreamDiffers, match="KF_LOG_2 exists, but only 2 partitions"):
            await declare(client, partitions=2, replicas=server.replicas)
    async with connected(server.urls) as nc:
        await check_leases(nc)


async def check_leases(nc: Client) -> None:
    """nats-py's own buckets work on ours; a lease ends by itself."""
    leases = await nc.jetstream().key_value(subjects.LEASES_BUCKET)
    status = await leases.status()
    assert (status.history, status.ttl) == (1, streams.LEASE_TTL_S)
    revision = await leases.create(subjects.lease_key(0), b"me")
    with pytest.raises(KeyWrongLastSequenceError):
        await leases.create(subjects.lease_key(0), b"you")
    await leases.update(subjects.lease_key(0), b"me again", last=revision)
    directory = await nc.jetstream().key_value(subjects.DIRECTORY_BUCKET)
    await directory.put("k", b"1")
    await directory.put("k", b"2")
    assert (await directory.get("k")).value == b"2"
    await directory.delete("k")


async def test_what_kf_audit_keeps_is_set_at_any_time_and_left_alone_without_a_setting(server: NatsServer) -> None:
    async def declared(**kept: int) -> dict[str, object]:
        sizes = msgspec.structs.replace(SMALL, audit_bytes_max=kept.get("bytes"), audit_days_max=kept.get("days"))
        await declare(client, partitions=1, replicas=server.replicas, sizes=sizes)
        found = await stream_api.config_of(client, subjects.AUDIT_STREAM)
        assert found is not None
        assert found["max_consumers"] == streams.AUDIT_CONSUMERS_MAX
        assert (found["discard"], found["deny_purge"]) == ("old", False)
        return {"bytes": found["max_bytes"], "days": found["max_age"] / (86_400 * 10**9)}

    async with open_client(server.urls) as client:
        assert await declared() == {"bytes": streams.AUDIT_BYTES_MAX, "days": 0}
        assert await declared(bytes=1 << 26, days=7) == {"bytes": 1 << 26, "days": 7}
        assert await declared() == {"bytes": 1 << 26, "days": 7}
        assert await declared(days=0) == {"bytes": 1 << 26, "days": 0}
        with pytest.raises(DeclareFailed, match="KF_AUDIT could not be updated: insufficient storage"):
            await declared(bytes=1 << 50)
        assert await declared() == {"bytes": 1 << 26, "days": 0}


async def test_kf_audit_drops_the_oldest_and_says_what_is_oldest(nats_own: StartNode) -> None:
    async with open_client(nats_own().urls) as client:
        sizes = msgspec.structs.replace(SMALL, audit_bytes_max=64 * 1024)
        await declare(client, partitions=1, replicas=1, sizes=sizes)
        log = JetStreamLog(client)
        for _ in range(40):
            assert isinstance(await log.append("kf.audit.acme.keys", bytes(4096)), Appended)
        state = await log.state(subjects.AUDIT_STREAM)
        assert (state.last, state.bytes_max) == (40, 64 * 1024)
        assert 20 < state.first < 40
        async with aclosing(log.read(subjects.AUDIT_STREAM, forgets=True)) as reading:
            oldest = (await anext(reading))[0]
        assert (oldest.seq, oldest.time) == (state.first, state.first_at)


async def test_declare_at_once_from_many_places(server: NatsServer) -> None:
    async with open_client(server.urls) as one, open_client(server.urls) as other:
        both = await asyncio.gather(
            *(declare(client, partitions=2, replicas=server.replicas, sizes=SMALL) for client in (one, other))
        )
        assert set(both[0]) | set(both[1]) == ALL


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param({"deny_purge": True}, "deny_purge is True, not False", id="never to be purged"),
        pytest.param({"discard": "old"}, "discard is 'old', not 'new'", id="drops the old"),
        pytest.param({"max_age": 10**12}, "max_age is 1000000000000, not 0", id="forgets"),
        pytest.param({"allow_direct": True}, "allow_direct is True, not False", id="direct reads"),
        pytest.param({"storage": "memory"}, "storage is 'memory', not 'file'", id="in memory"),
        pytest.param({"subjects": ["kf.log.0.>", "other.>"]}, "subjects is", id="takes more in"),
    ],
)
async def test_a_stream_that_is_not_what_the_log_relies_on(
    nats_own: StartNode, change: dict[str, object], said: str
) -> None:
    async with open_client(nats_own().urls) as client:
        spec = log_spec(0, replicas=1, sizes=SMALL)
        await declare_stream(client, msgspec.structs.replace(spec, fixed=spec.fixed | change))
        with pytest.raises(StreamDiffers, match=f"KF_LOG_0: .*{said}"):
            await declare(client, partitions=1, replicas=1)
        config = await stream_api.config_of(client, "KF_LOG_0")
        assert config is not None
        assert all(config.get(name) == value for name, value in change.items()), "never changed by us"


async def test_another_number_of_replicas_is_refused(nats_node: NatsNode, partition: int) -> None:
    async with open_client(nats_node.urls) as client:
        await declare_stream(client, log_spec(partition, replicas=1, sizes=SMALL))
        with pytest.raises(StreamDiffers, match="num_replicas is 1, not 3"):
            await declare_stream(client, log_spec(partition, replicas=3))


async def test_what_cannot_be_created_says_why(nats_own: StartNode) -> None:
    async with open_client(nats_own().urls) as client:
        with pytest.raises(DeclareFailed, match="KF_LOG_0 could not be created: replicas > 1"):
            await declare(client, partitions=1, replicas=3)
        too_large = streams.Sizes(log_bytes_max=1 << 50)
        with pytest.raises(DeclareFailed, match="KF_LOG_0 could not be created: insufficient storage"):
            await declare(client, partitions=1, replicas=1, sizes=too_large)
        with pytest.raises(LogMissing):
            await jetstream_api.stream_state(client, "KF_LOG_0")


async def test_no_jetstream_ends_in_time(nats_own: StartNode) -> None:
    node = nats_own()
    async with open_client(node.urls) as client:
        node.kill()
        with pytest.raises(DeclareFailed, match="KF_LOG_1"):
            await declare(client, partitions=1, replicas=1, timeout_s=0.5)
