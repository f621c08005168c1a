"""Connections that are used again: until when, and what a call is that its provider closed the connection on."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from keyforge.edge.application.provider_call import TimeLimits
from keyforge.edge.application.provider_errors import UpstreamBusy, UpstreamCut
from keyforge.edge.outbound.provider_http.client import HttpUpstream
from keyforge.edge.outbound.provider_http.dial import KEEP_ALIVE
from keyforge.edge.outbound.provider_http.exchange import UNREAD_S
from keyforge.edge.outbound.provider_http.pool import PoolLimits
from tests.integration.edge_provider_origin import CLOSE, HANG, RESET, Step, answer, listening
from tests.integration.httpx_upstream import HttpxUpstream
from tests.integration.test_edge_provider_conformance import ask, until


@pytest.fixture(params=[HttpUpstream, HttpxUpstream])
async def upstream(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    made = request.param(time.monotonic)
    yield made
    await made.close()


@pytest.fixture
async def make() -> AsyncIterator[Callable[..., HttpUpstream]]:
    made: list[HttpUpstream] = []

    def one(**limits: Any) -> HttpUpstream:
        made.append(HttpUpstream(time.monotonic, PoolLimits(**limits)))
        return made[-1]

    yield one
    for each in made:
        await each.close()


UNREAD: list[Any] = [
    pytest.param([CLOSE], True, id="closed"),
    pytest.param([RESET], True, id="reset"),
    pytest.param([0.3, RESET], True, id="reset within a second"),
    pytest.param([b"H", 0.05, CLOSE], False, id="after the first byte of an answer"),
    pytest.param([b"HTTP/1.1 100 Continue\r\n\r\n", 0.05, CLOSE], False, id="after an informational answer"),
    pytest.param([UNREAD_S + 0.3, CLOSE], False, id="after more than a second"),
]


@pytest.mark.parametrize(("ending", "unread"), UNREAD)
async def test_a_call_on_a_connection_that_its_provider_closes_is_unread(
    upstream: Any, ending: list[Step], unread: bool
) -> None:
    async with listening([answer(b"{}")], ending, [answer(b"[]")]) as origin:
        assert await (await upstream.send(ask(origin))).read() == b"{}"
        with pytest.raises(UpstreamCut) as caught:
            await upstream.send(ask(origin))
        assert (caught.value.unread, caught.value.sent) == (unread, True)
        assert len(origin.requests) == 2, "whoever asked decides whether it is tried once more"
        assert await (await upstream.send(ask(origin, fresh=True))).read() == b"[]"


async def test_a_call_on_a_fresh_connection_is_never_unread(upstream: Any) -> None:
    async with listening([RESET], [RESET], [answer(b"{}")], [RESET]) as origin:
        for fresh in (False, True):
            with pytest.raises(UpstreamCut) as caught:
                await upstream.send(ask(origin, fresh=fresh))
            assert not caught.value.unread
        assert await (await upstream.send(ask(origin))).read() == b"{}"
        with pytest.raises(UpstreamCut) as caught:
            await upstream.send(ask(origin, fresh=True))
        assert not caught.value.unread
        assert origin.connections == 4, "a pooled connection is none that is fresh"


@pytest.mark.parametrize(
    ("named", "idle_s", "connections"),
    [
        pytest.param(b"keep-alive: timeout=1", 0.93, 2, id="a second"),
        pytest.param(b"Keep-Alive: timeout=1, max=100", 0.93, 2, id="Apache"),
        pytest.param(b"keep-alive: max=5, timeout = 1", 0.93, 2, id="in another order"),
        pytest.param(b"keep-alive: timeout=0", 0.0, 2, id="none at all"),
        pytest.param(b"keep-alive: timeout=5", 0.93, 1, id="Node's"),
        pytest.param(b"keep-alive: timeout=75", 0.93, 1, id="nginx's"),
        pytest.param(b"keep-alive: max=1", 0.93, 1, id="no time"),
        pytest.param(b"keep-alive: timeout=soon", 0.93, 1, id="no number"),
    ],
)
async def test_a_connection_is_used_no_longer_than_its_provider_says(
    make: Any, named: bytes, idle_s: float, connections: int
) -> None:
    upstream = make()
    async with listening([answer(b"{}", b"200 OK", named)]) as origin:
        for _ in range(2):
            assert await (await upstream.send(ask(origin))).read() == b"{}"
            await asyncio.sleep(idle_s)
        assert origin.connections == connections


async def test_how_long_a_connection_may_be_idle_is_a_setting(make: Any) -> None:
    upstream = make(free_s=0.2)
    async with listening([answer(b"{}", b"200 OK", b"keep-alive: timeout=75")]) as origin:
        for _ in range(2):
            assert await (await upstream.send(ask(origin))).read() == b"{}"
        assert origin.connections == 1
        await asyncio.sleep(0.3)
        assert await (await upstream.send(ask(origin))).read() == b"{}"
        assert origin.connections == 2


async def test_a_fresh_connection_takes_the_place_of_a_free_one(make: Any) -> None:
    upstream = make(connections_max=1)
    async with listening([answer(b"{}")]) as origin:
        for expected in (1, 2, 3):
            assert await (await upstream.send(ask(origin, fresh=True))).read() == b"{}"
            assert (origin.connections, upstream._pools[ask(origin).origin].open) == (expected, 1)


async def test_a_fresh_connection_waits_for_one_in_use_and_no_longer_than_it_may(make: Any) -> None:
    upstream = make(connections_max=1)
    async with listening([answer(b"x" * 9)[:-5], 0.2, b"x" * 5], [answer(b"{}")], [HANG]) as origin:
        first = asyncio.create_task((await upstream.send(ask(origin))).read())
        assert await (await upstream.send(ask(origin, fresh=True))).read() == b"{}"
        assert (await first, origin.connections) == (b"x" * 9, 2)
        holding = asyncio.create_task(upstream.send(ask(origin)))
        await until(lambda: len(origin.requests) == 3)
        with pytest.raises(UpstreamBusy) as caught:
            await upstream.send(ask(origin, fresh=True, limits=TimeLimits(connect_s=0.1)))
        assert not caught.value.sent
        holding.cancel()
        await asyncio.wait([holding])


async def test_the_kernel_probes_a_silent_connection(make: Any) -> None:
    upstream = make()
    async with listening([answer(b"{}")]) as origin:
        await (await upstream.send(ask(origin))).read()
        [connection] = upstream._pools[ask(origin).origin]._known
        made = connection._transport.get_extra_info("socket")
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == dict(KEEP_ALIVE)["TCP_KEEPIDLE"]
