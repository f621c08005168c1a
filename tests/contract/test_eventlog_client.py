"""A link and a server that are both well: asks and answers, subscriptions, users, bounds, the end."""

import asyncio
import itertools
import time
import traceback
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from keyforge.eventlog.nats.client import Link
from keyforge.eventlog.nats.errors import AnswerLate, LinkClosed, LinkDown, LinkLost, LinkRefused, NobodyListens
from keyforge.eventlog.nats.protocol import BadSubject, Delivery, TooLarge
from keyforge.testkit.nats_client import NatsServer
from keyforge.testkit.nats_server import NatsNode
from keyforge.testkit.ports import free_ports
from tests.contract.nats_hands import PROMPTLY_S, QUICK, WITHIN_S, Messages, Told, echo, linked

StartNode = Callable[..., NatsNode]

PAYLOAD_BYTES_MAX = 1024 * 1024
"""A server's, unless it is told otherwise."""
USERS = """
some = ["fine.>", "mine.>"]
authorization { users = [
  { user: all, password: fixture-all },
  { user: some, password: fixture-some, permissions: { publish: $some, subscribe: $some } }
] }
"""
_subjects = itertools.count()


@pytest.fixture(scope="module")
def with_users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsNode]:
    node = NatsNode(tmp_path_factory.mktemp("users"), extra=USERS)
    node.start()
    try:
        yield node
    finally:
        node.stop()


@pytest.fixture
def subject() -> str:
    """One that no other test uses: the server is shared."""
    return f"link.test.{next(_subjects)}"


@asynccontextmanager
async def pair(server: NatsServer) -> AsyncGenerator[tuple[Link, Link]]:
    async with linked(server.urls) as link, linked(server.urls) as other:
        yield link, other


async def test_an_answer(nats_node: NatsServer, subject: str) -> None:
    async with pair(nats_node) as (link, other):
        asked = Messages()
        echo(other, subject)
        other.subscribe(subject, asked)
        await other.heard(within_s=WITHIN_S)
        answer = await link.ask(subject, b"\r\nPING\r\n", timeout_s=WITHIN_S, headers={"Name": "value"})
        assert (answer.data, answer.head, answer.status()) == (b"you said \r\nPING\r\n", b"", "")
        assert asked.all[0].head == b"NATS/1.0\r\nName: value\r\n\r\n"


async def test_each_ask_gets_its_own_answer_whatever_the_order(nats_node: NatsServer, subject: str) -> None:
    async with pair(nats_node) as (link, other):
        asked = Messages()
        other.subscribe(subject, asked)
        await other.heard(within_s=WITHIN_S)
        asks = [asyncio.ensure_future(link.ask(subject, b"%d" % n, timeout_s=WITHIN_S)) for n in range(50)]
        await asked.count(50)
        for each in reversed(asked.all):
            other.publish(each.reply, each.data)
            other.publish(each.reply, b"a second answer, which nobody wants")
        assert [answer.data for answer in await asyncio.gather(*asks)] == [b"%d" % n for n in range(50)]


async def test_nobody_listens(nats_node: NatsServer, subject: str) -> None:
    async with linked(nats_node.urls) as link:
        started = time.monotonic()
        with pytest.raises(NobodyListens, match=subject):
            await link.ask(subject, b"", timeout_s=WITHIN_S)
        assert time.monotonic() - started < PROMPTLY_S


async def test_an_answer_too_late_is_nobodys(nats_node: NatsServer, subject: str) -> None:
    async with pair(nats_node) as (link, other):
        asked = Messages()
        other.subscribe(subject, asked)
        await other.heard(within_s=WITHIN_S)
        with pytest.raises(AnswerLate, match=subject):
            await link.ask(subject, b"first", timeout_s=0.05)
        second = asyncio.ensure_future(link.ask(subject, b"second", timeout_s=WITHIN_S))
        await asked.count(2)
        for each in asked.all:
            other.publish(each.reply, each.data)
        assert (await second).data == b"second"
        assert not link._waiting


