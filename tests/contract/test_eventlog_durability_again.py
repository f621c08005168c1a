"""What the servers of a log have said is asked again: on a reconnect, every so often, and it counts for a while."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

import pytest

from keyforge.eventlog import durability
from keyforge.eventlog.durability import Durability
from keyforge.eventlog.nats.protocol import Info
from keyforge.testkit.nats_client import bus_to
from keyforge.testkit.nats_server import NatsNode
from tests.contract.monitors import (
    Monitor,
    Told,
    cluster_of_three,
    established,
    holds,
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


@pytest.mark.parametrize("sync", [True, False])
async def test_who_was_away_is_asked_again_and_believed(
    three: list[Monitor], caplog: pytest.LogCaptureFixture, sync: bool
) -> None:
    late = Monitor(3, sync=sync)
    asked = Durability([three[0].url, late.url, three[1].url], Told().append)
    await asked.established(three[0].states)
    asked.watch()
    try:
        await asyncio.sleep(0.3)
        assert holds(asked), "silence is no word"
        await late.start()
        await when(lambda: late.asked > 2 or bool(asked.wrong))
        lines = [line.message for line in caplog.records if line.levelno == logging.CRITICAL]
        assert holds(asked) is sync
        assert ("n3" in asked.wrong, [asked.wrong in line for line in lines]) == (
            (False, []) if sync else (True, [True])
        )
    finally:
        await asked.close()
        await late.stop()


async def test_who_comes_back_with_another_configuration_is_asked_at_once(
    nats_own: StartNode, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A reconnect is asked after; and from it on, until the server has answered, nothing is known of it."""
    monkeypatch.setattr(durability, "WATCH_PAUSE_S", 1000.0)
    node = nats_own()
    bus = await bus_to(node.urls)
    asked = Durability(node.monitor_urls, Told().append)
    try:
        await established(asked, bus.servers)
        asked.watch()
        before = bus.servers()[0].server_id
        await asyncio.to_thread(node.stop)
        await asyncio.to_thread(node.start)
        await when(lambda: holds(asked) and [one.server_id for one in bus.servers() if one.server_id != before] != [])
        assert asked.wrong == ""
        await asyncio.to_thread(node.stop)
        node._sync_interval = RELAXED
        await asyncio.to_thread(node.start)
        await when(lambda: bool(asked.wrong))
        assert "own1 at" in asked.wrong
        assert [line.message for line in caplog.records if line.levelno == logging.CRITICAL] == [
            f"{asked.wrong}: this service is not ready until it was started again without that"
        ]
    finally:
        await asked.close()
        await bus.close()


async def test_who_has_answered_is_asked_again_every_so_often(three: list[Monitor]) -> None:
    """One that we are not connected to starts again, with another configuration."""
    asked = Durability([one.url for one in three], Told().append)
    await established(asked, three[0].states)
    asked.watch()
    try:
        three[1].page = Monitor(2, sync=False, server_id="ID4").page
        await when(lambda: "n2" in asked.wrong)
        assert not holds(asked)
    finally:
        await asked.close()


async def test_an_answer_counts_for_a_while(three: list[Monitor], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can see with which configuration a server runs that does not show its pages any more."""
    told = Told()
    asked = Durability([one.url for one in three], told.append)
    await established(asked, three[0].states)
    asked.watch()
    try:
        for monitor in three[1:]:
            await monitor.stop()
        await when(lambda: told.about("what it said counts", three[1].url, three[2].url))
        assert holds(asked)
        monkeypatch.setattr(durability, "ANSWER_S", 0.5)
        await when(lambda: not holds(asked))
        await when(lambda: told.about("not ready while it is unknown", "1 of 3 servers", three[1].url, three[2].url))
        await three[2].start()
        await when(lambda: holds(asked))
        await when(lambda: told.about("a majority of servers syncs to disk again"))
    finally:
        await asked.close()


async def test_one_that_hangs_holds_up_no_other(three: list[Monitor], monkeypatch: pytest.MonkeyPatch) -> None:
    """A node starts again while another is dead: what it says counts before the other's time is over."""
    asked, ended = Durability([one.url for one in three], Told().append), asyncio.Event()
    await established(asked, three[0].states)

    async def hang(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ended.wait()
        writer.close()

    monkeypatch.setattr(three[2], "_answer", hang)
    await three[2].stop()
    await three[2].start()
    three[0].page = Monitor(1, server_id="ID9").page
    three[0].info = Info(server_id="ID9", server_name="n1", cluster="kf")
    assert not holds(asked)
    asking = asyncio.create_task(asked._ask())
    await when(lambda: holds(asked))
    assert not asking.done()
    ended.set()
    await asking


async def test_an_answer_counts_as_long_as_we_are_connected_to_who_gave_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server takes no other setting while it runs."""
    one = Monitor(1, size=1)
    connected = one.states()
    asked = Durability([one.url], Told().append)
    async with one:
        await established(asked, lambda: connected)
    monkeypatch.setattr(durability, "ANSWER_S", 0.0)
    assert holds(asked)
    connected = [Info(server_id="ID9", server_name=one.info.server_name, cluster=one.info.cluster)]
    assert not holds(asked)
    connected = []
    assert not holds(asked)


async def test_another_server_of_the_cluster_is_as_good_as_the_first(three: list[Monitor]) -> None:
    """A connection moves on; and to a server that did not answer it must not, whatever its name and cluster."""
    asked = Durability([one.url for one in three], Told().append)
    connected = three[0].states()
    await established(asked, lambda: connected)
    connected = [three[1].info, three[2].info]
    assert holds(asked)
    connected = [three[1].info, Info(server_id="ID9", server_name="n3", cluster="kf")]
    assert not holds(asked)
    assert "n3 (ID9)" in asked.unknown()
