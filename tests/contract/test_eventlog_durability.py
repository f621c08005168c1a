"""Which servers a log may rest on: a majority says that it syncs, none says otherwise, silence is asked again."""

import asyncio
import logging
from collections.abc import Callable

import pytest

from keyforge.eventlog import durability
from keyforge.eventlog.durability import Durability, NotDurable
from keyforge.testkit.nats_client import until
from keyforge.testkit.nats_server import NatsNode
from keyforge.testkit.ports import free_ports

StartNode = Callable[..., NatsNode]

PROMPTLY_S = 20.0
RELAXED = '"2m"'
"""A `sync_interval` of a server that acknowledges first."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durability, "START_PAUSE_S", 0.05)
    monkeypatch.setattr(durability, "WATCH_PAUSE_S", 0.05)


def nobody() -> str:
    """A monitoring URL that nobody answers at."""
    return f"http://127.0.0.1:{free_ports(1)[0]}"


class Told(list[str]):
    """What was reported."""

    def about(self, *parts: str) -> bool:
        return any(all(part in line for part in parts) for line in self)


async def test_one_server_that_syncs(nats_node: NatsNode) -> None:
    told = Told()
    asked = Durability(nats_node.monitor_urls, told.append)
    async with asyncio.timeout(PROMPTLY_S):
        await asked.established()
    assert (told, asked.wrong) == ([], "")


async def test_a_server_that_says_otherwise_is_refused_by_name_whatever_the_others_say(
    nats_node: NatsNode, nats_own: StartNode
) -> None:
    bad = nats_own(sync_interval=RELAXED)
    good = nats_node.monitor_url
    for urls in ([bad.monitor_url], [good, bad.monitor_url], [nobody(), nobody(), bad.monitor_url]):
        asked = Durability(urls, Told().append)
        with pytest.raises(NotDurable, match=r"own1 at .* runs without `jetstream \{ sync_interval: always \}`"):
            async with asyncio.timeout(PROMPTLY_S):
                await asked.established()


async def test_a_server_counts_once(nats_node: NatsNode) -> None:
    """Three addresses of one are no majority: the first stands for two servers that nobody asked."""
    away, here = nobody(), nats_node.monitor_url
    for urls in ([away] * 3, [here, away, f"{here}/"]):
        with pytest.raises(NotDurable, match=rf"names {urls[0]} more than once"):
            Durability(urls, Told().append)
    asked = Durability([here, here.replace("127.0.0.1", "localhost"), away], Told().append)
    with pytest.raises(NotDurable, match=rf"KEYFORGE_NATS_MONITOR_URL: {here} and .* are one nats-server, "):
        async with asyncio.timeout(PROMPTLY_S):
            await asked.established()


async def test_a_page_that_never_ends_is_no_answer(nats_node: NatsNode, nats_own: StartNode) -> None:
    """Each byte comes in time, and the page does not: the others decide."""
    told, hung_up = Told(), asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
        while not reader.at_eof() and reader.exception() is None:
            writer.write(b" ")
            await asyncio.sleep(0.1)
        writer.close()
        hung_up.set()

    async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        asked = Durability([nats_node.monitor_url, url, nats_own().monitor_url], told.append)
        async with asyncio.timeout(PROMPTLY_S):
            await asked.established()
            await hung_up.wait()
    assert told.about("a majority", f"{url}/varz cannot be read (TimeoutError)")


async def test_without_an_address_it_is_unknown() -> None:
    with pytest.raises(NotDurable, match="KEYFORGE_NATS_MONITOR_URL is not set"):
        Durability([])


@pytest.mark.parametrize("away", [1, 2], ids=["one of three", "two of three"])
async def test_a_majority_is_enough_and_less_is_waited_for(nats_node: NatsNode, nats_own: StartNode, away: int) -> None:
    told = Told()
    late, second = nats_own(), nats_own()
    late.kill()
    silent = [late.monitor_url, nobody()][:away]
    asked = Durability([*silent, *[nats_node.monitor_url, second.monitor_url][: 3 - away]][::-1], told.append)
    starting = asyncio.create_task(asked.established())
    if away == 1:
        async with asyncio.timeout(PROMPTLY_S):
            await starting
        assert told.about("a majority", late.monitor_url)
    else:
        await until(lambda: asyncio.sleep(0, told), within_s=PROMPTLY_S)
        await asyncio.sleep(0.3)
        assert not starting.done()
        assert len(told) == 1, "it is said once"
        assert told.about("waiting for nats-server", *silent)
        await asyncio.to_thread(late.start)
        async with asyncio.timeout(PROMPTLY_S):
            await starting
    assert asked.wrong == ""


async def test_one_server_that_is_not_there_yet_is_waited_for(nats_own: StartNode) -> None:
    node, told = nats_own(), Told()
    node.kill()
    asked = Durability(node.monitor_urls, told.append)
    starting = asyncio.create_task(asked.established())
    await until(lambda: asyncio.sleep(0, told), within_s=PROMPTLY_S)
    assert told.about("waiting for nats-server", f"{node.monitor_url}/varz", "ConnectionRefusedError")
    await asyncio.to_thread(node.start)
    async with asyncio.timeout(PROMPTLY_S):
        await starting


@pytest.mark.parametrize("sync_interval", ["always", RELAXED])
async def test_who_was_away_is_asked_again_and_believed(
    nats_node: NatsNode, nats_own: StartNode, caplog: pytest.LogCaptureFixture, sync_interval: str
) -> None:
    late, second = nats_own(sync_interval=sync_interval), nats_own()
    late.kill()
    asked = Durability([nats_node.monitor_url, late.monitor_url, second.monitor_url], Told().append)
    await asked.established()
    asked.watch()
    try:
        await asyncio.sleep(0.3)
        assert asked.wrong == "", "silence is no word"
        await asyncio.to_thread(late.start)
        assert asked._watching is not None
        async with asyncio.timeout(PROMPTLY_S):
            await asyncio.shield(asked._watching)
        lines = [line.message for line in caplog.records if line.levelno == logging.CRITICAL]
        if sync_interval == "always":
            assert (asked.wrong, lines) == ("", [])
        else:
            assert "own1" in asked.wrong
            assert [asked.wrong in line for line in lines] == [True]
    finally:
        await asked.close()


@pytest.mark.parametrize("url", ["file:///etc/hosts", "http://127.0.0.1:1/nowhere"])
async def test_what_cannot_be_read_is_unknown(url: str) -> None:
    told = Told()
    starting = asyncio.create_task(Durability([url], told.append).established())
    await until(lambda: asyncio.sleep(0, told), within_s=PROMPTLY_S)
    assert told.about(url, "cannot be read")
    starting.cancel()
    await asyncio.wait([starting])


async def test_a_server_without_jetstream_is_waited_for() -> None:
    """It shows its pages before it has started JetStream."""
    told, page = Told(), b'{"server_name": "slow", "jetstream": {}}'

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s" % (len(page), page))
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        starting = asyncio.create_task(Durability([f"http://127.0.0.1:{port}"], told.append).established())
        await until(lambda: asyncio.sleep(0, told), within_s=PROMPTLY_S)
        assert told.about("waiting for nats-server", "no JetStream on slow")
        page = b'{"server_name": "slow", "jetstream": {"config": {"sync_always": true}}}'
        async with asyncio.timeout(PROMPTLY_S):
            await starting
