"""Our own client alone: connections bounded, handed on and checked, memory held back, nothing left over."""

import asyncio
import gc
import random
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest

from keyforge.edge.application.provider_call import HeaderBlock, TimeLimits, UpstreamRequest
from keyforge.edge.application.provider_errors import UpstreamBusy, UpstreamError, UpstreamTimeout
from keyforge.edge.core.routing.origin import Origin
from keyforge.edge.outbound.provider_http.client import HttpUpstream
from keyforge.edge.outbound.provider_http.connection import ProviderConnection
from keyforge.edge.outbound.provider_http.exchange import BUFFERED_BYTES_MAX, Exchange
from keyforge.edge.outbound.provider_http.pool import IDLE_S, OriginPool, PoolLimits
from tests.integration.edge_provider_origin import CLOSE, HANG, RESET, RawOrigin, Step, answer, chunked, listening


@pytest.fixture
async def make() -> AsyncIterator[Callable[..., HttpUpstream]]:
    made: list[HttpUpstream] = []

    def one(**limits: Any) -> HttpUpstream:
        made.append(HttpUpstream(time.monotonic, PoolLimits(**limits)))
        return made[-1]

    yield one
    for upstream in made:
        await upstream.close()


def ask(origin: RawOrigin, **more: Any) -> UpstreamRequest:
    fields: dict[str, Any] = {"deadline": time.monotonic() + 60, **more}
    where = Origin("http", "127.0.0.1", origin.port, allow_insecure=True)
    return UpstreamRequest(where, "/", HeaderBlock(), b"{}", **fields)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  # what is waited for happens at the other end of a socket
            await asyncio.sleep(0.01)


async def test_connections_are_bounded_and_handed_on(make: Any) -> None:
    upstream = make(connections_max=3)
    async with listening([0.01, answer(b"{}")]) as origin:

        async def one() -> bytes:
            return bytes(await (await upstream.send(ask(origin))).read())

        assert await asyncio.gather(*(one() for _ in range(30))) == [b"{}"] * 30
        assert origin.connections == 3


async def test_a_waiter_makes_a_connection_when_one_is_lost(make: Any) -> None:
    upstream = make(connections_max=1)
    async with listening([0.02, answer(b"{}"), CLOSE]) as origin:

        async def one() -> bytes:
            return bytes(await (await upstream.send(ask(origin))).read())

        assert await asyncio.gather(*(one() for _ in range(5))) == [b"{}"] * 5
        assert origin.connections == 5


async def test_an_idle_connection_is_looked_at_before_it_is_used_again(make: Any) -> None:
    """The provider closes it while our event loop is busy, so that it has not called back yet."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer(b"{}"))
                    time.sleep(IDLE_S / 2)  # it closes an idle connection, as providers do

        threading.Thread(target=serve, daemon=True).start()
        upstream, where = make(), Origin("http", "127.0.0.1", listener.getsockname()[1], allow_insecure=True)
        for _ in range(2):
            request = UpstreamRequest(where, "/", HeaderBlock(), b"{}", time.monotonic() + 60)
            assert await (await upstream.send(request)).read() == b"{}"
            await asyncio.sleep(0.02)
            time.sleep(IDLE_S * 1.2)  # noqa: ASYNC251  # the busy loop


async def test_a_connection_in_use_again_and_again_is_looked_at_no_more(make: Any, monkeypatch: Any) -> None:
    looks: list[bool] = []
    alive = ProviderConnection.alive

    def watched(self: ProviderConnection, *, look: bool) -> bool:
        looks.append(look)
        return alive(self, look=look)

    monkeypatch.setattr(ProviderConnection, "alive", watched)
    upstream = make(connections_max=1)
    async with listening([answer(b"{}")]) as origin:
        for _ in range(3):
            await (await upstream.send(ask(origin))).read()
        assert looks == [True, True]  # in the very turn that gave it back
        for _ in range(3):
            await asyncio.sleep(0.01)
            await (await upstream.send(ask(origin))).read()
        assert looks == [True, True, False, False, False]


class Turns:
    """A loop that takes a turn when it is asked to."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)

    def call_later(self, _: float, __: Callable[[], None]) -> None:
        """No sweep here."""

    def turn(self) -> None:
        due, self.soon = self.soon, []
        for callback in due:
            callback()


