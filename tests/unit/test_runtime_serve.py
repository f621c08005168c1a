"""How a service ends once it has begun to serve: in which steps, and with which exit code."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from structlog.testing import capture_logs

from keyforge.runtime.http import new_app, with_http_guards
from keyforge.runtime.serve import CUT_S, FAILED, CannotListenError, StopFailedError, listen, serve
from keyforge.runtime.settings import ServiceSettings
from keyforge.testkit.ports import free_ports
from tests.pace import within

PATIENCE_S = 20.0
DELAY_S, LIMIT_S = 0.6, 1


class Readiness:
    """Always ready."""

    def checks(self) -> dict[str, bool]:
        return {}

    def details(self) -> dict[str, Any]:
        return {}


async def ended(failure: Exception | None, stopping: Exception | None = None) -> int:
    """Serve until a future of the service is done; return the exit code."""
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    if failure is None:
        failed.set_result(None)
    else:
        failed.set_exception(failure)

    async def stop() -> None:
        if stopping is not None:
            raise stopping

    settings = ServiceSettings(port=free_ports(1)[0], instance="one", key_secret=SecretStr("0b" * 32))
    return await serve(new_app("One", Readiness(), CollectorRegistry()), settings, stop=stop, failed=failed)


@pytest.mark.parametrize(
    ("failure", "stopping", "code"),
    [
        pytest.param(None, None, 0, id="it is stopped"),
        pytest.param(OSError("lost"), None, FAILED, id="a part of it fails"),
        pytest.param(None, OSError("lost"), FAILED, id="it cannot stop in order"),
        pytest.param(None, StopFailedError("2 are lost"), FAILED, id="it has not stored what it must"),
    ],
)
async def test_a_fault_while_it_runs_is_not_one_at_a_start(
    failure: Exception | None, stopping: Exception | None, code: int
) -> None:
    assert await ended(failure, stopping) == code


async def test_what_was_not_done_before_the_end_is_one_line() -> None:
    with capture_logs() as lines:
        await ended(None, StopFailedError("2 are lost"))
    told = [
        (line["log_level"], line["error"], "exc_info" in line) for line in lines if line["event"] == "stopping failed"
    ]
    assert told == [("critical", "2 are lost", False)]


async def test_of_faults_in_a_group_each_is_named() -> None:
    """A group's own text says how many there are, and not one word of what is wrong."""
    inner = ExceptionGroup("of tasks", [OSError("lost"), OSError("lost"), ValueError()])
    with capture_logs() as lines:
        assert await ended(ExceptionGroup("unhandled errors", [inner, OSError("gone")])) == FAILED
    assert [line["error"] for line in lines if line["event"] == "service failed"] == ["lost; ValueError; gone"]


def test_every_address_of_a_host_is_bound_or_none() -> None:
    (port,) = free_ports(1)
    bound = listen("localhost", port)
    try:
        assert {one.getsockname()[1] for one in bound} == {port}
        bound[0].listen()
        with pytest.raises(
            CannotListenError, match=rf"^KEYFORGE_X: cannot listen on port {port} of localhost: Address"
        ):
            listen("localhost", port, "KEYFORGE_X")
    finally:
        for one in bound:
            one.close()


class Answer(NamedTuple):
    """What a connection was answered."""

    status: int
    head: str
    body: str

    @property
    def closes(self) -> bool:
        """Whether it is the last answer of its connection, and says so."""
        return "connection: close" in self.head


class Caller:
    """One connection of a caller that keeps connections alive."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def ask(self, path: str) -> None:
        self.writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())

    async def answer(self) -> Answer:
        async with asyncio.timeout(PATIENCE_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
            body = (await self.reader.readexactly(length)).decode()
        return Answer(int(head.split()[1]), head, body)

    async def get(self, path: str) -> Answer:
        self.ask(path)
        return await self.answer()

    async def closed(self) -> bool:
        """Wait until the service closes it; whether it did without another byte."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.reader.read() == b""


class Serving(NamedTuple):
    """A service that serves: how to connect, what lets /slow answer, and its exit code."""

    connect: Callable[[], "asyncio.Future[Caller]"]
    go_on: asyncio.Event
    code: "asyncio.Task[int]"


