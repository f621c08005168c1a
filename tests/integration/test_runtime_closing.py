"""The end of a connection: who hangs up is noticed though it is not read, who still sends gets its answer."""

import asyncio
import socket
import struct
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from keyforge.runtime import closing
from tests.integration.runtime_served import GET, Served, answer, refusal, serving, until

LOOPS: list[Any] = [
    pytest.param(asyncio.new_event_loop, id="asyncio"),
    pytest.param(uvloop.new_event_loop, id="uvloop"),
]
"""The services run on uvloop."""
BROKEN = b"\0\1 not http\r\n\r\n"
GONE = GET.replace(b"/ ", b"/gone ")
MUCH = b"x" * 3_000_000
"""More than the kernel keeps of a connection that is not read."""
POST = b"POST /%b HTTP/%b\r\nHost: x\r\nConnection: %b\r\nContent-Length: %d\r\n\r\n"
CHUNKS = b"POST /half HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"

Scenario = Callable[[Served], Coroutine[Any, Any, None]]


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Scenario], None]:
    """Runs a scenario against a server in this process."""

    async def main(scenario: Scenario) -> None:
        async with serving() as served:
            await scenario(served)

    def start(scenario: Scenario) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(main(scenario))

    return start


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("more", [(), (BROKEN,), (BROKEN, b"x" * 100), (BROKEN, MUCH), (GET,), (GET, GET)])
def test_who_hangs_up_is_noticed_whatever_was_sent_before(
    run: Callable[[Scenario], None], more: tuple[bytes, ...], reset: bool
) -> None:
    async def scenario(served: Served) -> None:
        async with served.connected() as (_, writer):
            writer.write(GONE)
            await until(lambda: len(served.app.asked) == 1)
            for data in more:
                await asyncio.sleep(0.05)  # so that each is a read of its own
                writer.write(data)
                await writer.drain()
            await asyncio.sleep(0.05)
            if reset:
                hard = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, hard)
                writer.transport.abort()
        await until(lambda: served.app.gone == 1 and not served.connections)

    run(scenario)


def talk(port: int, parts: tuple[bytes, ...]) -> bytes:
    """Send everything, then read everything: a client that does not read while it sends."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as one:
        for part in parts:
            one.sendall(part)
            time.sleep(0.05)  # so that each is a read of its own
        got = b""
        while data := one.recv(65536):
            got += data
    return got


DUE: list[Any] = [
    pytest.param((GET.replace(b"1.1", b"1.0"), BROKEN), 200, id="HTTP/1.0"),
    pytest.param((GET.replace(b"Host", b"Connection: close\r\nHost"), BROKEN), 200, id="to be closed"),
    pytest.param((GET.replace(b"Host", b"Connection: close\r\nHost") + GET,), 200, id="to be closed, and a request"),
    pytest.param((GET, BROKEN), 200, id="kept alive"),
    pytest.param((POST % (b"early", b"1.0", b"close", len(MUCH)),), 200, id="HTTP/1.0, not all read"),
    pytest.param((POST % (b"early", b"1.1", b"close", len(MUCH)),), 200, id="to be closed, not all read"),
    pytest.param((POST % (b"fault", b"1.1", b"keep-alive", len(MUCH)),), 500, id="a fault"),
    pytest.param((POST % (b"half", b"1.1", b"keep-alive", len(MUCH)),), 200, id="a fault in the middle"),
    pytest.param((CHUNKS, b"nonsense\r\n"), 200, id="chunks that are none"),
]


@pytest.mark.parametrize("drained", [False, True])
@pytest.mark.parametrize(("parts", "status"), DUE)
def test_who_still_sends_when_its_connection_is_closed_gets_what_was_written(
    run: Callable[[Scenario], None], parts: tuple[bytes, ...], status: int, drained: bool
) -> None:
    async def scenario(served: Served) -> None:
        served.app.go.clear()
        served.app.answer = b"a" * 2000
        talking = asyncio.get_running_loop().run_in_executor(None, talk, served.port, (*parts, MUCH))
        await until(lambda: len(served.app.asked) == 1)
        await asyncio.sleep(0.2)  # so that the kernel is full
        if drained:
            for connection in served.connections:
                connection.drain()
        served.app.go.set()
        got = await talking
        assert got.startswith(b"HTTP/1.1 %d " % status)
        assert status != 200 or b"a" * 2000 in got
        await until(lambda: not served.connections)

    run(scenario)


def test_who_still_sends_when_the_service_ends_gets_its_answer(run: Callable[[Scenario], None]) -> None:
    async def scenario(served: Served) -> None:
        served.app.answer = b"a" * 2000
        head = POST % (b"early", b"1.1", b"keep-alive", 64_000_000)
        talking = asyncio.get_running_loop().run_in_executor(None, talk, served.port, (head, MUCH))
        await until(lambda: any(getattr(one.cycle, "response_complete", False) for one in served.connections))
        for connection in served.connections:
            connection.shutdown()
        assert served.app.answer in await talking

    run(scenario)


def test_an_idle_connection_is_closed_at_once_when_the_service_ends(run: Callable[[Scenario], None]) -> None:
    async def scenario(served: Served) -> None:
        async with served.connected() as (reader, writer):
            writer.write(GET)
            assert await answer(reader) == (200, b"")
            for connection in served.connections:
                connection.shutdown()
            await asyncio.sleep(0.1)
            assert not served.connections

    run(scenario)


@pytest.mark.parametrize("sent", [GET.replace(b"1.1", b"1.0"), BROKEN])
def test_who_does_not_close_is_left(
    run: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(closing, "LINGER_S_MAX", 0.1)

    async def scenario(served: Served) -> None:
        async with served.connected() as (reader, writer):
            writer.write(sent)
            await answer(reader)
            assert await reader.read() == b""
            await until(lambda: not served.connections)

    run(scenario)


def test_what_comes_after_the_last_answer_is_dropped_at_a_pace(run: Callable[[Scenario], None]) -> None:
    async def scenario(served: Served) -> None:
        async with served.connected() as (reader, writer):
            writer.write(BROKEN + b"x" * 64_000_000)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(writer.drain(), 1)  # a server that reads at full speed takes 0.2 s
            assert await refusal(reader) == (400, "http_invalid")

    run(scenario)
