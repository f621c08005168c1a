"""The sizes of the log's streams: what a server has for them, and raising them; on one node and on three."""

import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from keyforge.contracts import subjects
from keyforge.embedded.declare import declare as declare_at
from keyforge.embedded.errors import SettingError
from keyforge.embedded.sizes import LogSize
from keyforge.eventlog import jetstream_api, sizes, streams
from keyforge.eventlog.jetstream import JetStreamLog
from keyforge.eventlog.log import Appended, Full
from keyforge.eventlog.nats.client import NatsClient
from keyforge.eventlog.sizes import Room, SizeRefused, StoreUnknown, grow, refuse_smaller, room, survey
from keyforge.eventlog.stream_api import DeclareFailed
from keyforge.eventlog.streams import Sizes, declare, specs
from keyforge.testkit.made_with import made_with
from keyforge.testkit.nats_client import open_client, until
from keyforge.testkit.nats_cluster import NatsCluster
from keyforge.testkit.nats_server import NatsNode

StartNode = Callable[..., NatsNode]

MIB = 1024 * 1024
GIB = 1024 * MIB
PARTITIONS = 2
SMALL = Sizes.of_total(20 * MIB, PARTITIONS)
LARGE = Sizes.of_total(40 * MIB, PARTITIONS)
LOGS = [subjects.log_stream(0), subjects.log_stream(1), subjects.PLATFORM_STREAM, subjects.AUDIT_STREAM]
FRAME = b"x" * 512 * 1024
LIMITED = """
accounts: {
  KF: { users: [{ user: kf, password: p }], jetstream: { max_file: LIMIT } },
  SYS: { users: [{ user: sys, password: p }] }
}
system_account: SYS
no_auth_user: kf
"""
"""An account with a limit of its own, which whoever gives no name is of."""

ONE_AND_THREE = ["own", pytest.param("own_cluster", marks=pytest.mark.cluster)]


@pytest.fixture(params=ONE_AND_THREE)
async def log(request: pytest.FixtureRequest) -> AsyncIterator[tuple[NatsClient, int]]:
    """A client to a server with small logs, and their replicas."""
    found = request.getfixturevalue(f"nats_{request.param}")
    server = found() if callable(found) else found
    async with open_client(server.urls) as client:
        await declare(client, partitions=PARTITIONS, replicas=server.replicas, sizes=SMALL)
        yield client, server.replicas


async def config(client: NatsClient, stream: str) -> dict[str, Any]:
    return (await jetstream_api.stream_info(client, stream))[0]


async def test_a_raise_changes_the_size_and_nothing_else(log: tuple[NatsClient, int]) -> None:
    """What a full stream refused it takes afterwards, from the same connection; what it holds stays."""
    client, replicas = log
    events = JetStreamLog(client)
    stored = 0
    while isinstance(outcome := await events.append(subjects.ctl(0), FRAME), Appended):
        stored += 1
    assert isinstance(outcome, Full)
    before = {stream: await config(client, stream) for stream in LOGS}
    wanted = specs(range(PARTITIONS), replicas=replicas, sizes=LARGE)
    raised = await grow(client, await survey(client, wanted))
    assert [(one.stream, one.bytes_max_before, one.bytes_max) for one in raised] == [
        (stream, before[stream]["max_bytes"], 2 * before[stream]["max_bytes"]) for stream in LOGS
    ]
    for stream in LOGS:
        assert await config(client, stream) == before[stream] | {"max_bytes": 2 * before[stream]["max_bytes"]}
    assert isinstance(await events.append(subjects.ctl(0), FRAME), Appended)
    assert await events.end(LOGS[0]) == stored + 1
    assert await grow(client, await survey(client, wanted)) == [], "once is enough"
    smaller = specs(range(PARTITIONS), replicas=replicas, sizes=SMALL)
    assert await grow(client, await survey(client, smaller)) == [], "never lowered"
    assert await declare(client, partitions=PARTITIONS, replicas=replicas, sizes=SMALL) == []
    assert (await config(client, LOGS[0]))["max_bytes"] == LARGE.log_bytes_max


async def test_a_log_that_holds_more_than_its_part_is_named(log: tuple[NatsClient, int]) -> None:
    client, replicas = log
    for _ in range(5):
        await JetStreamLog(client).append(subjects.ctl(1), FRAME)
    part = specs(range(PARTITIONS), replicas=replicas, sizes=Sizes.of_total(5 * MIB, PARTITIONS))
    with pytest.raises(SizeRefused, match=r"KF_LOG_1 holds \d+ bytes, more than its part of KEYFORGE_LOG_BYTES_MAX, 2"):
        refuse_smaller(await survey(client, part))
    refuse_smaller(await survey(client, specs(range(PARTITIONS), replicas=replicas, sizes=SMALL)))


async def other_stream(client: NatsClient, replicas: int, bytes_max: int) -> None:
    body = {"name": "OTHER", "subjects": ["other"], "num_replicas": replicas, "max_bytes": bytes_max}
    await jetstream_api.call(client, "STREAM.CREATE.OTHER", body)


