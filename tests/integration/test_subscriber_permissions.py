"""What a subscriber's user may do with plain clients, and what it neither receives nor reaches: of a real server."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import nats
import pytest
from faststream.nats import JStream, NatsBroker, PullSub
from faststream.security import SASLPlaintext
from nats.aio.client import Client
from nats.js.api import ConsumerConfig, DeliverPolicy

from keyforge.contracts import members, subjects
from keyforge.contracts.subjects import inbox_prefix
from keyforge.testkit.nats_client import flushed, until
from keyforge.testkit.nats_server import NatsNode
from tests.integration.audit_stack import PARTITIONS
from tests.integration.test_up_permissions import (
    ANSWER_S,
    BUCKETS,
    STREAMS,
    as_user,
    declared_with_users,
    log_as,
    refused_by_server,
)

AUDIT = subjects.AUDIT_STREAM
OTHERS = sorted(set(STREAMS) - {AUDIT})
USERS = sorted(set(members.USERS) - {members.TAIL})
MESSAGES = 3
TAIL = {"user": members.TAIL, "password": f"fixture-{members.TAIL}"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsNode]:
    """A server with the real users, and three messages in KF_AUDIT."""
    with declared_with_users(tmp_path_factory.mktemp("subscriber")) as node:
        asyncio.run(_publish(node))
        yield node


async def _publish(node: NatsNode) -> None:
    async with log_as(node, members.AUDIT) as (log, _):
        for number in range(MESSAGES):
            await log.append(f"kf.audit.tenant-{number}.keys", b"[%d]" % number)


@asynccontextmanager
async def as_subscriber(server: NatsNode) -> AsyncIterator[tuple[Client, list[str]]]:
    """Connect as documentation shows, without a prefix; yields what the server refused so far as well."""
    refused: list[str] = []

    async def on_error(error: Exception) -> None:
        refused.append(str(error))

    client = await nats.connect(server.url, **TAIL, allow_reconnect=False, error_cb=on_error)
    try:
        yield client, refused
    finally:
        await client.close()


async def _pull(client: Client) -> Any:
    found = await client.jetstream().pull_subscribe("kf.audit.>", durable="pull")
    return await found.fetch(MESSAGES, timeout=ANSWER_S)


async def _pull_bound(client: Client) -> Any:
    stream = client.jetstream()
    await stream.add_consumer(AUDIT, ConsumerConfig(durable_name="bound", filter_subject="kf.audit.*.keys"))
    return await (await stream.pull_subscribe_bind("bound", AUDIT)).fetch(MESSAGES, timeout=ANSWER_S)


async def _pull_ephemeral(client: Client) -> Any:
    return await (await client.jetstream().pull_subscribe("kf.audit.>")).fetch(MESSAGES, timeout=ANSWER_S)


async def _push(client: Client, **options: Any) -> Any:
    found = await client.jetstream().subscribe("kf.audit.>", **options)
    messages = [await found.next_msg(timeout=ANSWER_S) for _ in range(MESSAGES)]
    await found.unsubscribe()
    return messages


WAYS: dict[str, Callable[[Client], Awaitable[Any]]] = {
    "pull, durable": _pull,
    "pull, bound": _pull_bound,
    "pull, ephemeral": _pull_ephemeral,
    "push, durable": partial(_push, durable="push"),
    "push, ephemeral": _push,
    "push, flow control": partial(_push, durable="flow", flow_control=True, idle_heartbeat=5),
    "push, in a group": partial(_push, queue="group"),
    "ordered": partial(_push, ordered_consumer=True),
    "ordered, from a sequence": partial(
        _push,
        ordered_consumer=True,
        config=ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=1),
    ),
}


@pytest.mark.parametrize("way", WAYS)
async def test_nats_py_consumes_in_every_way_it_documents(server: NatsNode, way: str) -> None:
    async with as_subscriber(server) as (client, refused):
        messages = await WAYS[way](client)
        assert [message.data for message in messages] == [b"[0]", b"[1]", b"[2]"]
        if "ordered" not in way:
            await messages[-1].ack_sync(timeout=ANSWER_S)
        manager = client.jetstream()
        assert (await manager.stream_info(AUDIT)).state.messages == MESSAGES
        for info in await manager.consumers_info(AUDIT):
            assert (await manager.consumer_info(AUDIT, info.name)).name == info.name
            await manager.delete_consumer(AUDIT, info.name)
        await flushed(client)
        assert refused == []


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"durable": "fast-pull", "pull_sub": PullSub(batch_size=2)}, id="durable pull"),
        pytest.param({"queue": "fast-push"}, id="push, in a group"),
        pytest.param({}, id="push"),
        pytest.param({"ordered_consumer": True}, id="ordered"),
    ],
)
async def test_faststream_consumes_with_a_stream_that_it_does_not_declare(
    server: NatsNode, options: dict[str, Any]
) -> None:
    found: list[int] = []
    security = SASLPlaintext(username=members.TAIL, password=f"fixture-{members.TAIL}")
    broker = NatsBroker(server.url, security=security)

    async def handle(body: list[int]) -> None:
        found.extend(body)

    broker.subscriber("kf.audit.*.keys", stream=JStream(AUDIT, declare=False), **options)(handle)

    async def all_came() -> bool:
        return len(found) >= MESSAGES

    async with broker:
        await broker.start()
        await until(all_came)
    assert found == [0, 1, 2]


@pytest.mark.parametrize(
    "pattern", ["_INBOX.>", "_INBOX.*.>", "_INBOX.*.*", "_INBOX.*.*.>", "_INBOX.*.*.*", "_INBOX.*.some.>"]
)
@pytest.mark.parametrize("queue", ["", "group"])
async def test_a_subscriber_receives_nothing_of_what_is_anothers(server: NatsNode, pattern: str, queue: str) -> None:
    """Real replies to each user, and messages straight to its inbox, while a subscriber listens with a wildcard."""
    heard: list[str] = []

    async def hear(message: Any) -> None:
        heard.append(message.subject)

    async with as_subscriber(server) as (client, refused), as_user(server, members.ADMIN) as (admin, _):
        await client.subscribe(pattern, queue=queue, cb=hear)
        await flushed(client)
        for user in USERS:
            async with log_as(server, user) as (log, _):
                await log.end(AUDIT if user == members.AUDIT else subjects.log_stream(0))
            for rest in ("x", "some.x", "some.y.z"):
                await admin.publish(f"{inbox_prefix(user)}.{rest}", b"for another")
        for rest in ("a", "some.b", "some.y.c"):  # what is nobody's own arrives: the subscription works
            await admin.publish(f"_INBOX.nobody.{rest}", b"for all")
        await flushed(admin)
        await until(lambda: _any(heard))
        await flushed(client)
        assert refused == []
        assert {subject.split(".")[1] for subject in heard} == {"nobody"}


async def _any(found: list[str]) -> bool:
    await asyncio.sleep(0)
    return bool(found)


@pytest.mark.parametrize("user", USERS)
async def test_a_subscriber_may_not_ask_for_anothers_inbox(server: NatsNode, user: str) -> None:
    async with as_subscriber(server) as (client, refused):
        for rest in (">", "*", "*.>", "some.x", "some.*"):
            subject = f"{inbox_prefix(user)}.{rest}"
            assert await refused_by_server(client, refused, partial(client.subscribe, subject)), subject


@pytest.mark.parametrize("pattern", [">", "*.>", "*", "kf.>", "kf.log.>", "$JS.>", "$KV.>", "$SYS.>", "_INBOX"])
async def test_a_subscriber_may_not_listen_elsewhere(server: NatsNode, pattern: str) -> None:
    async with as_subscriber(server) as (client, refused):
        assert await refused_by_server(client, refused, partial(client.subscribe, pattern))


async def test_admin_without_its_own_inbox_is_refused_before_others_can_read_its_replies(server: NatsNode) -> None:
    async with as_user(server, members.ADMIN) as (admin, refused):
        for pattern in (">", "_INBOX.>", f"{subjects.DEFAULT_INBOX}.some.*"):
            assert await refused_by_server(admin, refused, partial(admin.subscribe, pattern)), pattern
        assert not await refused_by_server(admin, refused, partial(admin.subscribe, "kf.>"))


@pytest.mark.parametrize("stream", OTHERS)
async def test_a_subscriber_reaches_no_other_stream(server: NatsNode, stream: str) -> None:
    requests = [
        *(f"$JS.API.STREAM.{what}.{stream}" for what in ("INFO", "MSG.GET", "MSG.DELETE", "CREATE", "UPDATE", "PURGE")),
        *(f"$JS.API.CONSUMER.{what}.{stream}" for what in ("CREATE", "NAMES", "LIST")),
        *(
            f"$JS.API.CONSUMER.{what}.{stream}.spy"
            for what in ("CREATE", "DURABLE.CREATE", "INFO", "MSG.NEXT", "DELETE", "PAUSE", "UNPIN")
        ),
        f"$JS.API.CONSUMER.CREATE.{stream}.spy.kf.>",
        f"$JS.API.DIRECT.GET.{stream}",
        f"$JS.API.DIRECT.GET.{stream}.kf.log.0.ctl",
        f"$JS.ACK.{stream}.spy.1.1.1.1.1",
        f"$JS.FC.{stream}.spy.x",
    ]
    async with as_subscriber(server) as (client, refused):
        for subject in requests:
            assert await refused_by_server(client, refused, partial(client.publish, subject, b"{}")), subject


async def test_a_subscriber_changes_nothing(server: NatsNode) -> None:
    requests = [
        *(
            f"$JS.API.STREAM.{what}.{AUDIT}"
            for what in ("DELETE", "PURGE", "UPDATE", "MSG.DELETE", "LEADER.STEPDOWN", "PEER.REMOVE", "SNAPSHOT")
        ),
        *(f"$JS.API.CONSUMER.{what}.{AUDIT}.pull" for what in ("LEADER.STEPDOWN", "PAUSE", "UNPIN")),
        "$JS.API.STREAM.LIST",
        "$JS.API.STREAM.CREATE.OWN",
        "$JS.API.META.LEADER.STEPDOWN",
        "kf.audit.acme.keys",
        *(subjects.bucket_subject(bucket, "x") for bucket in BUCKETS),
        *(subjects.ctl(partition) for partition in range(PARTITIONS)),
        subjects.PLATFORM_CTL,
        subjects.reserve(0, 1),
        "_INBOX.edge.x",
    ]
    async with as_subscriber(server) as (client, refused):
        for subject in requests:
            assert await refused_by_server(client, refused, partial(client.publish, subject, b"{}")), subject


async def test_a_consumer_is_of_the_stream_that_its_subject_names(server: NatsNode) -> None:
    async with as_subscriber(server) as (client, _):
        for subject in (
            f"CONSUMER.CREATE.{AUDIT}.spy",
            f"CONSUMER.CREATE.{AUDIT}",
            f"CONSUMER.DURABLE.CREATE.{AUDIT}.spy",
        ):
            config = {"name": "spy", "durable_name": "spy"} if subject.endswith("spy") else {}
            body = json.dumps({"stream_name": subjects.log_stream(0), "config": {**config, "ack_policy": "none"}})
            reply = json.loads((await client.request(f"$JS.API.{subject}", body.encode(), timeout=ANSWER_S)).data)
            assert "does not match" in reply["error"]["description"], subject


async def test_the_names_of_streams_are_all_that_is_told_of_others(server: NatsNode) -> None:
    async with as_subscriber(server) as (client, refused):
        reply = json.loads((await client.request("$JS.API.STREAM.NAMES", b"", timeout=ANSWER_S)).data)
        assert sorted(reply["streams"]) == sorted(STREAMS)
        totals = json.loads((await client.request("$JS.API.INFO", b"", timeout=ANSWER_S)).data)
        assert totals["streams"] == len(STREAMS)
        assert refused == []


async def test_the_server_replies_where_a_request_says(server: NatsNode) -> None:
    """The known limit in `contracts.permissions`, as docs/subscribe.md has it; if this fails, the server closed it."""
    end = subjects.log_stream(1)
    async with log_as(server, members.ADMIN) as (log, _), as_subscriber(server) as (client, refused):
        before = await log.end(end)
        await client.publish(f"$JS.API.STREAM.INFO.{AUDIT}", b"", reply=subjects.ctl(1))
        await flushed(client)

        async def written() -> bool:
            return await log.end(end) > before

        await until(written)
        assert refused == []
