"""A link whose server dies or hangs: it comes back, says so, and keeps nothing for later."""

import asyncio
import time
from collections.abc import Callable

import pytest

from keyforge.eventlog.nats.client import Link
from keyforge.eventlog.nats.connection import LinkBounds
from keyforge.eventlog.nats.errors import AnswerLate, LinkDown, LinkFull, LinkLost
from keyforge.testkit.nats_server import NatsNode
from tests.contract.nats_hands import PROMPTLY_S, WITHIN_S, Messages, Told, echo, fill, linked

StartNode = Callable[..., NatsNode]

KNOCKING = LinkBounds(connect_s=0.3, pause_s=0.02, knock_s=0.2)
NARROW = LinkBounds(connect_s=0.3, pause_s=0.02, waiting_bytes_max=1_000_000, close_s=0.2)


async def test_a_server_that_dies_and_comes_back(nats_own: StartNode) -> None:
    node = nats_own()
    told, told_other, heard, stays = Told(), Told(), Messages(), Messages()
    async with linked(node.urls, tell=told) as link, linked(node.urls, tell=told_other) as other:
        ended = link.subscribe("a", heard)
        link.subscribe("a", heard)
        other.subscribe("silent", stays)
        await other.heard(within_s=WITHIN_S)
        asks = [asyncio.ensure_future(link.ask("silent", b"", timeout_s=WITHIN_S)) for _ in range(3)]
        await stays.count(3)
        node.kill()
        started = time.monotonic()
        for ask in asks:
            with pytest.raises(LinkLost):
                await ask
        assert time.monotonic() - started < PROMPTLY_S
        await told.of("connection lost")
        assert not link.is_connected
        ended.end()
        link.subscribe("b", heard)
        for _ in range(3):
            with pytest.raises(LinkDown):
                link.publish("a", b"said while it was away")
        with pytest.raises(LinkDown):
            await link.ask("a", b"asked while it was away", timeout_s=WITHIN_S)
        node.start()
        await link.up(within_s=WITHIN_S)
        await other.up(within_s=WITHIN_S)
        await link.heard(within_s=WITHIN_S)
        other.publish("a", b"back")
        other.publish("b", b"back as well")
        await heard.count(2)
        assert heard.data == [b"back", b"back as well"]  # once each, and nothing of before
        echo(other, "echo")
        await other.heard(within_s=WITHIN_S)
        assert (await link.ask("echo", b"x", timeout_s=WITHIN_S)).data == b"you said x"
        assert (link.comebacks, other.comebacks) == (1, 1)
        assert told.all[-1] == "connection is back"


async def test_a_server_that_hangs_is_given_up_and_found_again(nats_own: StartNode) -> None:
    node = nats_own()
    told, heard = Told(), Messages()
    async with linked(node.urls, bounds=KNOCKING, tell=told) as link:
        link.subscribe("a", heard)
        await link.heard(within_s=WITHIN_S)
        waiting = asyncio.ensure_future(link.ask("a", b"", timeout_s=WITHIN_S))
        await heard.count(1)
        node.pause()
        started = time.monotonic()
        with pytest.raises(LinkLost, match="says nothing"):
            await waiting
        assert time.monotonic() - started < PROMPTLY_S
        await told.of("connection lost: a server that says nothing")
        node.resume()
        await link.up(within_s=WITHIN_S)
        await link.heard(within_s=WITHIN_S)
        link.publish("a", b"back")
        await heard.count(2)
        assert link.comebacks == 1


async def test_too_much_that_waits_is_refused_and_nothing_hangs(nats_own: StartNode) -> None:
    node = nats_own()
    told, heard = Told(), Messages()
    async with linked(node.urls, bounds=NARROW, tell=told) as link:
        link.subscribe("a", heard)
        await link.heard(within_s=WITHIN_S)
        node.pause()
        started = time.monotonic()
        with pytest.raises(LinkFull, match="more than 1000000 bytes"):
            await fill(link)
        with pytest.raises(LinkFull):
            await link.ask("a", b"", timeout_s=WITHIN_S)
        with pytest.raises(LinkFull):
            await link.heard(within_s=WITHIN_S)
        link.subscribe("b", heard)  # the server must not miss it: another connection
        await told.of("connection lost: more than 1000000 bytes")
        assert time.monotonic() - started < PROMPTLY_S
        node.resume()
        await link.up(within_s=WITHIN_S)
        await link.heard(within_s=WITHIN_S)
        link.publish("b", b"back")
        await heard.until(lambda all_: b"back" in {each.data for each in all_})


async def test_closing_does_not_wait_for_a_server_that_hangs(nats_own: StartNode) -> None:
    node = nats_own()
    link = Link(node.urls, bounds=NARROW)
    await link.open()
    node.pause()
    with pytest.raises(LinkFull):
        await fill(link)
    started = time.monotonic()
    await link.close()
    assert NARROW.close_s / 2 < time.monotonic() - started < PROMPTLY_S


async def test_no_pong_in_time(nats_own: StartNode) -> None:
    node = nats_own()
    async with linked(node.urls) as link:
        node.pause()
        with pytest.raises(AnswerLate):
            await link.heard(within_s=0.05)
        node.resume()
        await link.heard(within_s=WITHIN_S)  # and is not taken in by the pong of the first
        assert not link._line or not link._line._pongs


async def test_refused_at_a_comeback_is_tried_again(nats_own: StartNode) -> None:
    """An operator who changes a password changes it on both sides, one after the other."""
    user = 'authorization { user: it, password: "fixture-%s" }'
    node = nats_own(extra=user % "right")
    told = Told()
    async with linked(node.urls, user="it", password="fixture-right", tell=told) as link:
        node.kill()
        node._extra = user % "wrong"
        node.start()
        await told.of("Authorization Violation", 2)
        node.kill()
        node._extra = user % "right"
        node.start()
        await link.up(within_s=WITHIN_S)
        await link.heard(within_s=WITHIN_S)
        assert link.comebacks == 1
