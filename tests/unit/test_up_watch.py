"""`up` tells what running services report, and that one does not answer, once for each change."""

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from keyforge.embedded import probe, watch
from keyforge.embedded.disk import DiskWatch
from keyforge.embedded.home import Home
from keyforge.embedded.probe import condition
from keyforge.embedded.services import Service

READY = {"ready": True, "checks": {"log": True}, "details": {}}
SAYS = "the store disagrees with the log (what to do: docs/operations.md)"
MISSING = "records, KF_LOG_0, chain key/a/b, seq 7: missing"
DISAGREES = {**READY, "details": {"disagreeing": 1, "first": [MISSING]}}
HALTED = {"ready": False, "checks": {"log": True, "evidence_agrees": False}, "details": {"halted": {"KF_LOG_0": "why"}}}


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (200, READY, ""),
        (200, None, ""),
        (200, {"status": "ok"}, ""),
        (200, DISAGREES, f"{SAYS}: 1 chain is stored differently than in the log: {MISSING}"),
        (503, HALTED, f"not healthy yet: evidence_agrees; {SAYS}: KF_LOG_0 is halted: why"),
        (200, {"details": {"partitions_unavailable": {"0": "x"}}}, 'partitions_unavailable {"0": "x"}'),
        (500, None, "it answers 500"),
        (503, {"checks": {"lo\x1b[2Jg": False}}, r"not healthy yet: lo\x1b[2Jg"),
        (200, {"details": {"disk": "full\x1b[2J\r", "x\x07": "y"}}, r"disk full\x1b[2J\r, x\x07 y"),
    ],
)
def test_what_an_answer_says(status: int, body: Any, text: str) -> None:
    assert condition(status, body) == text


def test_a_check_that_is_waited_for_is_shown_not_obeyed() -> None:
    assert probe.why_not(503, {"checks": {"lo\x1b[2Jg": False}}) == r"not healthy yet: lo\x1b[2Jg"


async def test_each_change_is_reported_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(watch, "WATCH_EVERY_S", 0.005)
    answers = {"now": (200, READY)}
    asked: asyncio.Queue[None] = asyncio.Queue()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):  # the one that was asking when the test ended
            await reader.readuntil(b"\r\n\r\n")
        status, body = answers["now"]
        text = json.dumps(body).encode()
        writer.write(b"HTTP/1.0 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(text), text))
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        asked.put_nowait(None)

    async def later() -> None:
        """Until it was asked again, with what it says now."""
        while not asked.empty():
            asked.get_nowait()
        for _ in range(3):
            await asked.get()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    lines: list[str] = []
    services = [Service("audit", (), {}, port)]
    disk = DiskWatch(Home(tmp_path), lines.append)
    watching = asyncio.create_task(watch.watch(lambda: services, lines.append, disk))
    async with asyncio.timeout(60), server:
        await later()
        assert lines == []
        for now in ((200, DISAGREES), (503, HALTED), (200, READY)):
            answers["now"] = now
            await later()
        watching.cancel()
        await asyncio.wait([watching])
    assert [line.partition(":")[0] for line in lines] == ["audit"] * 3
    assert "seq 7" in lines[0]
    assert "evidence_agrees" in lines[1]
    assert lines[2] == "audit: healthy again"


async def test_a_fault_is_reported_and_does_not_end_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(watch, "WATCH_EVERY_S", 0.005)
    lines: asyncio.Queue[str] = asyncio.Queue()

    def services() -> list[Service]:
        raise RuntimeError("broken")

    disk = DiskWatch(Home(tmp_path), lines.put_nowait)
    watching = asyncio.create_task(watch.watch(services, lines.put_nowait, disk))
    async with asyncio.timeout(60):
        assert [await lines.get() for _ in range(2)] == ["services could not be looked at: RuntimeError('broken')"] * 2
        watching.cancel()
        await asyncio.wait([watching])


async def test_one_that_hangs_is_reported_once_when_it_begins_and_once_when_it_ends(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(watch, "WATCH_EVERY_S", 0.005)
    monkeypatch.setattr(probe, "TIMEOUT_S", 0.2)
    hanging = asyncio.Event()
    asked = asyncio.Semaphore(0)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            asked.release()
            if not hanging.is_set():
                writer.write(b"HTTP/1.0 200 X\r\ncontent-length: 2\r\n\r\n{}")
                await writer.drain()
            else:
                await reader.read()
        writer.close()

    async def later(times: int) -> None:
        while not asked.locked():
            await asked.acquire()
        for _ in range(times):
            await asked.acquire()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    lines: asyncio.Queue[str] = asyncio.Queue()
    services = [Service("audit", (), {}, server.sockets[0].getsockname()[1])]
    watching = asyncio.create_task(
        watch.watch(lambda: services, lines.put_nowait, DiskWatch(Home(tmp_path), lines.put_nowait))
    )
    async with asyncio.timeout(60), server:
        for _ in range(2):
            await later(3)
            hanging.set()
            assert await lines.get() == "audit: it does not answer"
            await later(3)
            hanging.clear()
            assert await lines.get() == "audit: healthy again"
        hanging.set()
        await lines.get()
        services.clear()  # it was killed: who starts it again says that
        hanging.clear()
        watching.cancel()
        await asyncio.wait([watching])
    assert lines.empty()


async def test_one_question_that_is_missed_is_no_hang(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each second connection is closed without an answer."""
    monkeypatch.setattr(watch, "WATCH_EVERY_S", 0.005)
    asked = 0
    often = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            if asked % 2:
                writer.write(b"HTTP/1.0 200 X\r\ncontent-length: 2\r\n\r\n{}")
                await writer.drain()
        writer.close()
        if asked > 9:
            often.set()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    lines: list[str] = []
    service = Service("audit", (), {}, server.sockets[0].getsockname()[1])
    disk = DiskWatch(Home(tmp_path), lines.append)
    watching = asyncio.create_task(watch.watch(lambda: [service], lines.append, disk))
    async with asyncio.timeout(60), server:
        await often.wait()
        watching.cancel()
        await asyncio.wait([watching])
    assert lines == []