class Given:
    """A connection that notes whether it was looked at."""

    def __init__(self) -> None:
        self.looked = False
        self.free_since, self.keep_s = time.monotonic(), 3600.0

    def alive(self, *, look: bool) -> bool:
        self.looked = look
        return True


@pytest.mark.parametrize("turns", [0, 1, 2])
def test_a_turn_counts_once_for_a_connection_whatever_was_taken_before_it(turns: int) -> None:
    loop = Turns()
    pool: Any = OriginPool(loop, time.monotonic, PoolLimits(), None)  # type: ignore[arg-type]
    pool.give_back(Given())
    pool.take()
    given = Given()
    pool.give_back(given)
    for _ in range(turns):
        loop.turn()
    assert pool.take() is given
    assert given.looked == (turns < 2)


async def test_who_waits_too_long_sent_nothing(make: Any) -> None:
    upstream = make(connections_max=1, waiters_max=1)
    async with listening([HANG]) as origin:
        first = asyncio.create_task(upstream.send(ask(origin)))
        await until(lambda: len(origin.requests) == 1)
        second = asyncio.create_task(upstream.send(ask(origin, limits=TimeLimits(connect_s=0.1))))
        await asyncio.sleep(0)
        with pytest.raises(UpstreamBusy) as caught:
            await upstream.send(ask(origin))
        assert not caught.value.sent
        with pytest.raises(UpstreamBusy) as caught:
            await second
        assert not caught.value.sent
        first.cancel()
        await asyncio.wait([first])
        assert len(origin.requests) == 1


async def test_a_cancelled_waiter_loses_no_connection(make: Any) -> None:
    upstream = make(connections_max=1)
    async with listening([0.05, answer(b"{}")]) as origin:
        tasks = [asyncio.create_task(upstream.send(ask(origin))) for _ in range(6)]
        await until(lambda: len(origin.requests) == 1)
        for task in tasks[1:4]:
            task.cancel()
        done, _ = await asyncio.wait(tasks, timeout=5)
        assert sum(1 for task in done if not task.cancelled() and task.result().status == 200) == 3
        assert origin.connections == 1