@pytest.mark.parametrize("limit", [None, 300 * MIB])
async def test_on_one_node_what_is_left_is_taken_and_found_again(nats_own: StartNode, limit: int | None) -> None:
    """Twice the same answer: what a first declaration took is not counted as taken by the next."""
    node = nats_own(file_store="1GB", extra="" if limit is None else LIMITED.replace("LIMIT", str(limit)))
    async with open_client(node.urls) as client:
        await other_stream(client, 1, 100 * MIB)
        monitors = node.monitor_urls
        if limit is None:
            assert await room(client, [], [], replicas=1) is None
        else:
            assert await room(client, [], [], replicas=1) == Room(limit - 100 * MIB, "the account")
        expected = Room(GIB - 100 * MIB, "nats-server own1") if limit is None else Room(200 * MIB, "the account")
        assert await room(client, monitors, [], replicas=1) == expected
        shares = Sizes.of_total(expected.bytes_max, PARTITIONS)
        await declare(client, partitions=PARTITIONS, replicas=1, sizes=shares)
        found = await survey(client, specs(range(PARTITIONS), replicas=1, sizes=shares))
        assert await room(client, monitors, found, replicas=1) == expected
        more = specs(range(PARTITIONS), replicas=1, sizes=Sizes.of_total(2 * expected.bytes_max, PARTITIONS))
        with pytest.raises(DeclareFailed, match=r"KF_LOG_0 could not be raised to .* insufficient storage"):
            await grow(client, await survey(client, more))


@pytest.mark.cluster
@pytest.mark.parametrize("limit", [None, 900 * MIB])
async def test_on_three_nodes_each_server_stores_a_copy_and_the_account_counts_all(
    tmp_path: Path, limit: int | None
) -> None:
    """A third of what the account may store, or all that the smallest server may: what a total is counted in."""
    cluster = NatsCluster(
        tmp_path / "limited", file_store="1GB", extra="" if limit is None else LIMITED.replace("LIMIT", str(limit))
    )
    try:
        cluster.start()
        async with open_client(cluster.urls) as client:
            await other_stream(client, 3, 100 * MIB)
            expected = GIB - 100 * MIB if limit is None else limit // 3 - 100 * MIB
            shares = Sizes.of_total(expected, PARTITIONS)
            wanted = specs(range(PARTITIONS), replicas=3, sizes=shares)
            await declare(client, partitions=PARTITIONS, replicas=3, sizes=shares)
            found = await survey(client, wanted)
            left = await room(client, cluster.monitor_urls, found, replicas=3)
            assert left is not None
            assert left.bytes_max == expected
            assert [
                page["jetstream"]["stats"]["reserved_storage"] for node in cluster.nodes for page in varz(node)
            ] == [100 * MIB + sum(spec.bytes_max for spec in wanted)] * 3
            more = specs(range(PARTITIONS), replicas=3, sizes=Sizes.of_total(2 * expected, PARTITIONS))
            with pytest.raises(DeclareFailed, match="could not be raised"):
                await grow(client, await survey(client, more))
    finally:
        cluster.stop()


def varz(node: NatsNode) -> list[dict[str, Any]]:
    page = node.monitor("/varz")
    return [] if page is None else [page]


@pytest.mark.cluster
async def test_what_a_cluster_would_take_too_much_of_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    """The servers create streams one after the other beyond their store: nobody else looks."""
    cluster = NatsCluster(tmp_path / "small", file_store="100MB")
    too_much = 200 * MIB
    try:
        cluster.start()
        with pytest.raises(SettingError, match=rf"KEYFORGE_LOG_BYTES_MAX is {too_much}, more than nats-server n\d has"):
            await declare_at(
                cluster.url,
                user="",
                password="",
                made_with=made_with(PARTITIONS),
                replicas=3,
                size=LogSize(too_much, monitor_urls=tuple(cluster.monitor_urls)),
            )
        async with open_client(cluster.urls) as client:
            assert not await streams.any_log(client)
    finally:
        cluster.stop()


async def test_a_store_that_cannot_be_read_is_not_guessed(nats_own: StartNode) -> None:
    node = nats_own()
    async with open_client(node.urls) as client:
        with pytest.raises(StoreUnknown, match=r"KEYFORGE_NATS_MONITOR_URL: http://127\.0\.0\.1:1/varz cannot be read"):
            await room(client, ["http://127.0.0.1:1"], [], replicas=1)
        node.kill()
        with pytest.raises(DeclareFailed, match="INFO"):
            await room(client, [], [], replicas=1, timeout_s=0.5)


