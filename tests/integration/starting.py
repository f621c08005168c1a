"""Starts many processes of services and of the command line, each with its own environment, from one interpreter.

    python -m tests.integration.starting < starts.json > ends.json

A start is `[program, environment]`, an end is `[exit code, stderr]`. Imports, which are most of
a start, are made once; from there on each is a process of its own, forked before anything runs.
"""

import gc
import json
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from typing import IO, Final, NoReturn

import uvloop  # noqa: F401 - programs import it when they run

import keyforge.budget.app
import keyforge.edge.app
import keyforge.keys.app  # noqa: F401
from keyforge.audit import __main__ as audit
from keyforge.audit import app
from keyforge.audit.settings import AuditSettings
from keyforge.budget import __main__ as budget
from keyforge.cli import main as cli
from keyforge.edge import __main__ as edge
from keyforge.keys import __main__ as keys

PROGRAMS: Final[dict[str, Callable[[], int | None]]] = {
    "audit": audit.run,
    "budget": budget.run,
    "declare": cli.main,
    "edge": edge.run,
    "keys": keys.run,
    "up": cli.main,
}
STARTED_S: Final = 30
"""What has not ended by then has started, and ends by SIGALRM."""


def main() -> None:
    """Start all, then wait for all."""
    app.load = _not_loaded
    gc.collect()
    gc.freeze()
    begun = [_fork(program, environment) for program, environment in json.load(sys.stdin)]
    ends = []
    for pid, output in begun:
        _, status = os.waitpid(pid, 0)
        output.seek(0)
        ends.append([os.waitstatus_to_exitcode(status), output.read().decode()])
    json.dump(ends, sys.stdout)


def _not_loaded(settings: AuditSettings) -> None:
    """The engine takes seconds to import, and nothing here gets to using it."""
    del settings


def _fork(program: str, environment: dict[str, str]) -> tuple[int, IO[bytes]]:
    output = tempfile.TemporaryFile()  # noqa: SIM115 - read once the process has ended
    pid = os.fork()
    if pid == 0:
        os.dup2(output.fileno(), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = ["keyforge", program]
        _run(program)
    return pid, output


def _run(program: str) -> NoReturn:
    signal.alarm(STARTED_S)
    code = 1
    try:
        code = PROGRAMS[program]() or 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
