"""How the supervisor ends: each service whose end failed is one line, and counts; small servers stand in for them."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from keyforge.embedded import supervisor
from keyforge.embedded.errors import StackError
from keyforge.embedded.services import Service
from keyforge.embedded.supervisor import Supervisor
from tests.integration.up_servers import server, supervised_below, until


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[tuple[Supervisor, list[str]]]:
    async with supervised_below(tmp_path) as found:
        yield found


def lines(reported: list[str]) -> list[str]:
    """Return what was reported without the paths of logs."""
    return [line.partition(" (its log")[0].partition("; its log is")[0] for line in reported]


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGABRT"])
async def test_a_process_that_a_signal_kills_at_its_end_is_reported(
    running: tuple[Supervisor, list[str]], tmp_path: Path, name: str
) -> None:
    """The kernel does so where memory is short: what it was to store is not stored."""
    supervised, reported = running
    await supervised.start([server("edge", tmp_path / "ends", manner=name), server("budget", tmp_path / "ends")])
    assert await supervised.stop() == ["edge"]
    assert lines(reported) == [f"edge was killed by {name}: outcomes are being stored"]


@pytest.mark.parametrize("manner", ["polite", "SIGTERM"])
async def test_an_end_by_what_was_sent_is_no_failure(
    running: tuple[Supervisor, list[str]], tmp_path: Path, manner: str
) -> None:
    supervised, reported = running
    await supervised.start([server("edge", tmp_path / "ends", manner=manner)])
    assert await supervised.stop() == []
    assert reported == []


async def test_every_failure_at_the_end_counts(
    running: tuple[Supervisor, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervised, reported = running
    monkeypatch.setattr(supervisor, "STOP_WITHIN_S", 2.0)
    manners = {"edge": "failing", "keys": "stubborn", "budget": "polite"}
    await supervised.start([server(name, tmp_path / "ends", manner=manner) for name, manner in manners.items()])
    assert await supervised.stop() == ["edge", "keys"]
    assert lines(reported) == [
        "edge ended with exit code 1: something was not stored",
        "keys did not stop within 2 s and was killed",
    ]


@pytest.mark.parametrize(
    ("number", "how"),
    [
        (signal.SIGUSR1, "ended with exit code 1: the ledger broke"),
        (signal.SIGKILL, "was killed by SIGKILL: it wrote nothing"),
    ],
)
async def test_what_ends_by_itself_while_another_is_waited_for_is_reported_at_once(
    running: tuple[Supervisor, list[str]], tmp_path: Path, number: signal.Signals, how: str
) -> None:
    supervised, reported = running
    ends = tmp_path / "ends"
    await supervised.start([server("edge", ends, manner="slow"), server("budget", ends), server("nats", ends)])
    supervised.all_healthy()
    pids = supervised.pids()
    stopping = asyncio.create_task(supervised.stop())
    await until(lambda: ends.exists() and ends.read_text() == "edge ends\n")
    for count, name in enumerate(("budget", "nats"), 1):
        os.kill(pids[name], number)
        await until(lambda: len(reported) >= count)  # noqa: B023  # awaited here
    assert not stopping.done()
    ends.with_name("ends.go").touch()
    assert await stopping == ["budget", "nats"]
    assert lines(reported) == [f"budget {how}", f"nats {how}"]


async def test_an_end_that_nobody_saw_yet_is_reported_once(
    running: tuple[Supervisor, list[str]], tmp_path: Path
) -> None:
    """One that is started again is not healthy yet, ends again, and all are to end."""
    supervised, reported = running
    supervised.on_pids = lambda: os.kill(supervised.pids()["budget"], signal.SIGSTOP)
    await supervised.start([server("budget", tmp_path / "ends")])
    supervised.all_healthy()
    first = supervised.pids()["budget"]
    os.kill(first, signal.SIGKILL)
    await until(lambda: supervised.pids()["budget"] != first)
    os.kill(supervised.pids()["budget"], signal.SIGKILL)
    os.waitid(os.P_PID, supervised.pids()["budget"], os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222  # the keeper must not run
    assert await supervised.stop() == ["budget"]
    assert lines(reported) == [
        "budget ended (killed by SIGKILL); starting it again now",
        "budget was killed by SIGKILL: it wrote nothing",
    ]


async def test_an_end_before_is_not_reported_again(
    running: tuple[Supervisor, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervised, reported = running
    monkeypatch.setattr(supervisor, "RESTART_FIRST_S", 60.0)
    await supervised.start([server("budget", tmp_path / "ends")])
    supervised.all_healthy()
    os.kill(supervised.pids()["budget"], signal.SIGKILL)
    await until(lambda: bool(reported))
    assert await supervised.stop() == []
    assert reported == ["budget ended (killed by SIGKILL); starting it again in 60 s"]


async def test_control_characters_of_a_last_line_are_shown_not_obeyed(
    running: tuple[Supervisor, list[str]], tmp_path: Path
) -> None:
    supervised, reported = running
    await supervised.start([server("edge", tmp_path / "ends", manner="colourful")])
    await supervised.stop()
    assert lines(reported) == [r"edge ended with exit code 1: not\x1b[31m stored\x07"]


async def test_control_characters_of_a_start_that_failed_are_shown_not_obeyed(
    running: tuple[Supervisor, list[str]],
) -> None:
    supervised, _ = running
    broken = Service("edge", (sys.executable, "-c", r"import sys; sys.exit('KEYFORGE_X\x1b[2J: no')"), {}, 1)
    with pytest.raises(StackError, match=r"^edge does not start \(exit code 1\): KEYFORGE_X\\x1b\[2J: no "):
        await supervised.run(supervised.start([broken]))