async def test_a_cancelled_dial_gives_its_place_back(make: Any) -> None:
    upstream = make(connections_max=1)
    async with listening([answer(b"{}")]) as origin:
        task = asyncio.create_task(upstream.send(ask(origin)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert await (await upstream.send(ask(origin))).read() == b"{}"


@pytest.mark.parametrize("extra", [answer(b"{}"), b"garbage", b"\r\n"])
async def test_bytes_after_an_answer_end_the_connection(make: Any, extra: bytes) -> None:
    upstream = make()
    async with listening([answer(b"{}"), 0.05, extra], [answer(b"[]")]) as origin:
        assert await (await upstream.send(ask(origin))).read() == b"{}"
        await until(lambda: origin.open == 0)
        assert await (await upstream.send(ask(origin))).read() == b"[]"
        assert origin.connections == 2


async def test_bytes_in_the_same_segment_end_the_connection(make: Any) -> None:
    upstream = make()
    async with listening([answer(b"{}") + answer(b"smuggled")], [answer(b"[]")]) as origin:
        assert await (await upstream.send(ask(origin))).read() == b"{}"
        assert await (await upstream.send(ask(origin))).read() == b"[]"
        assert origin.connections == 2


async def test_free_connections_are_bounded_and_swept(make: Any) -> None:
    upstream = make(free_max=2)
    async with listening([0.02, answer(b"{}")]) as origin:
        await asyncio.gather(*(upstream.send(ask(origin)) for _ in range(8)))
        await until(lambda: origin.open == 2)
        await upstream.close()
        await until(lambda: origin.open == 0)


async def test_an_answer_that_comes_early_ends_the_connection(make: Any) -> None:
    """413 before the body was read: the answer counts, what is left of the request must not reach the next one."""
    upstream = make()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(b"{}", b"413 Large"))
        await reader.read()
        writer.close()
        ended.set()

    ended = asyncio.Event()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    where = Origin("http", "127.0.0.1", server.sockets[0].getsockname()[1], allow_insecure=True)
    request = UpstreamRequest(where, "/", HeaderBlock(), b"x" * (16 << 20), time.monotonic() + 60)
    response = await upstream.send(request)
    assert (response.status, await response.read()) == (413, b"{}")
    assert upstream._pools[where].take() is None
    await ended.wait()
    server.close()


async def test_a_stream_nobody_takes_is_held_back(make: Any) -> None:
    upstream = make()
    flood: list[Step] = [chunked(end=False), *[b"10000\r\n" + b"x" * 65536 + b"\r\n"] * 200, b"0\r\n\r\n"]
    async with listening(flood) as origin:
        request = ask(origin, limits=TimeLimits(idle_s=0.2), body_bytes_max=1 << 30)
        response = await upstream.send(request)
        await asyncio.sleep(0.5)  # longer than idle_s: a pause of ours is not the provider's silence
        assert isinstance(response, Exchange)
        assert BUFFERED_BYTES_MAX < response._buffered_bytes < BUFFERED_BYTES_MAX + 512 * 1024
        assert sum([len(piece) async for piece in response]) == 200 * 65536


async def test_a_stream_nobody_takes_ends_with_its_deadline(make: Any) -> None:
    upstream = make()
    flood: list[Step] = [chunked(end=False), *[b"10000\r\n" + b"x" * 65536 + b"\r\n"] * 200]
    async with listening([*flood, HANG]) as origin:
        response = await upstream.send(ask(origin, deadline=time.monotonic() + 0.3, body_bytes_max=1 << 30))
        await until(lambda: origin.open == 0)
        with pytest.raises(UpstreamTimeout):
            async for _ in response:
                pass


async def test_damaged_answers_always_have_an_outcome(make: Any) -> None:
    upstream = make()
    chance = random.Random(20_26)  # the same damage in every run
    whole = [answer(b"x" * 200), chunked(b"data: 1\n\n", b"data: 2\n\n"), b"HTTP/1.1 100 Go\r\n\r\n" + answer(b"{}")]
    for _ in range(150):
        data = bytearray(chance.choice(whole))
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(data))
            data[at : at + chance.randint(0, 3)] = chance.randbytes(chance.randint(0, 3))
        cut = chance.randrange(len(data) + 1)
        async with listening(
            [bytes(data[:cut]), 0.0, bytes(data[cut:]), chance.choice([CLOSE, HANG, RESET])]
        ) as origin:
            limits = TimeLimits(first_byte_s=0.05, idle_s=0.05)
            started = time.monotonic()
            with suppress(UpstreamError):
                await (await upstream.send(ask(origin, limits=limits))).read()
            assert time.monotonic() - started < 20  # its deadline is 60 s away
            assert len(origin.requests) == 1


async def test_nothing_is_left_behind(make: Any) -> None:
    upstream = make()
    async with listening([answer(b"{}"), CLOSE]) as origin:
        response = await upstream.send(ask(origin))
        await response.read()
        await until(lambda: origin.open == 0)
        await asyncio.sleep(0.05)
        del response
        gc.collect()
        assert not [thing for thing in gc.get_objects() if isinstance(thing, ProviderConnection)]
        assert all(not pool.open for pool in upstream._pools.values())
