"""One child process: started so that it cannot outlive its parent, its output in a bounded file."""

import asyncio
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from keyforge.contracts.visible import visible
from keyforge.embedded.errors import StackError
from keyforge.embedded.services import Service

LOG_BYTES_MAX: Final = 16 * 1024 * 1024
"""A log file longer than this is moved to <name>.log.1, which it replaces. Precedent: the kubelet keeps 5 files of 10
MiB for each container (containerLogMaxSize). Chosen: two of 16 MiB for each of six processes are 192 MiB."""
LAST_LINE_BYTES: Final = 4096
"""How much of the end of a log file is read for its last line."""
LAST_LINE_CHARS: Final = 300
"""How much of it the operator is shown."""

_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None) if sys.platform == "linux" else None


class Child:
    """The process of one service, running or ended. Start it only from the thread that lives as long as the supervisor:
    Linux signals the death of a parent to a child when the *thread* that made it ends."""

    def __init__(self, service: Service, logs: Path) -> None:
        self.service = service
        self.log = logs / f"{service.name}.log"
        self.started_at = 0.0
        self._log_from = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._ended: asyncio.Future[int] | None = None

    @property
    def pid(self) -> int:
        """Its process id; 0 before the first start."""
        return self._process.pid if self._process else 0

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process. Raises StackError if that is impossible."""
        try:
            with self.log.open("ab") as output:
                os.fchmod(output.fileno(), 0o600)
                self._log_from = output.tell()
                self._process = subprocess.Popen(  # noqa: S603
                    self.service.command,
                    env=dict(self.service.environment),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # Ctrl-C is for the supervisor, which knows the order
                    preexec_fn=_die_with(os.getpid()),  # noqa: PLW1509  # we have one thread; it makes one system call
                )
        except (OSError, subprocess.SubprocessError) as error:
            reason = error.strerror if isinstance(error, OSError) else None
            raise StackError(f"cannot start {self.service.name}: {reason or type(error).__name__}") from error
        self.started_at = time.monotonic()
        self._ended = asyncio.get_running_loop().create_future()

    async def ended(self) -> int:
        """Wait until it has ended; return its exit code, negative for a signal. The owner calls `reap` on SIGCHLD."""
        if self._ended is None:
            raise RuntimeError("not started")
        self.reap()
        return await asyncio.shield(self._ended)

    def reap(self) -> None:
        """Check whether it has ended."""
        if self._process is not None and self._ended is not None and not self._ended.done():
            code = self._process.poll()
            if code is not None:
                self._ended.set_result(code)

    async def stop(self, within_s: float) -> bool:
        """Terminate it, and kill it after `within_s`; return whether it ended by itself."""
        if not self.running:
            return True
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)
        try:
            async with asyncio.timeout(within_s):
                await self.ended()
        except TimeoutError:
            self.signal(signal.SIGKILL)
            await self.ended()
            return False
        return True

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        if self._process is not None:
            self._process.send_signal(number)

    def last_line(self) -> str:
        """Return the last line that it wrote since its start, as `visible` shows it; empty if there is none."""
        try:
            with self.log.open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                begin = self._log_from if self._log_from <= end else 0  # else it was truncated meanwhile
                file.seek(max(begin, end - LAST_LINE_BYTES))
                lines = file.read().decode("utf-8", "replace").strip().splitlines()
        except OSError:
            return ""
        return visible(lines[-1].strip()[:LAST_LINE_CHARS]) if lines else ""

    def rotate(self) -> None:
        """Bound the log file: copy and truncate it, as the process keeps it open; lines written meanwhile are lost."""
        try:
            if self.log.stat().st_size > LOG_BYTES_MAX:
                shutil.copy2(self.log, self.log.with_suffix(".log.1"))
                os.truncate(self.log, 0)
        except OSError:
            return  # a full disk must not end the supervisor; the next call tries again


def reason(code: int) -> str:
    """Return in words how a process ended."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def _die_with(parent: int) -> Callable[[], None] | None:
    """Return what a child does between fork and exec: request SIGKILL at its parent's death, or exit if it is dead."""
    libc = _LIBC
    if libc is None:
        return None

    def request() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return request
