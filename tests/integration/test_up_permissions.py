"""Each NATS user can do what its service does, and is refused what is another's: asked of a real server."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import TimeoutError as NatsTimeoutError

from keyforge.contracts import members, meta, subjects
from keyforge.contracts.ids import EdgeId
from keyforge.contracts.meta import FORMAT, Meta
from keyforge.contracts.subjects import inbox_prefix
from keyforge.embedded import nats_config
from keyforge.embedded.declare import declare
from keyforge.embedded.errors import StackError
from keyforge.embedded.sizes import LogSize
from keyforge.eventlog.jetstream import JetStreamLog
from keyforge.eventlog.nats.client import NatsClient
from keyforge.testkit.nats_client import flushed
from keyforge.testkit.nats_server import NatsNode
from tests.integration.audit_stack import PARTITIONS, server_with_users

ANSWER_S = 30.0
SILENCE_S = 0.3
TOLD_WITHIN_TURNS = 100
TURN_S = 0.001

LOGS = [subjects.log_stream(0), subjects.log_stream(1)]
BUCKETS = [
    subjects.DIRECTORY_BUCKET,
    subjects.TOKENS_BUCKET,
    subjects.PROVIDERS_BUCKET,
    subjects.PRICES_BUCKET,
    subjects.CREDENTIALS_BUCKET,
    subjects.LEASES_BUCKET,
    subjects.TENANT_SECRETS_BUCKET,
    subjects.META_BUCKET,
    subjects.AUDIT_POSITION_BUCKET,
]
META = subjects.bucket_stream(subjects.META_BUCKET)
TENANT_SECRETS = subjects.bucket_stream(subjects.TENANT_SECRETS_BUCKET)
STREAMS = [*LOGS, subjects.PLATFORM_STREAM, subjects.AUDIT_STREAM, *map(subjects.bucket_stream, BUCKETS)]

SAYS = {
    members.KEYS: [subjects.ctl(0), subjects.ctl(1), subjects.PLATFORM_CTL],
    members.BUDGET: [subjects.adm(0), subjects.adm(1), subjects.ctl(0), subjects.ctl(1)],
    members.AUDIT: ["kf.audit.acme.keys", "kf.audit.acme.tenant"],
    members.EDGE: [subjects.use(0, EdgeId("edge-0")), subjects.use(1, EdgeId("edge-7"))],
    members.TAIL: [],
}
READS = {
    members.KEYS: [
        *LOGS,
        subjects.PLATFORM_STREAM,
        *map(subjects.bucket_stream, BUCKETS[:5]),
        TENANT_SECRETS,
        META,
    ],
    members.BUDGET: [*LOGS, *map(subjects.bucket_stream, (subjects.LEASES_BUCKET, subjects.TOKENS_BUCKET)), META],
    members.AUDIT: [
        *LOGS,
        subjects.PLATFORM_STREAM,
        subjects.bucket_stream(subjects.TOKENS_BUCKET),
        subjects.bucket_stream(subjects.AUDIT_POSITION_BUCKET),
        TENANT_SECRETS,
        META,
    ],
    members.EDGE: [
        *LOGS,
        *map(subjects.bucket_stream, set(BUCKETS) - {subjects.TOKENS_BUCKET, subjects.AUDIT_POSITION_BUCKET}),
    ],
    members.TAIL: [subjects.AUDIT_STREAM],
}
WRITES = {
    members.KEYS: [*BUCKETS[:5], subjects.TENANT_SECRETS_BUCKET],
    members.BUDGET: [subjects.LEASES_BUCKET],
    members.AUDIT: [subjects.AUDIT_POSITION_BUCKET],
    members.EDGE: [],
    members.TAIL: [],
}
SERVICES = sorted(SAYS)
SIZE = LogSize(256 * 1024 * 1024)
MADE_WITH = Meta(
    audit_master_key="00", commitment_secret="11", edge_key="22", format=FORMAT, key_secret="33", partitions=PARTITIONS
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsNode]:
    with declared_with_users(tmp_path_factory.mktemp("users")) as node:
        yield node


@contextmanager
def declared_with_users(folder: Path) -> Iterator[NatsNode]:
    """A server with the real users, declared as `keyforge up` does it."""
    with server_with_users(folder) as node:
        password = f"fixture-{members.ADMIN}"
        made = declare(node.url, user=members.ADMIN, password=password, made_with=MADE_WITH, replicas=1, size=SIZE)
        asyncio.run(made)
        yield node


@asynccontextmanager
async def as_user(server: NatsNode, user: str) -> AsyncIterator[tuple[Client, list[str]]]:
    """Connect as `user`; yields the connection and what the server refused so far."""
    refused: list[str] = []

    async def on_error(error: Exception) -> None:
        refused.append(str(error))

    client = await nats.connect(
        server.url,
        user=user,
        password=f"fixture-{user}",
        inbox_prefix=inbox_prefix(user).encode(),
        allow_reconnect=False,
        error_cb=on_error,
    )
    try:
        yield client, refused
    finally:
        await client.close()


@asynccontextmanager
async def log_as(server: NatsNode, user: str) -> AsyncIterator[tuple[JetStreamLog, list[str]]]:
    """The log as `user` sees it; yields what the client was told so far as well."""
    told: list[str] = []
    client = NatsClient(
        [server.url], user=user, password=f"fixture-{user}", inbox_prefix=inbox_prefix(user), report=told.append
    )
    await client.open(within_s=ANSWER_S)
    try:
        yield JetStreamLog(client), told
    finally:
        await client.close()


async def refused_by_server(client: Client, refused: list[str], act: Callable[[], Awaitable[object]]) -> bool:
    """Say whether the server refused `act`: its error is sent before the pong, and told to us a moment later."""
    before = len(refused)
    await act()
    await flushed(client)
    for _ in range(TOLD_WITHIN_TURNS):
        if len(refused) > before:
            return True
        await asyncio.sleep(TURN_S)
    return False


@pytest.mark.parametrize("user", SERVICES)
async def test_each_says_its_own_and_nothing_else(server: NatsNode, user: str) -> None:
    everything = sorted({subject for said in SAYS.values() for subject in said} | {"kf.log.0", "kf.other"})
    async with as_user(server, user) as (client, refused), log_as(server, user) as (log, _):
        for subject in SAYS[user]:
            assert type(await log.append(subject, b"x")).__name__ == "Appended"
        for subject in set(everything) - set(SAYS[user]):
            assert await refused_by_server(client, refused, partial(client.publish, subject, b"x")), subject


@pytest.mark.parametrize("user", SERVICES)
async def test_each_reads_its_own_and_nothing_else(server: NatsNode, user: str) -> None:
    async with as_user(server, members.ADMIN) as (admin, _), log_as(server, members.ADMIN) as (everything, _):
        for subject in ("kf.audit.t.k", subjects.PLATFORM_CTL, *map(subjects.ctl, range(PARTITIONS))):
            await everything.append(subject, b"x")
        for bucket in BUCKETS:
            await (await admin.jetstream().key_value(bucket)).put("entry", b"x")
    async with as_user(server, user) as (client, refused), log_as(server, user) as (log, told):
        for stream in READS[user]:
            async with asyncio.timeout(ANSWER_S):
                reading = log.read(stream, forgets=True)
                first = (await anext(reading))[0].data
                assert first == (meta.encode(MADE_WITH) if stream == META else b"x")
                await reading.aclose()
                assert (await log.state(stream)).last > 0
        assert told == []
        for stream in set(STREAMS) - set(READS[user]):
            for request in (
                f"CONSUMER.CREATE.{stream}.spy",
                f"CONSUMER.MSG.NEXT.{stream}.spy",
                f"STREAM.MSG.GET.{stream}",
                f"DIRECT.GET.{stream}",
            ):
                subject = f"$JS.API.{request}"
                assert await refused_by_server(client, refused, partial(client.publish, subject, b"{}")), subject


@pytest.mark.parametrize("user", SERVICES)
async def test_each_writes_its_own_buckets_and_nothing_else(server: NatsNode, user: str) -> None:
    async with as_user(server, user) as (client, refused):
        for bucket in WRITES[user]:
            store = await client.jetstream().key_value(bucket)
            revision = await store.put("written", b"x")
            assert await store.update("written", b"y", last=revision) > revision
            await store.delete("written")
        assert refused == []
        for bucket in set(BUCKETS) - set(WRITES[user]):
            subject = subjects.bucket_subject(bucket, "written")
            assert await refused_by_server(client, refused, partial(client.publish, subject, b"x")), subject


@pytest.mark.parametrize("user", SERVICES)
@pytest.mark.parametrize("request_", ["CREATE", "UPDATE", "DELETE", "PURGE", "MSG.DELETE", "RESTORE", "SNAPSHOT"])
async def test_nobody_but_admin_changes_a_stream(server: NatsNode, user: str, request_: str) -> None:
    async with as_user(server, user) as (client, refused):
        for stream in STREAMS:
            subject = f"$JS.API.STREAM.{request_}.{stream}"
            assert await refused_by_server(client, refused, partial(client.publish, subject, b"{}")), subject


@pytest.mark.parametrize("user", SERVICES)
async def test_nobody_hears_replies_to_another(server: NatsNode, user: str) -> None:
    """A subscriber's `_INBOX.>` is another matter: tests/integration/test_subscriber_permissions.py."""
    other = next(name for name in SERVICES if name != user)
    everywhere = ("_INBOX.>",) if user != members.TAIL else ()
    async with as_user(server, user) as (client, refused):
        for subject in (*everywhere, f"_INBOX.{other}.>", "kf.log.>", "kf.platform.>", "$KV.>", ">"):
            assert await refused_by_server(client, refused, partial(client.subscribe, subject)), subject


