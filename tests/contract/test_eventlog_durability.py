"""Which servers a log may rest on: a majority of the cluster that we are connected to says that it syncs, none says
otherwise."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from keyforge.eventlog import durability
from keyforge.eventlog.durability import Durability, NotDurable
from keyforge.eventlog.nats.protocol import Info
from keyforge.testkit.nats_client import bus_to
from keyforge.testkit.nats_cluster import NatsCluster
from keyforge.testkit.nats_server import NatsNode
from tests.contract.monitors import (
    PROMPTLY_S,
    Monitor,
    Told,
    cluster_of_three,
    established,
    holds,
    nobody,
    refused,
    stated,
    when,
)

StartNode = Callable[..., NatsNode]

RELAXED = '"2m"'
"""A `sync_interval` of a server that acknowledges first."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durability, "START_PAUSE_S", 0.05)
    monkeypatch.setattr(durability, "WATCH_PAUSE_S", 0.05)


@pytest.fixture
async def three() -> AsyncIterator[list[Monitor]]:
    """The monitors of a cluster of three."""
    async with cluster_of_three() as monitors:
        yield monitors


async def test_one_server_that_syncs(nats_node: NatsNode) -> None:
    told = Told()
    asked = Durability(nats_node.monitor_urls, told.append)
    await established(asked, lambda: stated(nats_node))
    assert (told, asked.wrong) == ([], "")


async def test_a_server_that_says_otherwise_is_refused_by_name_whatever_the_others_say(
    nats_node: NatsNode, nats_own: StartNode
) -> None:
    bad = nats_own(sync_interval=RELAXED)
    good = nats_node.monitor_url
    for urls in ([bad.monitor_url], [good, bad.monitor_url], [nobody(), nobody(), bad.monitor_url]):
        why = await refused(
            Durability(urls, Told().append),
            lambda: stated(bad),
            r"own1 at .* runs without `jetstream \{ sync_interval: always \}`",
        )
        assert why.endswith("KEYFORGE_DURABILITY=relaxed accepts that")


async def test_a_server_counts_once(nats_node: NatsNode) -> None:
    """Three addresses of one are no majority: the first stands for two servers that nobody asked."""
    away, here = nobody(), nats_node.monitor_url
    for urls in ([away] * 3, [here, away, f"{here}/"]):
        with pytest.raises(NotDurable, match=rf"names {urls[0]} more than once"):
            Durability(urls, Told().append)
    asked = Durability([here, here.replace("127.0.0.1", "localhost"), away], Told().append)
    why = await refused(
        asked, lambda: stated(nats_node), rf"KEYFORGE_NATS_MONITOR_URL: {here} and .* are one nats-server, "
    )
    assert "relaxed" not in why, "that would not mend it"


async def test_a_page_that_never_ends_is_no_answer(nats_node: NatsNode) -> None:
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
        await established(Durability([nats_node.monitor_url, url], told.append), lambda: stated(nats_node))
        async with asyncio.timeout(PROMPTLY_S):
            await hung_up.wait()
    assert told.about("a majority", f"{url}/varz cannot be read (TimeoutError)")


async def test_without_an_address_it_is_unknown() -> None:
    with pytest.raises(NotDurable, match="KEYFORGE_NATS_MONITOR_URL is not set"):
        Durability([])


@pytest.mark.parametrize("away", [1, 2], ids=["one of three", "two of three"])
async def test_a_majority_is_enough_and_less_is_waited_for(three: list[Monitor], away: int) -> None:
    told = Told()
    for monitor in three[:away]:
        await monitor.stop()
    asked = Durability([monitor.url for monitor in three], told.append)
    starting = asyncio.create_task(asked.established(three[2].states))
    if away == 2:
        await when(lambda: bool(told))
        await asyncio.sleep(0.3)
        assert not starting.done()
        assert len(told) == 1, "it is said once"
        assert told.about("waiting for nats-server: 1 of 3 servers", three[0].url, three[1].url)
        await three[1].start()
    async with asyncio.timeout(PROMPTLY_S):
        await starting
    assert told.about("a majority", three[0].url)
    assert holds(asked)


async def test_a_majority_is_one_of_the_cluster_and_not_of_the_addresses(three: list[Monitor]) -> None:
    """Of a cluster of three, two of which acknowledge first, somebody names the monitor of the third."""
    asked = Durability([three[0].url], Told().append)
    await refused(asked, three[0].states, "names 1 of the 3 servers of the cluster: name the monitoring port of each")
    told = Told()
    asked = Durability([one.url for one in three[:2]], told.append)
    await established(asked, three[0].states)
    assert told == [
        "KEYFORGE_NATS_MONITOR_URL names 2 of the 3 servers of the cluster: one that is not named is not asked"
    ]


