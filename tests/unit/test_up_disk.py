"""`up` says when the disk has less than the streams may take, or hardly anything: a line for each change; `doctor` says
the same in the same words."""

import asyncio
import contextlib
import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from keyforge.cli.doctor import _disk, _log_room
from keyforge.contracts import members
from keyforge.embedded import disk, watch
from keyforge.embedded.disk import Disk, DiskWatch
from keyforge.embedded.home import Home
from keyforge.embedded.services import Service

GIB = 1024**3


def varz(left: int) -> dict[str, Any]:
    return {"jetstream": {"stats": {"reserved_storage": left + 5, "storage": 5}}}


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> dict[str, Disk]:
    """What the disk is found to be."""
    now = {"disk": Disk(100 * GIB, 50 * GIB)}
    monkeypatch.setattr(disk, "of_home", lambda _home: now["disk"])
    return now


def test_each_shortage_is_said_once_until_it_has_passed(found: dict[str, Disk], tmp_path: Path) -> None:
    lines: list[str] = []
    watching = DiskWatch(Home(tmp_path), lines.append)

    def look(free_gib: float, left_gib: float) -> list[str]:
        lines.clear()
        found["disk"] = Disk(100 * GIB, int(free_gib * GIB))
        watching.look(varz(int(left_gib * GIB)))
        return list(lines)

    room = "the streams may take 31.0 GiB more, 30.0 GiB are free"
    assert look(50, 50) == []
    (said,) = look(30, 31)
    assert said == f"log room: {room}: when the disk is full, requests are refused; free some (docs/operations.md)"
    assert look(29, 31) == look(31.5, 31) == [], "it has passed only once there is more than just enough"
    assert look(32, 31) == ["log room: 32.0 GiB are free, which is enough again"]
    (said,) = look(4.9, 1)
    assert said.startswith("disk: 4.9 GiB are free, 4 % of the disk: ")
    assert look(5.5, 1) == []
    assert look(6, 1) == ["disk: 6.0 GiB are free, which is enough again"]
    assert [line.partition(":")[0] for line in look(0.5, 1)] == ["disk", "log room"]


@pytest.mark.parametrize("page", [None, {}, {"jetstream": {}}, {"jetstream": {"stats": {"storage": "x"}}}])
def test_a_page_that_says_nothing_changes_nothing(found: dict[str, Disk], tmp_path: Path, page: Any) -> None:
    lines: list[str] = []
    watching = DiskWatch(Home(tmp_path), lines.append)
    watching.look(varz(90 * GIB))
    watching.look(page)
    watching.look(varz(90 * GIB))
    assert len(lines) == 1


def test_doctor_says_what_up_says(found: dict[str, Disk], tmp_path: Path) -> None:
    lines: list[str] = []
    DiskWatch(Home(tmp_path), lines.append).look(varz(90 * GIB))
    check = _log_room(Home(tmp_path), 200, varz(90 * GIB))
    assert not check.ok
    assert lines[0].startswith(f"log room: {check.detail}")
    found["disk"] = Disk(100 * GIB, GIB // 2)
    lines.clear()
    DiskWatch(Home(tmp_path), lines.append).look(varz(0))
    check = _disk(Home(tmp_path))
    assert not check.ok
    assert lines[0].startswith(f"disk: {check.detail}")


def test_a_home_that_is_not_there_yet_has_the_disk_of_the_folder_above(tmp_path: Path) -> None:
    there, later = disk.of_home(Home(tmp_path)), disk.of_home(Home(tmp_path / "a" / "b"))
    assert there.total == later.total > 0


async def test_it_is_looked_at_while_the_stack_runs(
    monkeypatch: pytest.MonkeyPatch, found: dict[str, Disk], tmp_path: Path
) -> None:
    monkeypatch.setattr(watch, "WATCH_EVERY_S", 0.005)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            text = json.dumps(varz(51 * GIB)).encode()
            writer.write(b"HTTP/1.0 200 X\r\ncontent-length: %d\r\n\r\n%b" % (len(text), text))
            await writer.drain()
        writer.close()

    lines: asyncio.Queue[str] = asyncio.Queue()
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    nats = Service(members.NATS, (), {}, server.sockets[0].getsockname()[1])
    home = DiskWatch(Home(tmp_path), lines.put_nowait)
    watching = asyncio.create_task(watch.watch(lambda: [nats], lines.put_nowait, home))
    async with asyncio.timeout(60), server:
        assert (await lines.get()).startswith("log room: the streams may take 51.0 GiB more, 50.0 GiB are free")
        found["disk"] = Disk(100 * GIB, 60 * GIB)
        assert (await lines.get()).startswith("log room: 60.0 GiB are free")
        watching.cancel()
        await asyncio.wait([watching])


@pytest.mark.parametrize("services", [[], [Service(members.NATS, (), {}, 1)]], ids=["not healthy yet", "NATS is down"])
async def test_it_is_looked_at_while_nats_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, found: dict[str, Disk], tmp_path: Path, services: list[Service]
) -> None:
    """A full disk is one reason for which it does not."""
    monkeypatch.setattr(watch, "WATCH_EVERY_S", 0.005)
    found["disk"] = Disk(100 * GIB, GIB // 2)
    lines: asyncio.Queue[str] = asyncio.Queue()
    home = DiskWatch(Home(tmp_path), lines.put_nowait)
    watching = asyncio.create_task(watch.watch(lambda: services, lambda _line: None, home))
    async with asyncio.timeout(60):
        assert (await lines.get()).startswith("disk: 512.0 MiB are free, 0 % of the disk: ")
        found["disk"] = Disk(100 * GIB, 60 * GIB)
        assert await lines.get() == "disk: 60.0 GiB are free, which is enough again"
        watching.cancel()
        await asyncio.wait([watching])


def test_a_disk_that_cannot_be_read_is_said_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unreadable(_home: Home) -> Disk:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    lines: list[str] = []
    watching = DiskWatch(Home(tmp_path), lines.append)
    with monkeypatch.context() as broken:
        broken.setattr(disk, "of_home", unreadable)
        watching.look(None)
        watching.look(varz(GIB))
        checks = _disk(Home(tmp_path)), _log_room(Home(tmp_path), 200, varz(GIB))
    monkeypatch.setattr(disk, "of_home", lambda _home: Disk(100 * GIB, 50 * GIB))
    watching.look(None)
    assert lines == [
        "disk: what is free cannot be read: Input/output error",
        "disk: what is free can be read again: 50.0 GiB",
    ]
    assert [check.ok for check in checks] == [False, False]
    assert checks[0].detail == "what is free cannot be read: Input/output error"