async def test_heard_means_that_the_server_knows(nats_node: NatsServer, subject: str) -> None:
    async with pair(nats_node) as (link, other):
        for number in range(200):
            heard = Messages()
            subscription = link.subscribe(f"{subject}.{number}", heard)
            await link.heard(within_s=WITHIN_S)
            other.publish(f"{subject}.{number}", b"%d" % number)
            await other.heard(within_s=WITHIN_S)
            await link.heard(within_s=WITHIN_S)  # its pong is behind what came before
            assert heard.data == [b"%d" % number]
            subscription.end()


async def test_the_end_of_a_subscription(nats_node: NatsServer, subject: str) -> None:
    async with pair(nats_node) as (link, other):
        ended, stays = Messages(), Messages()
        subscription = link.subscribe(subject, ended)
        link.subscribe(subject, stays)
        await link.heard(within_s=WITHIN_S)
        other.publish(subject, b"before")
        await stays.count(1)
        subscription.end()
        subscription.end()
        await link.heard(within_s=WITHIN_S)
        other.publish(subject, b"behind")
        await stays.count(2)
        assert ended.data == [b"before"]


async def test_one_that_ends_itself_hears_nothing_more_of_what_came_together(
    nats_node: NatsServer, subject: str
) -> None:
    async with linked(nats_node.urls) as link:
        heard, last = Messages(), Messages()

        def once(delivery: Delivery) -> None:
            heard(delivery)
            subscription.end()

        subscription = link.subscribe(subject, once)
        link.subscribe(f"{subject}.last", last)
        for number in range(10):
            link.publish(subject, b"%d" % number)
        link.publish(f"{subject}.last", b"")
        await last.count(1)
        assert heard.data == [b"0"]


async def test_one_that_fails_to_hear_does_not_end_it_for_others(nats_node: NatsServer, subject: str) -> None:
    told, heard = Told(), Messages()

    def fail(_delivery: object) -> None:
        raise ZeroDivisionError("fixture")

    async with linked(nats_node.urls, tell=told) as link:
        link.subscribe(subject, fail)
        link.subscribe(subject, heard)
        for _ in range(3):
            link.publish(subject, b"x")
        await heard.count(3)
        assert told.all == [f"ZeroDivisionError while hearing {subject}: fixture"] * 3
        assert link.is_connected
        assert link.comebacks == 0


async def test_what_is_over_the_servers_bound_is_not_sent(nats_node: NatsServer, subject: str) -> None:
    async with linked(nats_node.urls) as link:
        heard = Messages()
        link.subscribe(subject, heard)
        with pytest.raises(TooLarge):
            link.publish(subject, b"x" * (PAYLOAD_BYTES_MAX + 1))
        with pytest.raises(TooLarge):
            link.publish(subject, b"x" * PAYLOAD_BYTES_MAX, headers={"a": "b"})
        with pytest.raises(TooLarge):
            await link.ask(subject, b"x" * (PAYLOAD_BYTES_MAX + 1), timeout_s=WITHIN_S)
        with pytest.raises(BadSubject):
            link.publish(f"{subject}\r\nPING", b"")
        with pytest.raises(BadSubject):
            link.subscribe("", heard)
        link.publish(subject, b"x" * PAYLOAD_BYTES_MAX)
        await heard.count(1)
        assert heard.data == [b"x" * PAYLOAD_BYTES_MAX]
        assert link.comebacks == 0


@pytest.mark.parametrize(
    ("user", "password"),
    [("all", "fixture-wrong"), ("nobody", "fixture-all"), ("", "")],
    ids=["password", "user", "none"],
)
async def test_whoever_is_not_let_in_hears_it_at_once(with_users: NatsNode, user: str, password: str) -> None:
    link = Link(with_users.urls, user=user, password=password, bounds=QUICK)
    started = time.monotonic()
    with pytest.raises(LinkRefused, match="Authorization") as caught:
        await link.open(within_s=WITHIN_S)
    assert time.monotonic() - started < PROMPTLY_S
    assert "fixture" not in str(caught.value)
    await link.close()


