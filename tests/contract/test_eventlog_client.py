"""A client and a server that are both healthy: requests and replies, subscriptions, bounds, the end."""

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest

from keyforge.eventlog.nats.client import NatsClient
from keyforge.eventlog.nats.errors import (
    ClientClosed,
    ConnectionLost,
    Disconnected,
    NoResponders,
    ReplyTimeout,
)
from keyforge.eventlog.nats.protocol import BadSubject, Delivery, TooLarge
from keyforge.testkit.nats_client import NatsServer
from keyforge.testkit.nats_server import NatsNode
from tests.contract.nats_hands import PROMPTLY_S, QUICK, WITHIN_S, Messages, Told, echo, open_client

StartNode = Callable[..., NatsNode]

PAYLOAD_BYTES_MAX = 1024 * 1024
"""A server's, unless it is told otherwise."""
_subjects = itertools.count()


@pytest.fixture
def subject() -> str:
    """One that no other test uses: the server is shared."""
    return f"client.test.{next(_subjects)}"


@asynccontextmanager
async def pair(server: NatsServer) -> AsyncGenerator[tuple[NatsClient, NatsClient]]:
    async with open_client(server.urls) as client, open_client(server.urls) as other:
        yield client, other


async def test_an_answer(nats_node: NatsServer, subject: str) -> None:
    async with pair(nats_node) as (client, other):
        asked = Messages()
        echo(other, subject)
        other.subscribe(subject, asked)
        await other.flush(within_s=WITHIN_S)
        answer = await client.request(subject, b"\r\nPING\r\n", timeout_s=WITHIN_S, headers={"Name": "value"})
        assert (answer.data, answer.head, answer.status()) == (b"you said \r\nPING\r\n", b"", "")
        assert asked.all[0].head == b"NATS/1.0\r\nName: value\r\n\r\n"


async def test_each_ask_gets_its_own_answer_whatever_the_order(nats_node: NatsServer, subject: str) -> None:
    async with pair(nats_node) as (client, other):
        asked = Messages()
        other.subscribe(subject, asked)
        await other.flush(within_s=WITHIN_S)
        asks = [asyncio.ensure_future(client.request(subject, b"%d" % n, timeout_s=WITHIN_S)) for n in range(50)]
        await asked.count(50)
        for each in reversed(asked.all):
            other.publish(each.reply, each.data)
            other.publish(each.reply, b"a second answer, which nobody wants")
        assert [answer.data for answer in await asyncio.gather(*asks)] == [b"%d" % n for n in range(50)]


async def test_no_responders(nats_node: NatsServer, subject: str) -> None:
    async with open_client(nats_node.urls) as client:
        started = time.monotonic()
        with pytest.raises(NoResponders, match=subject):
            await client.request(subject, b"", timeout_s=WITHIN_S)
        assert time.monotonic() - started < PROMPTLY_S


async def test_an_answer_too_late_is_nobodys(nats_node: NatsServer, subject: str) -> None:
    async with pair(nats_node) as (client, other):
        asked = Messages()
        other.subscribe(subject, asked)
        await other.flush(within_s=WITHIN_S)
        with pytest.raises(ReplyTimeout, match=subject):
            await client.request(subject, b"first", timeout_s=0.05)
        second = asyncio.ensure_future(client.request(subject, b"second", timeout_s=WITHIN_S))
        await asked.count(2)
        for each in asked.all:
            other.publish(each.reply, each.data)
        assert (await second).data == b"second"
        assert not client._replies._waiting


async def test_flush_means_that_the_server_knows(nats_node: NatsServer, subject: str) -> None:
    async with pair(nats_node) as (client, other):
        for number in range(200):
            heard = Messages()
            subscription = client.subscribe(f"{subject}.{number}", heard)
            await client.flush(within_s=WITHIN_S)
            other.publish(f"{subject}.{number}", b"%d" % number)
            await other.flush(within_s=WITHIN_S)
            await client.flush(within_s=WITHIN_S)  # its pong comes after everything before it
            assert heard.data == [b"%d" % number]
            subscription.unsubscribe()


async def test_the_end_of_a_subscription(nats_node: NatsServer, subject: str) -> None:
    async with pair(nats_node) as (client, other):
        ended, stays = Messages(), Messages()
        subscription = client.subscribe(subject, ended)
        client.subscribe(subject, stays)
        await client.flush(within_s=WITHIN_S)
        other.publish(subject, b"before")
        await stays.count(1)
        subscription.unsubscribe()
        subscription.unsubscribe()
        await client.flush(within_s=WITHIN_S)
        other.publish(subject, b"behind")
        await stays.count(2)
        assert ended.data == [b"before"]