@asynccontextmanager
async def serving(*, delay_s: float = DELAY_S, cut: Callable[[], None] | None = None) -> AsyncIterator[Serving]:
    (port,) = free_ports(1)
    app, go_on = new_app("One", Readiness(), CollectorRegistry()), asyncio.Event()

    @app.get("/slow")
    async def slow() -> str:
        await go_on.wait()
        return "done"

    async def stop() -> None:
        """Nothing to store."""

    callers: list[Caller] = []

    async def connect() -> Caller:
        callers.append(Caller(*await asyncio.open_connection("127.0.0.1", port)))
        return callers[-1]

    settings = ServiceSettings(
        port=port,
        instance="one",
        key_secret=SecretStr("0b" * 32),
        shutdown_delay_s=delay_s,
        shutdown_time_limit_s=LIMIT_S,
    )
    code = asyncio.create_task(serve(with_http_guards(app), settings, stop=stop, cut=cut))
    try:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    await connect()
                    break
                except OSError:
                    await asyncio.sleep(0.01)  # polls a server that starts
        yield Serving(lambda: asyncio.ensure_future(connect()), go_on, code)
    finally:
        await asyncio.wait_for(code, PATIENCE_S)
        for caller in callers:
            caller.writer.close()
            await asyncio.gather(caller.writer.wait_closed(), return_exceptions=True)


async def test_while_it_drains_it_serves_and_asks_callers_to_go_elsewhere() -> None:
    loop = asyncio.get_running_loop()
    async with serving() as service:
        idle, used, slow = [await service.connect() for _ in range(3)]
        ready = await used.get("/readyz")
        assert (ready.status, ready.closes) == (200, False)
        slow.ask("/slow")
        await used.get("/healthz")  # by now the slow request has arrived
        began = loop.time()
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(0)
        new = await service.connect()
        unready = await new.get("/readyz")
        assert (unready.status, unready.closes) == (503, True)
        assert json.loads(unready.body) == {"ready": False, "checks": {"in_service": False}, "details": {}}
        assert await new.closed()
        served = await used.get("/healthz")
        assert (served.status, served.closes) == (200, True)
        service.go_on.set()
        answered = await slow.answer()
        assert (answered.status, answered.closes) == (200, True), "its head was not sent yet"
        assert await idle.closed()
        assert loop.time() - began >= DELAY_S, "an idle connection is closed at the end of the delay"
        with pytest.raises(OSError):  # noqa: PT011 - refused, or reset
            await (await service.connect()).get("/healthz")
        assert await service.code == 0
        assert within(loop.time() - began, DELAY_S + LIMIT_S)


async def test_what_is_open_at_the_limit_is_cut_and_only_then_cancelled() -> None:
    loop, cut_at = asyncio.get_running_loop(), []
    async with serving(delay_s=0, cut=lambda: cut_at.append(loop.time())) as service:
        slow = await service.connect()
        slow.ask("/slow")
        slow.ask("/slow")  # which waits for the first, and must not begin once that is cut
        await (await service.connect()).get("/healthz")
        began = loop.time()
        for _ in range(3):
            signal.raise_signal(signal.SIGTERM)  # more than the first change nothing
            await asyncio.sleep(0)
        answered = await slow.answer()
        assert (answered.status, json.loads(answered.body)["error"]["type"]) == (503, "shutting_down")
        assert "x-request-id" in answered.head
        assert cut_at[0] - began >= LIMIT_S
        assert loop.time() - cut_at[0] >= CUT_S - 0.1
        assert len(cut_at) == 1
        assert await slow.closed()


async def test_one_without_anything_to_cut_cancels_at_the_limit() -> None:
    loop = asyncio.get_running_loop()
    async with serving(delay_s=0) as service:
        slow = await service.connect()
        slow.ask("/slow")
        await (await service.connect()).get("/healthz")
        began = loop.time()
        signal.raise_signal(signal.SIGINT)
        assert (await slow.answer()).status == 503
        assert loop.time() - began >= LIMIT_S
        assert within(loop.time() - began, LIMIT_S + 0.5)
