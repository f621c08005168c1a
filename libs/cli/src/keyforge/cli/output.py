"""The standard streams of the command line: what cannot be written is an error that is named, not lost in silence.

The first write to a stdout that is closed, or on a disk that is full, raises OutputError. From then on output is
discarded, so that neither a further write nor the interpreter's own at its end fails again. On stderr,
which leaves nowhere to report it, it is discarded at once: a message that is lost must not change the exit code.
"""

import errno
import io
import os
import select
import sys
from typing import Any, Final, TextIO

from keyforge.cli.errors import OutputError

_CLOSED: Final = OSError(errno.EBADF, "it is closed")


class _Stream(io.FileIO):
    """The bytes of stdout or stderr. `wrong`: why nothing can be written from the beginning."""

    def __init__(self, number: int, *, wrong: OSError | None, raising: bool) -> None:
        super().__init__(number, "w", closefd=False)
        self._wrong = wrong
        self._raising = raising
        self._lost = False

    def write(self, data: Any, /) -> int:
        """Write some of it; return how many bytes. Raises OutputError, once."""
        if self._lost:
            return memoryview(data).nbytes
        try:
            self.require()
            while (written := super().write(data)) is None:  # another program made it non-blocking
                select.select([], [self], [])
        except (OSError, OutputError) as error:
            self._lost = True
            if self._raising:
                raise _lost(error) from error
            return memoryview(data).nbytes
        return written

    def require(self) -> None:
        """Raise OutputError if it is known that nothing can be written."""
        if self._wrong is not None:
            raise _lost(self._wrong)


def open_streams() -> None:
    """Replace the standard streams by those of this module. One that is closed can be neither read nor written."""
    if sys.stdin is None:
        sys.stdin = open(_filled(0), encoding="utf-8", closefd=False)  # noqa: SIM115  # as long as we run
    sys.stdout = _opened(sys.stdout, 1, raising=True)
    sys.stderr = _opened(sys.stderr, 2, raising=False)


def flush() -> None:
    """Write what waits. Raises OutputError."""
    sys.stdout.flush()


def require_stdout() -> None:
    """Raise OutputError if stdout is closed: before something is done whose result is shown only once."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if isinstance(raw, _Stream):
        raw.require()


def _opened(stream: TextIO | None, number: int, *, raising: bool) -> TextIO:
    """Return a stream in place of one of the interpreter's, which is None where it was closed."""
    if stream is not None and not isinstance(stream, io.TextIOWrapper):
        return stream  # of a program that runs us in its own process
    wrong = None if stream is not None else _CLOSED
    raw = _Stream(number if stream is not None else _filled(number), wrong=wrong, raising=raising)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding="utf-8" if stream is None else stream.encoding,
        errors="backslashreplace",
        line_buffering=number == 2 or raw.isatty(),
    )


def _filled(number: int) -> int:
    """Give a number that was closed to /dev/null, so that no connection gets it; return the number."""
    try:
        os.fstat(number)
    except OSError:
        null = os.open(os.devnull, os.O_RDWR)
        if null != number:
            os.dup2(null, number)
            os.close(null)
    return number


def _lost(error: OSError | OutputError) -> OutputError:
    if isinstance(error, OutputError):
        return error
    return OutputError(f"standard output cannot be written: {error.strerror or type(error).__name__}")