async def test_declare_takes_what_the_server_has_or_what_it_is_given(nats_own: StartNode) -> None:
    node = nats_own(file_store="100MB")
    monitors = (node.monitor_url,)

    async def declared(total: int | None, *, monitor_urls: tuple[str, ...] = monitors) -> list[tuple[str, int]]:
        done = await declare_at(
            node.url,
            user="",
            password="",
            made_with=made_with(PARTITIONS),
            replicas=1,
            size=LogSize(total, monitor_urls=monitor_urls),
        )
        return [(one.stream, one.bytes_max) for one in done.raised]

    with pytest.raises(SettingError, match="KEYFORGE_LOG_BYTES_MAX or KEYFORGE_NATS_MONITOR_URL must be set"):
        await declared(None, monitor_urls=())
    assert await declared(20 * MIB, monitor_urls=()) == []
    async with open_client(node.urls) as client:
        assert (await config(client, LOGS[0]))["max_bytes"] == 8 * MIB
        for _ in range(15):
            await JetStreamLog(client).append(subjects.ctl(0), FRAME)
    with pytest.raises(SettingError, match="KF_LOG_0 holds"):
        await declared(16 * MIB)
    assert dict(await declared(40 * MIB))[LOGS[0]] == 16 * MIB
    assert await declared(30 * MIB) == [], "nothing is lowered"
    with pytest.raises(SettingError, match=f"is {101 * MIB}, more than nats-server own1 has for it: {100 * MIB}"):
        await declared(101 * MIB)
    assert dict(await declared(None))[LOGS[0]] == 40 * MIB
    assert await declared(None) == []


async def test_a_server_is_given_more_while_it_runs(nats_own: StartNode) -> None:
    """By a SIGHUP, as docs/operations.md has it; and streams that were given more than a later store are served."""
    node = nats_own(file_store="100MB")
    wanted = specs(range(PARTITIONS), replicas=1, sizes=Sizes.of_total(200 * MIB, PARTITIONS))
    async with open_client(node.urls) as client:
        await declare(client, partitions=PARTITIONS, replicas=1, sizes=Sizes.of_total(100 * MIB, PARTITIONS))
        with pytest.raises(DeclareFailed, match="could not be raised"):
            await grow(client, await survey(client, wanted))
        file = node.folder / "server.conf"
        file.write_text(file.read_text().replace("100MB", "200MB"))
        os.kill(node.pid, signal.SIGHUP)

        async def raised() -> bool:
            left = await room(client, node.monitor_urls, await survey(client, wanted), replicas=1)
            return left is not None and left.bytes_max == 200 * MIB

        await until(raised)
        assert len(await grow(client, await survey(client, wanted))) == len(LOGS)
    node.stop()
    node.start()  # with 100 MB, as it was made
    async with open_client(node.urls) as client:
        assert isinstance(await JetStreamLog(client).append(subjects.ctl(0), FRAME), Appended)


async def test_kf_audit_has_its_share_or_what_a_setting_says(nats_own: StartNode) -> None:
    node = nats_own()

    async def bytes_max(total: int, audit: int | None) -> int:
        await declare_at(
            node.url,
            user="",
            password="",
            made_with=made_with(PARTITIONS),
            replicas=1,
            sizes=Sizes(audit_bytes_max=audit),
            size=LogSize(total),
        )
        async with open_client(node.urls) as client:
            return int((await config(client, subjects.AUDIT_STREAM))["max_bytes"])

    assert await bytes_max(200 * MIB, None) == 20 * MIB
    assert await bytes_max(400 * MIB, None) == 40 * MIB
    assert await bytes_max(200 * MIB, None) == 40 * MIB, "never lowered by the total"
    assert await bytes_max(400 * MIB, 20 * MIB) == 20 * MIB, "it drops the old, so its own setting may"
    assert await bytes_max(400 * MIB, 60 * MIB) == 60 * MIB
    with pytest.raises(SettingError, match=f"KEYFORGE_AUDIT_STREAM_BYTES_MAX is {61 * MIB}, more than {60 * MIB}"):
        await bytes_max(400 * MIB, 61 * MIB)


async def test_too_little_is_left(nats_own: StartNode) -> None:
    node = nats_own(file_store="10MB")
    with pytest.raises(
        SettingError, match=f"nats-server own1 has {10 * MIB} bytes left for the log, at least 16777216"
    ):
        await declare_at(
            node.url,
            user="",
            password="",
            made_with=made_with(PARTITIONS),
            replicas=1,
            size=LogSize(None, monitor_urls=(node.monitor_url,)),
        )


@pytest.mark.parametrize(
    ("replicas", "expected"), [pytest.param(3, 700, id="of its tier"), pytest.param(1, None, id="of no tier")]
)
def test_a_tiers_limit_counts_each_stream_once(replicas: int, expected: int | None) -> None:
    """As the server's source has it: tiers come with operators' JWTs, which no test here has."""
    page = (
        b'{"reserved_storage": 0, "limits": {"max_storage": -1},'
        b' "tiers": {"R3": {"reserved_storage": 400, "limits": {"max_storage": 1000}}}}'
    )
    found = sizes._account_room(sizes._account.decode(page), 100, replicas)
    assert (found.bytes_max if found else None) == expected
