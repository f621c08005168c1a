"""The README's commands do what it says: each block is run as it stands, against a stack that `./taskw up` started."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyforge.testkit.nats_server import die_with_parent, wait_until
from keyforge.testkit.ports import free_port_base

pytestmark = pytest.mark.stack

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
COMMANDS = [code for language, code in BLOCKS if language == "sh" and "./taskw test" not in code]
PROGRAMS = [code for language, code in BLOCKS if language == "python"]
READY_WITHIN_S = 120


def variables(home: Path, base: int) -> dict[str, str]:
    return {**os.environ, "KEYFORGE_HOME": str(home), "KEYFORGE_PORT_BASE": str(base)}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """A home and a port base that the README's own way to start has brought up."""
    home, base = tmp_path_factory.mktemp("readme") / "home", free_port_base()
    output = home.parent / "output"
    with output.open("w") as written:
        up = subprocess.Popen(
            ["./taskw", "up"],
            cwd=ROOT,
            env=variables(home, base),
            stdout=written,
            stderr=written,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call, no lock
        )
    try:

        def ready() -> bool:
            assert up.poll() is None, output.read_text()
            return (home / "ready.json").exists()

        wait_until(ready, "`./taskw up` is ready", timeout_s=READY_WITHIN_S)
        yield home, base
    finally:
        up.send_signal(signal.SIGTERM)
        assert up.wait(60) == 0


def placed(code: str, home: Path, base: int) -> str:
    """Put this test's ports and home where the README has the defaults."""
    moved = re.sub(r"127\.0\.0\.1:80(8\d)", lambda found: f"127.0.0.1:{base + int(found[1]) - 80}", code)
    return moved.replace(".keyforge/", f"{home}/")


def test_there_is_something_to_run() -> None:
    assert len(COMMANDS) >= 3
    assert len(PROGRAMS) >= 1


@pytest.mark.parametrize("code", COMMANDS, ids=lambda code: code.split("\n")[0][:40])
def test_commands(place: tuple[Path, int], code: str) -> None:
    home, base = place
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", placed(code, home, base)],
        cwd=ROOT, env=variables(home, base), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()
    assert '"error"' not in done.stdout


@pytest.mark.parametrize("code", PROGRAMS, ids=lambda code: code.split("\n")[0][:40])
def test_programs(place: tuple[Path, int], code: str) -> None:
    home, base = place
    done = subprocess.run(
        [sys.executable, "-c", placed(code, home, base)],
        cwd=ROOT, env=variables(home, base), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
