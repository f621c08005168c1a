"""One trial: the tests of a fault, in a process of their own that imports the product from a copy with the fault.

A process is forked from one that has imported what the tests need of others and nothing of ours: a start of Python,
pytest and hypothesis costs several times what most of these tests take, and nothing is shared that a fault can reach.
"""

import ctypes
import importlib
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NoReturn

import pytest
from hypothesis import configuration

from tests.mutants.faults import ROOT, Fault, source_of, with_fault

TEST_S_MAX: Final = 100
"""What hangs is noticed after this. Chosen: ten times what the longest of these tests takes."""
TRIAL_S_MAX: Final = 400
"""Chosen: four times what one test may take, which notices a hang first."""
POLL_S: Final = 0.01
OPTIONS: Final = (
    "-x",
    "-q",
    "-n",
    "0",
    "-rfE",
    "--tb=no",
    "--assert=plain",
    "--hypothesis-seed=0",
    f"--timeout={TEST_S_MAX}",
)
"""`-n 0`, as this is a process for one trial; the same examples each time; asserts as they are, which are cached."""
WITHOUT: Final = ("-p", "no:cacheprovider", "-p", "no:schemathesis")
OF_OTHERS: Final = (
    "anyio.pytest_plugin",
    "cryptography.hazmat.primitives.hpke",
    "hypothesis.internal.conjecture.engine",
    "hypothesis.stateful",
    "msgspec",
    "prometheus_client",
    "pydantic_settings",
    "pytest_asyncio.plugin",
    "pytest_timeout",
    "structlog",
    "xdist.plugin",
)
"""Imported before the fork, since most tests need them."""
_FAILED: Final = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)
_PASSED, _SOME_FAILED = 0, 1  # pytest's exit codes
_PR_SET_PDEATHSIG: Final = 1

Verdict = Literal["noticed", "survived", "broken"]


@dataclass(frozen=True)
class Trial:
    """`fault` None: of the product as it is. `by`: the test that failed; `said`: the end of pytest's, if broken."""

    fault: Fault | None
    tests: tuple[str, ...]
    verdict: Verdict
    seconds: float
    by: str = ""
    said: str = ""


class _Running:
    """A trial under way."""

    def __init__(self, fault: Fault | None, tests: Sequence[str], root: Path) -> None:
        self.fault = fault
        self._tests = tuple(tests)
        self._folder = tempfile.TemporaryDirectory(prefix="mutant-")
        self._begun_s = time.monotonic()
        folder = Path(self._folder.name)
        if fault is not None:
            _copy(fault, root, folder / "src")
        self._pid = os.fork()
        if not self._pid:
            _child(root, folder, self._tests)

    def ended(self) -> Trial | None:
        """Return what came of it, None while it runs."""
        seconds = time.monotonic() - self._begun_s
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        if not pid and seconds < TRIAL_S_MAX:
            return None
        if not pid:
            self._kill()
        said = (Path(self._folder.name) / "said").read_text(errors="replace")
        code = os.waitstatus_to_exitcode(status) if pid else None
        self._folder.cleanup()
        failed = _FAILED.search(said)
        verdict: Verdict = "broken"
        if code == _PASSED:
            verdict = "survived"
        elif code == _SOME_FAILED and failed is not None:
            verdict = "noticed"
        by = failed[1] if failed else ""
        return Trial(self.fault, self._tests, verdict, seconds, by, "" if verdict != "broken" else said[-2000:])

    def stop(self) -> None:
        """End it without a result."""
        self._kill()
        self._folder.cleanup()

    def _kill(self) -> None:
        os.killpg(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


def prepare() -> None:
    """Import what trials need of others. To be called once, where nothing of ours is imported."""
    for module in OF_OTHERS:
        importlib.import_module(module)
    if ours := sorted(module for module in sys.modules if module.startswith("keyforge.")):
        raise RuntimeError(f"{ours[0]} is imported already: trials would not see their faults")


def run(trials: Iterable[tuple[Fault | None, Sequence[str]]], *, jobs: int, root: Path = ROOT) -> Iterator[Trial]:
    """Run trials, `jobs` at a time, and yield them as they end."""
    waiting, running = iter(trials), list[_Running]()
    more = True
    try:
        while more or running:
            while more and len(running) < jobs:
                following = next(waiting, None)
                if following is None:
                    more = False
                else:
                    running.append(_Running(*following, root))
            for one in list(running):
                if (trial := one.ended()) is not None:
                    running.remove(one)
                    yield trial
            time.sleep(POLL_S)  # several children at once: none of them can be waited for by itself
    finally:
        for one in running:
            one.stop()


def _copy(fault: Fault, root: Path, target: Path) -> None:
    """Copy its member with what was compiled of it, but for the one file, and put the fault into that."""
    source, module = source_of(fault, root), Path(fault.file)
    text = with_fault(fault, (source / "keyforge" / module).read_text())

    def compiled_of_it(folder: str, names: list[str]) -> list[str]:
        here = Path(folder) == source / "keyforge" / module.parent / "__pycache__"
        return [name for name in names if here and name.startswith(f"{module.stem}.")]

    member = Path("keyforge") / fault.member
    shutil.copytree(source / member, target / member, ignore=compiled_of_it)
    (target / "keyforge" / module).write_text(text)


def _child(root: Path, folder: Path, tests: Sequence[str]) -> NoReturn:
    """Be the process of a trial: in a group of its own, which ends with who forked it."""
    code = -1
    try:
        os.setsid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        said = os.open(folder / "said", os.O_WRONLY | os.O_CREAT)
        for stream in (1, 2):
            os.dup2(said, stream)
        os.chdir(root)
        os.environ["PYTHONPATH"] = str(folder / "src")  # for what the tests start
        sys.path.insert(0, str(folder / "src"))  # before what is installed
        configuration.set_hypothesis_home_dir(folder / "hypothesis")
        code = int(pytest.main([*OPTIONS, *WITHOUT, "--basetemp", str(folder / "tmp"), *tests]))
        sys.stdout.flush()
    finally:
        os._exit(code if code >= 0 else 255)
