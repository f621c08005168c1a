"""What is not there yet at a start is waited for and said in a line: a server, a log that is not declared."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from keyforge.contracts import members
from keyforge.testkit.nats_server import NatsNode, die_with_parent, wait_until
from tests.integration.start_environment import environment

pytestmark = pytest.mark.stack

WITHIN_S: Final = 120.0
INTERRUPTED: Final = 130
"""The exit code of a command line that was interrupted."""


class Program:
    """A program that runs, and what it wrote."""

    def __init__(self, name: str, node: NatsNode, folder: Path) -> None:
        self.name = name
        sized = {"KEYFORGE_LOG_BYTES_MAX": str(256 * 1024 * 1024)} if name == "declare" else {}
        self.environment = environment(name, node, folder / name, sized)
        self._log = folder / f"{name}.log"
        command = ["keyforge.cli", "declare"] if name == "declare" else [f"keyforge.{name}"]
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", *command],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=_as_in_a_container,  # noqa: PLW1509 - two system calls, no lock
            )

    def lines(self, about: str) -> list[str]:
        return [line for line in self._log.read_text().splitlines() if about in line]

    def says(self, about: str) -> None:
        """Wait until it writes this line."""

        def said() -> bool:
            assert self._process.poll() is None, f"{self.name} ended: {self._log.read_text()[-2000:]}"
            return bool(self.lines(about))

        wait_until(said, f"{self.name} says {about!r}: {self._log.read_text()[-2000:]}", timeout_s=WITHIN_S)

    def ready(self) -> None:
        """Wait until it is ready."""
        url = f"http://127.0.0.1:{self.environment['KEYFORGE_PORT']}/readyz"

        def is_ready() -> bool:
            assert self._process.poll() is None, f"{self.name} ended: {self._log.read_text()[-2000:]}"
            try:
                with urlopen(url, timeout=2) as answer:
                    return bool(answer.status == 200)
            except (URLError, OSError):
                return False

        wait_until(is_ready, f"{self.name} is ready: {self._log.read_text()[-2000:]}", timeout_s=WITHIN_S)

    def ended(self) -> int:
        """Wait until it ends; return its exit code."""
        return self._process.wait(WITHIN_S)

    def written(self) -> str:
        return self._log.read_text()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it, if it still runs."""
        self._process.send_signal(number)
        try:
            return self._process.wait(WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait(WITHIN_S)


def _as_in_a_container() -> None:
    """Whatever runs the tests: what a shell starts in the background ignores SIGINT, and so do its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    die_with_parent()


@contextmanager
def started(names: tuple[str, ...], node: NatsNode, folder: Path) -> Iterator[dict[str, Program]]:
    programs: dict[str, Program] = {}
    try:
        for name in names:
            programs[name] = Program(name, node, folder)
        yield programs
    finally:
        for program in programs.values():
            program.stop()


def test_every_program_waits_for_the_server_and_every_service_for_the_log(tmp_path: Path) -> None:
    node = NatsNode(tmp_path / "nats")
    try:
        with started(members.SERVICES, node, tmp_path) as services:
            for service in services.values():
                service.says("waiting for a server")
                assert len(service.lines("waiting for")) == 1
            with started(("declare",), node, tmp_path) as alone:
                alone["declare"].says("waiting for a server")
            node.start()
            for service in services.values():
                service.says("the log is not declared: run `keyforge declare`")
            with started(("declare",), node, tmp_path) as running:
                assert running["declare"].ended() == 0
            for service in services.values():
                service.ready()
    finally:
        node.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_start_that_waits_ends_at_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    """By itself and in words: the first process of a container ignores what it does not handle, and waits without a
    bound."""
    node = NatsNode(tmp_path / "nats")
    with started((*members.SERVICES, "declare"), node, tmp_path) as programs:
        for program in programs.values():
            program.says("waiting for")
        for name, program in programs.items():
            code, written = program.stop(number), program.written()
            assert (name, code) == (name, INTERRUPTED if name == "declare" else 0), written
            assert "Traceback" not in written
            assert ("stopped before it served" in written) == (name != "declare")