async def test_audit_asks_for_the_state_of_its_stream_alone(server: NatsNode) -> None:
    async with log_as(server, members.AUDIT) as (log, told):
        assert (await log.state(subjects.AUDIT_STREAM)).created
    assert told == []


async def test_edge_asks_and_budget_alone_answers(server: NatsNode) -> None:
    async with as_user(server, members.BUDGET) as (budget, _), as_user(server, members.EDGE) as (edge, _):

        async def answer(message: Msg) -> None:
            await message.respond(b"yes")

        await budget.subscribe(subjects.reserve(0, 1), cb=answer)
        await flushed(budget)
        reply = await edge.request(subjects.reserve(0, 1), b"?", timeout=ANSWER_S)
        assert reply.data == b"yes"

        inbox = edge.new_inbox()
        listening = await edge.subscribe(inbox)
        await flushed(edge)
        await budget.publish(inbox, b"nobody asked")
        await flushed(budget)
        with pytest.raises(NatsTimeoutError):
            await listening.next_msg(timeout=SILENCE_S)


async def test_only_edge_reserves_and_only_budget_hears(server: NatsNode) -> None:
    for user in SERVICES:
        async with as_user(server, user) as (client, refused):
            subject = subjects.reserve(0, 1)
            assert await refused_by_server(client, refused, partial(client.publish, subject, b"?")) == (
                user != members.EDGE
            )
            assert await refused_by_server(client, refused, partial(client.subscribe, subject)) == (
                user != members.BUDGET
            )


