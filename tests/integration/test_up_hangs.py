"""The supervisor over processes that run and do not answer: it says so once, and once when that is over."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from keyforge.embedded import probe, supervisor, watch
from keyforge.embedded.supervisor import Supervisor
from tests.integration.up_servers import WITHIN_S, server, supervised_below, until


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[tuple[Supervisor, list[str]]]:
    async with supervised_below(tmp_path) as found:
        yield found


async def test_what_hangs_is_reported_and_what_is_started_again_is_reported_once(
    running: tuple[Supervisor, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hang is said by who watches, a restart by who starts; neither by both."""
    monkeypatch.setattr(watch, "WATCH_EVERY_S", 0.02)
    monkeypatch.setattr(probe, "TIMEOUT_S", 0.3)
    supervised, reported = running

    async def starting() -> None:
        await supervised.start([server("audit", tmp_path / "ends"), server("budget", tmp_path / "ends")])
        supervised.all_healthy()

    run = asyncio.create_task(supervised.run(starting()))
    await until(lambda: len(supervised._watched()) == 2)
    os.kill(supervised.pids()["audit"], signal.SIGSTOP)
    await until(lambda: reported == ["audit: it does not answer"])
    os.kill(supervised.pids()["audit"], signal.SIGKILL)
    await until(lambda: any(line.startswith("audit is healthy again after") for line in reported))
    os.kill(supervised.pids()["budget"], signal.SIGSTOP)
    await until(lambda: reported[-1] == "budget: it does not answer")
    os.kill(supervised.pids()["budget"], signal.SIGCONT)
    await until(lambda: reported[-1] == "budget: healthy again")
    assert [line.partition(":")[0].partition(" ")[0] for line in reported] == ["audit"] * 3 + ["budget"] * 2
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(run, WITHIN_S)


async def test_one_that_was_started_again_and_hangs_is_reported_once(
    running: tuple[Supervisor, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "TIMEOUT_S", 0.1)
    supervised, reported = running
    supervised.on_pids = lambda: os.kill(supervised.pids()["keys"], signal.SIGSTOP)
    await supervised.start([server("keys", tmp_path / "ends")])
    supervised.all_healthy()
    monkeypatch.setattr(supervisor, "REPORT_EVERY_S", 0.4)  # from here on: a first start may be slow too
    os.kill(supervised.pids()["keys"], signal.SIGKILL)
    await until(lambda: len(reported) == 2)
    assert re.fullmatch(r"waiting for keys since \d s: it does not answer", reported[1])
    await asyncio.sleep(1)
    os.kill(supervised.pids()["keys"], signal.SIGCONT)
    await until(lambda: len(reported) == 3)
    assert reported[2].startswith("keys is healthy again after")