async def test_one_that_ends_itself_hears_nothing_more_of_what_came_together(
    nats_node: NatsServer, subject: str
) -> None:
    async with open_client(nats_node.urls) as client:
        heard, last = Messages(), Messages()

        def once(delivery: Delivery) -> None:
            heard(delivery)
            subscription.unsubscribe()

        subscription = client.subscribe(subject, once)
        client.subscribe(f"{subject}.last", last)
        for number in range(10):
            client.publish(subject, b"%d" % number)
        client.publish(f"{subject}.last", b"")
        await last.count(1)
        assert heard.data == [b"0"]


async def test_one_that_fails_to_hear_does_not_end_it_for_others(nats_node: NatsServer, subject: str) -> None:
    told, heard = Told(), Messages()

    def fail(_delivery: object) -> None:
        raise ZeroDivisionError("fixture")

    async with open_client(nats_node.urls, report=told) as client:
        client.subscribe(subject, fail)
        client.subscribe(subject, heard)
        for _ in range(3):
            client.publish(subject, b"x")
        await heard.count(3)
        assert told.all == [f"ZeroDivisionError in the subscriber of {subject}: fixture"] * 3
        assert client.is_connected
        assert client.reconnects == 0


async def test_what_is_over_the_servers_bound_is_not_sent(nats_node: NatsServer, subject: str) -> None:
    async with open_client(nats_node.urls) as client:
        heard = Messages()
        client.subscribe(subject, heard)
        with pytest.raises(TooLarge):
            client.publish(subject, b"x" * (PAYLOAD_BYTES_MAX + 1))
        with pytest.raises(TooLarge):
            client.publish(subject, b"x" * PAYLOAD_BYTES_MAX, headers={"a": "b"})
        with pytest.raises(TooLarge):
            await client.request(subject, b"x" * (PAYLOAD_BYTES_MAX + 1), timeout_s=WITHIN_S)
        with pytest.raises(BadSubject):
            client.publish(f"{subject}\r\nPING", b"")
        with pytest.raises(BadSubject):
            client.subscribe("", heard)
        client.publish(subject, b"x" * PAYLOAD_BYTES_MAX)
        await heard.count(1)
        assert heard.data == [b"x" * PAYLOAD_BYTES_MAX]
        assert client.reconnects == 0


async def test_the_end_of_a_client(nats_node: NatsServer, subject: str) -> None:
    async with open_client(nats_node.urls) as other:
        asked, told = Messages(), Told()
        other.subscribe(subject, asked)
        await other.flush(within_s=WITHIN_S)
        client = NatsClient(nats_node.urls, bounds=QUICK, report=told)
        await client.open()
        waiting = asyncio.ensure_future(client.request(subject, b"ask", timeout_s=WITHIN_S))
        await asked.count(1)
        for _ in range(100):
            client.publish(subject, b"x" * 100_000)
        started = time.monotonic()
        await client.close()
        with pytest.raises(ConnectionLost, match="closed"):
            await waiting
        await client.close()
        assert time.monotonic() - started < PROMPTLY_S
        await asked.count(101)  # what was said just before is sent
        assert client.is_closed
        assert not client.is_connected
        with pytest.raises(ClientClosed):
            client.publish(subject, b"")
        with pytest.raises(ClientClosed):
            await client.request(subject, b"", timeout_s=WITHIN_S)
        with pytest.raises(ClientClosed):
            await client.wait_connected(within_s=WITHIN_S)
        with pytest.raises(Disconnected):
            await client.flush(within_s=WITHIN_S)
        assert told.all == []


async def test_a_pong_that_is_waited_for_at_the_end_is_lost(nats_own: StartNode) -> None:
    node = nats_own()
    async with open_client(node.urls) as client:
        node.pause()
        waiting = asyncio.ensure_future(client.flush(within_s=WITHIN_S))
        await asyncio.sleep(0)  # it has begun
        await client.close()
        with pytest.raises(ConnectionLost):
            await waiting


async def test_a_drained_subscription_gets_what_was_sent_to_it_and_then_nobody_answers(
    nats_node: NatsServer, subject: str
) -> None:
    async with pair(nats_node) as (client, other):
        received: list[bytes] = []

        def answer(message: Delivery) -> None:
            received.append(message.data)
            other.publish(message.reply, b"")

        listening = other.subscribe(subject, answer)
        await other.flush(within_s=WITHIN_S)
        asks = [asyncio.ensure_future(client.request(subject, b"%d" % n, timeout_s=WITHIN_S)) for n in range(200)]
        await asyncio.sleep(0)  # each of them has begun: a flush sends its PING at once
        await client.flush(within_s=WITHIN_S)  # the server has them; the subscriber has had no turn to read
        await other.drain(listening, within_s=WITHIN_S)
        await asyncio.gather(*asks)
        assert received == [b"%d" % n for n in range(200)]
        with pytest.raises(NoResponders):
            await client.request(subject, b"", timeout_s=WITHIN_S)
        await other.drain(listening, within_s=WITHIN_S)
