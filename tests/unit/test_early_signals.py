"""A signal while a program is still imported ends it at once and without a traceback, also the first process of a
container.

Each program is run by its module, as in production, with a finder of modules that sends the signal at its first import
that takes time, so nothing depends on when a signal arrives.
"""

import signal
import subprocess
import sys
from typing import Final

import pytest

from keyforge.contracts import members

INTERRUPTED: Final = """
import os, runpy, signal, sys

class Interrupting:
    def find_spec(self, name, path, target=None):
        if name == sys.argv[2]:
            os.kill(os.getpid(), int(sys.argv[3]))
            os._exit(99)  # it was ignored

sys.meta_path.insert(0, Interrupting())
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever runs the tests
runpy.run_module(sys.argv[1], run_name="__main__", alter_sys=False)
"""
AT: Final = {
    **{f"keyforge.{name}": f"keyforge.{name}.app" for name in members.SERVICES},
    "keyforge.simulator": "keyforge.simulator.server",
    "keyforge.cli": "keyforge.cli.app",
}
"""Each program, and the first import of its own that takes time."""
FIRST: Final = ("unshare", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child")
"""Makes a program the first process of a namespace of its own, as in a container."""


def ended(module: str, number: signal.Signals, *around: str) -> tuple[int, str]:
    """Return the exit code of a program that was sent a signal while it was imported, and what it wrote."""
    done = subprocess.run(
        [*around, sys.executable, "-c", INTERRUPTED, module, AT[module], str(int(number))],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("module", AT)
def test_a_signal_during_the_imports_ends_a_program_at_once(module: str, number: signal.Signals) -> None:
    by_itself = -number if module == "keyforge.cli" else 0
    assert ended(module, number) == (by_itself, "")


@pytest.mark.stack
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("module", AT)
def test_it_ends_the_first_process_of_a_container_too(module: str, number: signal.Signals) -> None:
    """The kernel lets that one ignore what it does not handle."""
    if subprocess.run([*FIRST, "true"], capture_output=True, timeout=120, check=False).returncode:
        pytest.skip("no namespace may be made here")
    assert ended(module, number, *FIRST) == (128 + number if module == "keyforge.cli" else 0, "")
