"""A signal at any moment of a start ends a program that is the first process of a container, which ignores what it does
not handle. That something handles it before the imports is in tests/unit/test_early_signals.py."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import pytest

from keyforge.contracts import members
from keyforge.testkit.nats_server import NatsNode, die_with_parent, wait_until
from tests.integration.start_environment import environment

pytestmark = pytest.mark.stack

WITHIN_S: Final = 60.0
AFTER_S: Final = (0.0, 0.2, 0.5, 1.0)
"""How long after the first moment at which the program handles a signal."""
FIRST: Final = ("unshare", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child")
DIED: Final = 128 + signal.SIGTERM
INTERRUPTED: Final = 130
ENDS: Final = {**dict.fromkeys(members.SERVICES, (0,)), "declare": (DIED, INTERRUPTED), "up": (DIED, 0)}
"""Exit codes: the command line dies by a signal until a command handles it."""


@pytest.fixture(scope="module", autouse=True)
def _namespaces() -> None:
    if subprocess.run([*FIRST, "true"], capture_output=True, timeout=120, check=False).returncode:
        pytest.skip("no namespace may be made here")


@pytest.mark.parametrize("program", ENDS)
def test_a_signal_at_any_moment_ends_the_first_process(tmp_path: Path, program: str) -> None:
    """There is no log, so whatever misses the signal waits for one, or is a whole stack that runs."""
    node = NatsNode(tmp_path / "nats")
    changed = {} if program in members.SERVICES else {"KEYFORGE_LOG_BYTES_MAX": str(64 * 1024 * 1024)}
    for number, after_s in enumerate(AFTER_S):
        code, written = _ended(program, environment(program, node, tmp_path / str(number), changed), after_s)
        assert code in ENDS[program], (after_s, written)
        assert "Traceback" not in written


def _ended(program: str, variables: dict[str, str], after_s: float) -> tuple[int, str]:
    """Return the exit code of a program that was sent SIGTERM `after_s` after it first handled that, and its output."""
    module = [f"keyforge.{program}"] if program in members.SERVICES else ["keyforge.cli", program]
    with subprocess.Popen(
        [*FIRST, sys.executable, "-P", "-m", *module],
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call, no lock
    ) as outer:
        try:
            first = wait_until(lambda: _child(outer.pid), "it is started", timeout_s=WITHIN_S)
            wait_until(lambda: _handles(first, signal.SIGTERM), "it handles a signal", timeout_s=WITHIN_S)
            time.sleep(after_s)  # the moment is what is tested
            os.kill(first, signal.SIGTERM)
            written, _ = outer.communicate(timeout=WITHIN_S)
        finally:
            outer.kill()
    return outer.returncode, written


def _child(pid: int) -> int | None:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else None


def _handles(pid: int, number: signal.Signals) -> bool:
    (caught,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.partition(":")[2], 16) >> (number - 1) & 1)
