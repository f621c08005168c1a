"""The supervisor over real processes: order, restarts, ends, and that nothing outlives it. Small servers stand in for
services: what is tested is how any process is kept."""

import asyncio
import dataclasses
import functools
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from keyforge.embedded import child, supervisor
from keyforge.embedded.child import Child
from keyforge.embedded.errors import StackEndedError, StackError
from keyforge.embedded.home import Home
from keyforge.embedded.services import Service
from keyforge.embedded.supervisor import Supervisor
from keyforge.testkit.ports import free_ports
from keyforge.testkit.stack import processes_of
from tests.integration.up_servers import SERVER, WITHIN_S, server, supervised_in, until
from tests.pace import within

OUTER = """
import asyncio, pathlib, sys
from keyforge.embedded.home import Home
from keyforge.embedded.services import Service
from keyforge.embedded.supervisor import Supervisor
async def main():
    running = Supervisor(Home(pathlib.Path(sys.argv[1])), print)
    command = (sys.executable, "-c", sys.argv[3], sys.argv[2], "edge", "200", "/dev/null", "polite")
    service = Service("edge", command, {}, int(sys.argv[2]))
    await running.start([service])
    print(running.pids()["edge"], flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.prepare()
    return made


@pytest.fixture
async def running(home: Home) -> AsyncIterator[tuple[Supervisor, list[str]]]:
    async with supervised_in(home) as found:
        yield found


async def test_what_dies_is_started_again_within_a_second(
    running: tuple[Supervisor, list[str]], tmp_path: Path
) -> None:
    supervised, reported = running
    replaced: list[dict[str, int]] = []
    supervised.on_pids = lambda: replaced.append(supervised.pids())
    await supervised.start([server("budget", tmp_path / "ends")])
    supervised.all_healthy()
    first = supervised.pids()["budget"]

    os.kill(first, signal.SIGKILL)
    died = time.monotonic()
    await until(lambda: bool(replaced))

    assert within(time.monotonic() - died, 1.0)
    assert replaced[0]["budget"] != first
    assert reported[0] == "budget ended (killed by SIGKILL); starting it again now"
    await until(lambda: len(reported) > 1)
    assert reported[1].startswith("budget is healthy again after")


async def test_a_service_is_kept_even_if_its_process_cannot_be_written_down(
    running: tuple[Supervisor, list[str]], tmp_path: Path
) -> None:
    supervised, reported = running

    def full() -> None:
        raise StackError("cannot use the home: No space left on device")

    supervised.on_pids = full
    await supervised.start([server("budget", tmp_path / "ends")])
    supervised.all_healthy()
    for lines in (3, 6):  # it ended, its process could not be written down, it is healthy again
        os.kill(supervised.pids()["budget"], signal.SIGKILL)
        await until(functools.partial(lambda least: len(reported) >= least, lines))
    assert reported[1] == "cannot use the home: No space left on device"


async def test_an_ignored_hangup_stays_ignored(home: Home, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        supervised = Supervisor(home, print)
        with supervised.signals_handled():
            run = asyncio.create_task(supervised.run(supervised.start([server("keys", tmp_path / "ends")])))
            os.kill(os.getpid(), signal.SIGHUP)
            assert not (await asyncio.wait([run], timeout=0.5))[0]
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(run, WITHIN_S)
            await supervised.stop()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


async def test_the_last_line_is_of_this_start(home: Home) -> None:
    kept = Child(Service("keys", (sys.executable, "-c", "import os; os._exit(0)"), {}, 1), home.logs)
    kept.log.write_text("a line of an earlier run\n")
    kept.start()
    await until(lambda: not kept.running)
    assert kept.last_line() == ""


async def test_the_edge_ends_first_and_the_log_last(running: tuple[Supervisor, list[str]], tmp_path: Path) -> None:
    supervised, _ = running
    ends = tmp_path / "ends"
    await supervised.start([server(name, ends) for name in ("nats", "edge", "keys", "budget")])
    await supervised.stop()
    order = ends.read_text().split(" ends\n")[:-1]
    assert order[0] == "edge"
    assert order[-1] == "nats"
    assert len(order) == 4


async def test_a_process_that_does_not_end_in_time_is_killed(
    running: tuple[Supervisor, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervised, reported = running
    monkeypatch.setattr(supervisor, "STOP_WITHIN_S", 0.3)
    await supervised.start([server("keys", tmp_path / "ends", manner="stubborn")])
    pids = supervised.pids()
    await supervised.stop()
    assert reported == ["keys did not stop within 0.3 s and was killed"]
    assert processes_of(pids, 1) == []


async def test_a_process_that_fails_at_its_end_is_reported(
    running: tuple[Supervisor, list[str]], tmp_path: Path
) -> None:
    supervised, reported = running
    manners = {"keys": "failing", "budget": "polite"}
    await supervised.start([server(name, tmp_path / "ends", manner=manner) for name, manner in manners.items()])
    await supervised.stop()
    assert [line.partition(" (its log")[0] for line in reported] == [
        "keys ended with exit code 1: something was not stored"
    ]


async def test_a_process_is_given_as_much_longer_as_settings_say(
    running: tuple[Supervisor, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervised, reported = running
    monkeypatch.setattr(supervisor, "STOP_WITHIN_S", 0.1)
    supervised.stop_longer_s = 0.4
    await supervised.start([server("keys", tmp_path / "ends", manner="stubborn")])
    await supervised.stop()
    assert reported == ["keys did not stop within 0.5 s and was killed"]


async def test_a_service_that_answers_is_given_time_and_the_wait_is_reported(
    running: tuple[Supervisor, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervised, reported = running
    monkeypatch.setattr(supervisor, "ANSWER_WITHIN_S", 3.5)
    monkeypatch.setattr(supervisor, "HEALTHY_WITHIN_S", 4.0)
    monkeypatch.setattr(supervisor, "REPORT_EVERY_S", 0.9)
    with pytest.raises(StackError, match=r"^keys is not healthy after 4 s: it answers 503; its log is .*keys.log$"):
        await supervised.run(supervised.start([server("keys", tmp_path / "ends", status=503)]))
    assert 2 <= len(reported) <= 4
    assert re.fullmatch(r"waiting for keys since \d s: it answers 503", reported[0])


async def test_a_service_that_never_answers_is_one_clear_line(
    running: tuple[Supervisor, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    supervised, _ = running
    monkeypatch.setattr(supervisor, "ANSWER_WITHIN_S", 0.5)
    silent = Service("keys", (sys.executable, "-c", "import time; time.sleep(60)"), {}, free_ports(1)[0])
    with pytest.raises(StackError, match=r"^keys is not healthy after 1 s: it does not answer; its log is .*keys.log$"):
        await supervised.run(supervised.start([silent]))


async def test_a_service_that_cannot_start_ends_the_start_with_its_last_line(
    running: tuple[Supervisor, list[str]],
) -> None:
    supervised, reported = running
    broken = Service("keys", (sys.executable, "-c", "import sys; sys.exit('KEYFORGE_X: not a number')"), {}, 1)
    with pytest.raises(StackError, match=r"^keys does not start \(exit code 1\): KEYFORGE_X: not a number"):
        await supervised.run(supervised.start([broken]))
    assert reported == []


async def test_a_service_that_cannot_be_started_again_ends_a_stack_that_ran(
    running: tuple[Supervisor, list[str]], tmp_path: Path
) -> None:
    supervised, _ = running
    program = tmp_path / "run"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    program.chmod(0o755)
    whole = server("keys", tmp_path / "ends")

    async def starting() -> None:
        await supervised.start([dataclasses.replace(whole, command=(str(program), *whole.command[1:]))])
        supervised.all_healthy()
        program.unlink()
        os.kill(supervised.pids()["keys"], signal.SIGKILL)

    with pytest.raises(StackEndedError, match=r"^cannot start keys: No such file or directory$"):
        await supervised.run(starting())


async def test_a_missing_program_is_one_clear_line(running: tuple[Supervisor, list[str]]) -> None:
    supervised, _ = running
    with pytest.raises(StackError, match=r"^cannot start nats: No such file or directory$"):
        await supervised.run(supervised.start([Service("nats", ("/nowhere/nats-server",), {}, 1)]))


async def test_sigterm_ends_a_run(running: tuple[Supervisor, list[str]], tmp_path: Path) -> None:
    supervised, _ = running

    async def start() -> None:
        await supervised.start([server("keys", tmp_path / "ends")])
        supervised.all_healthy()
        os.kill(os.getpid(), signal.SIGTERM)

    async with asyncio.timeout(WITHIN_S):
        await supervised.run(start())


def test_nothing_outlives_a_supervisor_that_is_killed(home: Home) -> None:
    port = free_ports(1)[0]
    with subprocess.Popen(
        [sys.executable, "-c", OUTER, str(home.path), str(port), SERVER], stdout=subprocess.PIPE, text=True
    ) as outer:
        assert outer.stdout is not None
        pid = int(outer.stdout.readline())
        assert processes_of({"edge": pid}, 0) == ["edge"]
        outer.kill()
        outer.wait()
    assert processes_of({"edge": pid}, WITHIN_S) == []


async def test_a_log_is_bounded_and_keeps_what_came_before(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "LOG_BYTES_MAX", 100)
    chatty = Service("keys", (sys.executable, "-c", "print('x' * 200); print('end')"), {}, 1)
    kept = Child(chatty, home.logs)
    kept.start()
    await until(lambda: not kept.running)
    kept.rotate()
    assert kept.log.read_bytes() == b""
    before = kept.log.with_suffix(".log.1").read_text()
    assert before.startswith("x" * 200)
    kept.rotate()
    assert kept.log.with_suffix(".log.1").read_text() == before
