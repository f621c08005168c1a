"""A client whose server lies, is none, or says what a real one hardly ever does: written by hand, byte by byte."""

import asyncio
import time

import pytest

from keyforge.eventlog.nats.client import NatsClient
from keyforge.eventlog.nats.connection import ClientBounds
from keyforge.eventlog.nats.errors import ClientClosed, ConnectionLost, Disconnected, ReplyTimeout
from tests.contract.nats_hands import INFO, PROMPTLY_S, WITHIN_S, Ear, FakeServer, Messages, Told, faked, open_client


class HangsUp(Ear[int]):
    """Hears that somebody connected, and hangs up."""

    def __init__(self, server: FakeServer) -> None:
        super().__init__()
        self._server = server

    def __call__(self, what: int) -> None:
        super().__call__(what)
        self._server.hang_up()


async def test_one_that_does_not_return_is_closed_when_it_is_lost() -> None:
    told = Told()
    async with faked() as server, open_client([server.url], reconnect=False, report=told) as client:
        waiting = asyncio.ensure_future(client.request("a", b"ask", timeout_s=WITHIN_S))
        await server.until_told(b"ask")
        server.hang_up()
        with pytest.raises(ConnectionLost):
            await waiting
        with pytest.raises(ClientClosed):
            await client.wait_connected(within_s=WITHIN_S)
        assert client.is_closed
        with pytest.raises(ClientClosed):
            client.publish("a", b"")
        assert len(server.connections.all) == 1


async def test_dropped_by_ourselves() -> None:
    told = Told()
    async with faked() as server, open_client([server.url], report=told) as client:
        client.drop("fixture reason")
        with pytest.raises(Disconnected, match="fixture reason"):
            client.publish("a", b"")
        await told.of("reconnected")
        assert told.all[0] == "connection lost: fixture reason"
        assert client.reconnects == 1


@pytest.mark.parametrize(
    ("greeting", "mute"),
    [
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", False, id="HTTP"),
        pytest.param(b"\x15\x03\x03\x00\x02\x02\x50" * 10_000, False, id="no line at all"),
        pytest.param(b"INFO nonsense\r\n", False, id="bad INFO"),
        pytest.param(b"PONG\r\n" * 5, False, id="no INFO"),
        pytest.param(b"", True, id="nothing"),
        pytest.param(INFO, True, id="nothing behind INFO"),
        pytest.param(INFO + b"nonsense\r\n", True, id="nonsense behind INFO"),
        pytest.param(INFO + b"-ERR 'Stale Connection'\r\n", True, id="error behind INFO"),
        pytest.param(INFO + b"MSG a 2 4\r\nfake\r\n", False, id="message before we subscribed"),
    ],
)
async def test_what_is_no_server_is_not_opened(greeting: bytes, mute: bool) -> None:
    heard = Messages()
    async with faked(greeting, mute=mute) as server:
        client = NatsClient([server.url], bounds=ClientBounds(connect_s=0.03, reconnect_pause_s=0.01))
        client.subscribe("a", heard)
        opening = asyncio.ensure_future(client.open())
        await server.connections.until(lambda all_: len(all_) > 2)  # it is tried again
        assert not opening.done()
        opening.cancel()
        await asyncio.wait({opening})
        started = time.monotonic()
        with pytest.raises(Disconnected, match=r"no server at"):
            await client.open(within_s=0.05)
        assert time.monotonic() - started < PROMPTLY_S
        assert heard.all == []
        await client.close()


async def test_one_that_hangs_up_at_once_does_not_take_the_time_of_one_that_hangs() -> None:
    async with faked(b"") as server:
        server.connections = HangsUp(server)
        client = NatsClient([server.url], bounds=ClientBounds(connect_s=WITHIN_S, reconnect_pause_s=0.01))
        opening = asyncio.ensure_future(client.open(within_s=WITHIN_S))
        async with asyncio.timeout(PROMPTLY_S):
            await server.connections.until(lambda all_: len(all_) > 2)
        opening.cancel()
        await asyncio.wait({opening})
        await client.close()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        pytest.param(b"nonsense\r\n", "not of the protocol", id="nonsense"),
        pytest.param(b"MSG a 1 x\r\n", "not a number", id="no number"),
        pytest.param(b"MSG a 2 1\r\nno CRLF", "a message without an end", id="no end"),
        pytest.param(b'INFO {"version":"\xff"}\r\n', "not an INFO", id="bad INFO"),
        pytest.param(b"-ERR 'Slow Consumer'\r\n", "", id="error, then it goes on"),
    ],
)
async def test_a_server_that_says_nonsense_later(said: bytes, why: str) -> None:
    told, heard = Told(), Messages()
    async with faked() as server, open_client([server.url], report=told) as client:
        client.subscribe("a", heard)
        await client.flush(within_s=WITHIN_S)
        server.say(said)
        if why:
            await told.of(f"connection lost: {why}")
            await client.wait_connected(within_s=WITHIN_S)
        else:
            await told.of("Slow Consumer")
        await client.flush(within_s=WITHIN_S)
        server.say(b"MSG a 2 4\r\nfine\r\n")
        await heard.count(1)
        assert heard.data == [b"fine"]
        assert server.told.count(b"SUB a 2\r\n") == client.reconnects + 1 == len(server.connections.all)
        assert client.reconnects == bool(why)