async def test_a_user_in_the_address_counts_more(with_users: NatsNode) -> None:
    url = f"nats://all:fixture%2Dall@127.0.0.1:{with_users.port}"
    async with linked([url], user="all", password="fixture-wrong") as link:
        await link.heard(within_s=WITHIN_S)


async def test_what_a_user_may_not_is_told_and_the_link_goes_on(with_users: NatsNode) -> None:
    told, heard = Told(), Messages()
    async with (
        linked(with_users.urls, user="all", password="fixture-all") as other,
        linked(with_users.urls, user="some", password="fixture-some", inbox_prefix="mine", tell=told) as link,
    ):
        echo(other, "fine.echo")
        other.subscribe("secret", heard)
        await other.heard(within_s=WITHIN_S)
        link.publish("secret", b"x")
        await told.of('Permissions Violation for Publish to "secret"')
        link.subscribe("secret", heard)
        await told.of('Permissions Violation for Subscription to "secret"')
        answer = await link.ask("fine.echo", b"still here", timeout_s=WITHIN_S)
        assert answer.data == b"you said still here"
        await other.heard(within_s=WITHIN_S)
        assert heard.data == []
        assert link.comebacks == 0


async def test_no_server() -> None:
    link = Link([f"nats://127.0.0.1:{free_ports(1)[0]}"], bounds=QUICK)
    with pytest.raises(LinkDown, match=r"no server at 127\.0\.0\.1:[0-9]+ within 0\.2 s"):
        await link.open(within_s=0.2)
    with pytest.raises(LinkDown):
        await link.up(within_s=0.01)
    with pytest.raises(LinkDown):
        await link.heard(within_s=WITHIN_S)
    await link.close()


async def test_two_servers_of_which_one_is_dead(nats_node: NatsServer) -> None:
    dead = f"nats://127.0.0.1:{free_ports(1)[0]}"
    for _ in range(8):  # the order is by chance
        async with linked([dead, *nats_node.urls]) as link:
            await link.heard(within_s=WITHIN_S)


@pytest.mark.parametrize(
    "url", ["", "http://localhost:1", "nats://", "nats://:4222", "nats://h:99999", "nats://u:fix/ture@h"]
)
async def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ValueError, match="not the address") as caught:
        Link(["nats://localhost", url])
    assert "fix" not in "".join(traceback.format_exception(caught.value, chain=True))


async def test_the_end_of_a_link(nats_node: NatsServer, subject: str) -> None:
    async with linked(nats_node.urls) as other:
        asked, told = Messages(), Told()
        other.subscribe(subject, asked)
        await other.heard(within_s=WITHIN_S)
        link = Link(nats_node.urls, bounds=QUICK, tell=told)
        await link.open()
        waiting = asyncio.ensure_future(link.ask(subject, b"ask", timeout_s=WITHIN_S))
        await asked.count(1)
        for _ in range(100):
            link.publish(subject, b"x" * 100_000)
        started = time.monotonic()
        await link.close()
        with pytest.raises(LinkLost, match="closed"):
            await waiting
        await link.close()
        assert time.monotonic() - started < PROMPTLY_S
        await asked.count(101)  # what was said just before is sent
        assert link.is_closed
        assert not link.is_connected
        with pytest.raises(LinkClosed):
            link.publish(subject, b"")
        with pytest.raises(LinkClosed):
            await link.ask(subject, b"", timeout_s=WITHIN_S)
        with pytest.raises(LinkClosed):
            await link.up(within_s=WITHIN_S)
        with pytest.raises(LinkDown):
            await link.heard(within_s=WITHIN_S)
        assert told.all == []


async def test_a_pong_that_is_waited_for_at_the_end_is_lost(nats_own: StartNode) -> None:
    node = nats_own()
    async with linked(node.urls) as link:
        node.pause()
        waiting = asyncio.ensure_future(link.heard(within_s=WITHIN_S))
        await asyncio.sleep(0)  # it has begun
        await link.close()
        with pytest.raises(LinkLost):
            await waiting
