"""A client whose server dies or hangs: it comes back, says so, and keeps nothing for later."""

import asyncio
import time
from collections.abc import Callable

import pytest

from keyforge.eventlog.nats.client import NatsClient
from keyforge.eventlog.nats.connection import ClientBounds
from keyforge.eventlog.nats.errors import BufferFull, ConnectionLost, Disconnected, ReplyTimeout
from keyforge.testkit.nats_server import NatsNode
from tests.contract.nats_hands import PROMPTLY_S, WITHIN_S, Messages, Told, echo, fill, open_client

StartNode = Callable[..., NatsNode]

KNOCKING = ClientBounds(connect_s=0.3, reconnect_pause_s=0.02, ping_interval_s=0.2)
NARROW = ClientBounds(connect_s=0.3, reconnect_pause_s=0.02, pending_bytes_max=1_000_000, close_s=0.2)


async def test_a_server_that_dies_and_comes_back(nats_own: StartNode) -> None:
    node = nats_own()
    told, told_other, heard, stays = Told(), Told(), Messages(), Messages()
    async with open_client(node.urls, report=told) as client, open_client(node.urls, report=told_other) as other:
        ended = client.subscribe("a", heard)
        client.subscribe("a", heard)
        other.subscribe("silent", stays)
        await other.flush(within_s=WITHIN_S)
        asks = [asyncio.ensure_future(client.request("silent", b"", timeout_s=WITHIN_S)) for _ in range(3)]
        await stays.count(3)
        node.kill()
        started = time.monotonic()
        for ask in asks:
            with pytest.raises(ConnectionLost):
                await ask
        assert time.monotonic() - started < PROMPTLY_S
        await told.of("connection lost")
        assert not client.is_connected
        ended.unsubscribe()
        client.subscribe("b", heard)
        for _ in range(3):
            with pytest.raises(Disconnected):
                client.publish("a", b"said while it was away")
        with pytest.raises(Disconnected):
            await client.request("a", b"asked while it was away", timeout_s=WITHIN_S)
        node.start()
        await client.wait_connected(within_s=WITHIN_S)
        await other.wait_connected(within_s=WITHIN_S)
        await client.flush(within_s=WITHIN_S)
        other.publish("a", b"back")
        other.publish("b", b"back as well")
        await heard.count(2)
        assert heard.data == [b"back", b"back as well"]  # once each, and nothing of before
        echo(other, "echo")
        await other.flush(within_s=WITHIN_S)
        assert (await client.request("echo", b"x", timeout_s=WITHIN_S)).data == b"you said x"
        assert (client.reconnects, other.reconnects) == (1, 1)
        assert told.all[-1] == "reconnected"


async def test_a_server_that_hangs_is_given_up_and_found_again(nats_own: StartNode) -> None:
    node = nats_own()
    told, heard = Told(), Messages()
    async with open_client(node.urls, bounds=KNOCKING, report=told) as client:
        client.subscribe("a", heard)
        await client.flush(within_s=WITHIN_S)
        waiting = asyncio.ensure_future(client.request("a", b"", timeout_s=WITHIN_S))
        await heard.count(1)
        node.pause()
        started = time.monotonic()
        with pytest.raises(ConnectionLost, match="is silent"):
            await waiting
        assert time.monotonic() - started < PROMPTLY_S
        await told.of("connection lost: the server is silent")
        node.resume()
        await client.wait_connected(within_s=WITHIN_S)
        await client.flush(within_s=WITHIN_S)
        client.publish("a", b"back")
        await heard.count(2)
        assert client.reconnects == 1


async def test_too_much_that_waits_is_refused_and_nothing_hangs(nats_own: StartNode) -> None:
    node = nats_own()
    told, heard = Told(), Messages()
    async with open_client(node.urls, bounds=NARROW, report=told) as client:
        client.subscribe("a", heard)
        await client.flush(within_s=WITHIN_S)
        node.pause()
        started = time.monotonic()
        with pytest.raises(BufferFull, match="more than 1000000 bytes"):
            await fill(client)
        with pytest.raises(BufferFull):
            await client.request("a", b"", timeout_s=WITHIN_S)
        with pytest.raises(BufferFull):
            await client.flush(within_s=WITHIN_S)
        client.subscribe("b", heard)  # the server must not miss it: another connection
        await told.of("connection lost: more than 1000000 bytes")
        assert time.monotonic() - started < PROMPTLY_S
        node.resume()
        await client.wait_connected(within_s=WITHIN_S)
        await client.flush(within_s=WITHIN_S)
        client.publish("b", b"back")
        await heard.until(lambda all_: b"back" in {each.data for each in all_})


async def test_closing_does_not_wait_for_a_server_that_hangs(nats_own: StartNode) -> None:
    node = nats_own()
    client = NatsClient(node.urls, bounds=NARROW)
    await client.open()
    node.pause()
    with pytest.raises(BufferFull):
        await fill(client)
    started = time.monotonic()
    await client.close()
    assert NARROW.close_s / 2 < time.monotonic() - started < PROMPTLY_S


async def test_no_pong_in_time(nats_own: StartNode) -> None:
    node = nats_own()
    async with open_client(node.urls) as client:
        node.pause()
        with pytest.raises(ReplyTimeout):
            await client.flush(within_s=0.05)
        node.resume()
        await client.flush(within_s=WITHIN_S)  # and is not taken in by the pong of the first
        assert not client._connection or not client._connection._pongs


async def test_refused_at_a_comeback_is_tried_again(nats_own: StartNode) -> None:
    """An operator who changes a password changes it on both sides, one after the other."""
    user = 'authorization { user: it, password: "fixture-%s" }'
    node = nats_own(extra=user % "right")
    told = Told()
    async with open_client(node.urls, user="it", password="fixture-right", report=told) as client:
        node.kill()
        node._extra = user % "wrong"
        node.start()
        await told.of("Authorization Violation", 2)
        node.kill()
        node._extra = user % "right"
        node.start()
        await client.wait_connected(within_s=WITHIN_S)
        await client.flush(within_s=WITHIN_S)
        assert client.reconnects == 1
