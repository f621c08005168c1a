"""Names of providers: looked up once at a time, so that one that hangs holds up nobody else."""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from keyforge.edge.application.provider_call import HeaderBlock, TimeLimits, UpstreamRequest
from keyforge.edge.application.provider_errors import UpstreamError, UpstreamTimeout
from keyforge.edge.core.routing.origin import Origin
from keyforge.edge.outbound.provider_http.client import HttpUpstream
from tests.integration.edge_provider_origin import RawOrigin, answer, listening
from tests.integration.httpx_upstream import HttpxUpstream

HANGS = "hangs.example"
LIMITS = TimeLimits(connect_s=0.5)


@pytest.fixture(params=[HttpUpstream, HttpxUpstream])
async def upstream(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    made = request.param(time.monotonic)
    yield made
    await made.close()


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The names that were looked up; a look-up of HANGS takes until the end of the test, and finds nothing."""
    names: list[str] = []
    ended, real = threading.Event(), socket.getaddrinfo

    def look(host: str, *more: Any, **named: Any) -> Any:
        names.append(host)
        if host == HANGS:
            ended.wait(60)
            raise socket.gaierror("no answer")
        return real(host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", look)
    yield names
    ended.set()


def ask(host: str, origin: RawOrigin) -> UpstreamRequest:
    where = Origin("http", host, origin.port, allow_insecure=True)
    return UpstreamRequest(where, "/", HeaderBlock(), b"{}", deadline=time.monotonic() + 60, limits=LIMITS)


async def test_a_name_that_hangs_holds_up_no_other_provider(upstream: Any, looked_up: list[str]) -> None:
    async with listening([answer(b"{}")]) as origin:
        hanging = [asyncio.create_task(upstream.send(ask(HANGS, origin))) for _ in range(100)]
        await asyncio.sleep(0.05)
        assert await (await upstream.send(ask("localhost", origin))).read() == b"{}"
        faults = await asyncio.gather(*hanging, return_exceptions=True)
        with pytest.raises(UpstreamTimeout) as later:  # nor does one that comes when they were given up
            await upstream.send(ask(HANGS, origin))
    assert {(type(fault), isinstance(fault, UpstreamError) and fault.sent) for fault in [*faults, later.value]} == {
        (UpstreamTimeout, False)
    }
    assert looked_up.count(HANGS) == 1


async def test_a_name_is_looked_up_anew_for_every_connection(upstream: Any, looked_up: list[str]) -> None:
    async with listening([answer(b"{}", b"200 OK", b"connection: close")]) as origin:
        for _ in range(2):
            assert await (await upstream.send(ask("localhost", origin))).read() == b"{}"
    assert looked_up == ["localhost"] * 2