async def test_a_message_that_ends_in_the_next_connection_is_none() -> None:
    heard, told = Messages(), Told()
    async with faked() as server, open_client([server.url], report=told) as client:
        client.subscribe("a", heard)
        await client.flush(within_s=WITHIN_S)
        server.say(b"PING\r\nMSG a 2 4\r\nha")
        await server.until_told(b"PONG\r\n")
        server.hang_up()
        await told.of("reconnected")
        await client.flush(within_s=WITHIN_S)
        server.say(b"MSG a 2 4\r\nfine\r\nMSG gone 99 1\r\nx\r\nMSG a 2 4\r\nalso\r\n")
        await heard.count(2)
        assert heard.data == [b"fine", b"also"]


async def test_the_servers_ping_is_answered() -> None:
    async with faked() as server, open_client([server.url]) as client:
        server.say(b"PING\r\n")
        await client.flush(within_s=WITHIN_S)
        assert server.told.count(b"PONG\r\n") == 1


async def test_a_bound_that_the_server_lowers_holds_from_then_on() -> None:
    async with faked() as server, open_client([server.url]) as client:
        client.publish("a", b"x" * 100)
        server.say(b'INFO {"max_payload":99}\r\n')
        await client.flush(within_s=WITHIN_S)
        with pytest.raises(ValueError, match="at most 99"):
            client.publish("a", b"x" * 100)


async def test_when_it_cannot_be_kept_it_is_closed_and_says_so() -> None:
    told = Told()

    def tell(text: str) -> None:
        told(text)
        if text == "reconnected":
            raise ZeroDivisionError("fixture")

    async with faked() as server, open_client([server.url], report=tell) as client:
        server.hang_up()
        await told.of("connection given up: ZeroDivisionError('fixture')")
        assert client.is_closed
        with pytest.raises(ClientClosed):
            await client.wait_connected(within_s=WITHIN_S)
        with pytest.raises(ClientClosed):
            client.publish("a", b"")
        async with asyncio.timeout(PROMPTLY_S):
            await server.left.wait()  # nor is anything kept that nobody hears


async def test_a_server_that_says_nothing_but_pong_is_not_given_up() -> None:
    told = Told()
    async with (
        faked() as server,
        open_client([server.url], bounds=ClientBounds(ping_interval_s=0.02), report=told) as client,
    ):
        await server.heard.until(lambda _: server.told.count(b"PING\r\n") > 10)
        assert client.reconnects == 0
        assert told.all == []


async def test_each_pong_is_for_the_ping_that_was_first() -> None:
    async with faked() as server, open_client([server.url]) as client:
        server.mute = True
        with pytest.raises(ReplyTimeout):
            await client.flush(within_s=0.05)
        second, third = (asyncio.ensure_future(client.flush(within_s=WITHIN_S)) for _ in range(2))
        server.say(b"PONG\r\nPING\r\n")  # for the one that gave up
        await server.until_told(b"PONG\r\n")
        assert not second.done()
        server.say(b"PONG\r\n")
        await second
        assert not third.done()
        server.say(b"PONG\r\n")
        await third


async def test_one_that_is_closed_while_it_is_opened_stays_closed() -> None:
    async with faked(INFO, mute=True) as server:
        client = NatsClient([server.url])
        opening = asyncio.ensure_future(client.open())
        await server.until_told(b"PING")
        await client.close()
        server.say(b"PONG\r\n")
        with pytest.raises(ClientClosed):
            await opening
        assert client.is_closed
        assert not client.is_connected