async def test_what_a_consumer_delivers_into_another_log_keeps_its_subject(server: NatsNode) -> None:
    """The server asks nobody whether a reader may publish where it lets things be delivered; folds judge by subject."""
    own = subjects.use(0, EdgeId("edge-0"))
    stream, create = subjects.log_stream(0), f"$JS.API.CONSUMER.CREATE.{subjects.log_stream(0)}.deputy"
    config = {"name": "deputy", "ack_policy": "none", "filter_subject": own}
    async with as_user(server, members.EDGE) as (edge, _), log_as(server, members.EDGE) as (log, _):
        await log.append(own, b"a forged admission")
        await edge.request(create, json.dumps({"stream_name": stream, "config": config}).encode(), timeout=ANSWER_S)
        pull = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.deputy"
        await edge.publish(pull, b'{"batch": 100, "no_wait": true}', reply=subjects.adm(1))
        await flushed(edge)
    async with log_as(server, members.ADMIN) as (everything, _):
        last = await everything.last(subjects.log_stream(1), subjects.adm(1))
        assert last is None or last.data != b"a forged admission"


async def test_nobody_gets_in_without_the_right_password(server: NatsNode, tmp_path: Path) -> None:
    with pytest.raises(StackError, match="refuses user admin"):
        await declare(server.url, user="admin", password="fixture-wrong", made_with=MADE_WITH, replicas=1, size=SIZE)


def test_the_file_for_containers_holds_no_password() -> None:
    text = nats_config.container(PARTITIONS)
    assert all(f"password: $KEYFORGE_NATS_PASSWORD_{user.upper()}," in text for user in members.USERS)
