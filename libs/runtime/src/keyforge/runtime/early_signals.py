"""Ends a process at a signal that comes before anything else handles it: while it still imports what it runs.

Imports take up to seconds on a busy machine. Until something handles SIGTERM, the first process of a container ignores
it, so it would go on to serve and be killed; any other shows a traceback at SIGINT. This module therefore imports
nothing that takes time, and a program calls it before its own imports.
"""

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Final

ENDING: Final = (signal.SIGTERM, signal.SIGINT)
"""What asks a program to end."""


def exit_with(code: int) -> None:
    """Let both signals end this process at once with a code. One that is ignored stays ignored: `nohup` and `&` do
    that. Nothing is cleaned up, so call it where nothing was begun; who handles them later replaces this."""

    def end(_number: int, _frame: FrameType | None) -> None:
        os._exit(code)  # an exception may be swallowed by what is imported

    _handle(end)


def die() -> None:
    """Let both signals end this process at once as if nothing handled them: by the signal itself, or with 128 and its
    number where it is the first process, which no signal kills."""

    def end(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        os._exit(128 + number)

    _handle(end)


def _handle(end: Callable[[int, FrameType | None], None]) -> None:
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)