@pytest.mark.cluster
async def test_of_real_servers_as_well(nats_cluster: NatsCluster) -> None:
    bus = await bus_to(nats_cluster.urls)
    try:
        told = Told()
        asked = Durability(nats_cluster.monitor_urls, told.append)
        await established(asked, bus.servers)
        assert told == []
        assert {one.cluster for one in bus.servers()} == {"kf"}
        await refused(Durability(nats_cluster.monitor_urls[:1], told.append), bus.servers, "names 1 of the 3 servers")
    finally:
        await bus.close()


async def test_the_monitor_of_another_server_shows_nothing(nats_node: NatsNode, nats_own: StartNode) -> None:
    """A monitor that was forgotten in the settings: the default is an address of this machine."""
    stores = nats_own(sync_interval=RELAXED)
    for urls in (nats_node.monitor_urls, [*nats_node.monitor_urls, nobody()]):
        asked = Durability(urls, Told().append)
        why = await refused(asked, lambda: stated(stores), r"is not of the servers that KEYFORGE_NATS_URL .* own1")
        assert f"nats-server {nats_node.name} at {nats_node.monitor_url}" in why


@pytest.mark.parametrize("cluster", ["", "kf"])
async def test_another_server_of_the_same_name_is_another(cluster: str) -> None:
    """Names are those of every other installation; an id is not."""
    told = Told()
    async with Monitor(1, size=1) as monitor:
        if not cluster:
            monitor.page = {"server_id": "ID1", "server_name": "n1", "jetstream": {"config": {"sync_always": True}}}
        asked = Durability([monitor.url], told.append)
        connected = [Info(server_id="ID9", server_name="n1", cluster=cluster)]
        starting = asyncio.create_task(asked.established(lambda: connected))
        await when(lambda: monitor.asked > 2)
        assert not starting.done()
        assert told.about("nats-server n1 (ID9)", "is none of those that answer at KEYFORGE_NATS_MONITOR_URL")
        connected[0] = monitor.info
        async with asyncio.timeout(PROMPTLY_S):
            await starting


async def test_one_server_that_is_not_there_yet_is_waited_for(nats_own: StartNode) -> None:
    node, told = nats_own(), Told()
    node.kill()
    asked = Durability(node.monitor_urls, told.append)
    starting = asyncio.create_task(asked.established(lambda: stated(node)))
    await when(lambda: bool(told))
    assert told.about("waiting for nats-server", f"{node.monitor_url}/varz", "ConnectionRefusedError")
    await asyncio.to_thread(node.start)
    async with asyncio.timeout(PROMPTLY_S):
        await starting


@pytest.mark.parametrize("url", ["file:///etc/hosts", "http://127.0.0.1:1/nowhere", "http://a..b"])
async def test_what_cannot_be_read_is_unknown(url: str) -> None:
    told = Told()
    starting = asyncio.create_task(Durability([url], told.append).established(list))
    await when(lambda: bool(told))
    assert told.about(url, "cannot be read")
    starting.cancel()
    await asyncio.wait([starting])


@pytest.mark.parametrize(
    ("page", "why"),
    [
        pytest.param(b'{"x":' + b"[" * 300_000, "cannot be read (RecursionError)", id="nested too deep"),
        pytest.param(b"<html>", "cannot be read (DecodeError)", id="another page"),
        pytest.param(b"{}", "is not the page of a nats-server", id="an object"),
        pytest.param(
            b'{"server_id": "ID1", "server_name": "n1", "jetstream": {}}', "shows no JetStream on n1", id="it starts"
        ),
        pytest.param(
            b'{"server_id": "ID1", "server_name": "n1", "cluster": {"name": "kf"}, "jetstream": {"config": {}}}',
            "does not show yet how many servers the cluster of n1 has",
            id="a cluster starts",
        ),
    ],
)
async def test_a_page_without_what_we_ask_for_is_waited_for(page: bytes, why: str) -> None:
    """A server shows its pages before it has started JetStream."""
    told = Told()
    async with Monitor(1, size=1) as monitor:
        whole, monitor.page = monitor.page, page
        starting = asyncio.create_task(Durability([monitor.url], told.append).established(monitor.states))
        await when(lambda: bool(told))
        assert told.about("waiting for nats-server", why)
        monitor.page = whole
        async with asyncio.timeout(PROMPTLY_S):
            await starting
