"""A whole embedded stack for end-to-end tests: `keyforge up` on a home and ports of its own, with its processes.

Everything is read from the running stack itself (ready.json): nothing here depends on how the supervisor works.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from keyforge.contracts import members
from keyforge.testkit.nats_server import ServerFailed, die_with_parent, wait_until
from keyforge.testkit.ports import free_port_base

READY_WITHIN_S: Final = 120.0
"""Generous: tests share few cores. The bench measures how long it takes."""
STOP_WITHIN_S: Final = 45.0
RESTART_WITHIN_S: Final = 60.0
_KEPT: Final = ("PATH", "HOME", "LANG", "TZ", "TMPDIR")


class Stack:
    """One `keyforge up`. The home outlives stop and start, so does the port base."""

    def __init__(self, home: Path, *, environment: Mapping[str, str] | None = None) -> None:
        """`environment` is added to a minimal one: a provider's key, a log level."""
        self.home = home
        self.output = home.parent / f"{home.name}.out"
        self.port_base = free_port_base()
        self.variables = dict(environment or {})
        """What is added to a minimal environment; a test may change it between two starts."""
        self._process: subprocess.Popen[bytes] | None = None
        self._facts: dict[str, Any] = {}

    @property
    def environment(self) -> dict[str, str]:
        """What `keyforge` needs to find this stack, and to start it again."""
        bare = {name: os.environ[name] for name in _KEPT if name in os.environ}
        ours = {"KEYFORGE_HOME": str(self.home), "KEYFORGE_PORT_BASE": str(self.port_base)}
        return {**bare, **self.variables, **ours}

    @property
    def facts(self) -> dict[str, Any]:
        """The content of ready.json when it was last read."""
        return self._facts

    def url(self, service: str) -> str:
        """Return where a service is: edge, keys, budget, audit, clickhouse, nats, simulator."""
        return str(self._facts[service])

    @property
    def admin_token(self) -> str:
        """A platform admin's token."""
        return str(self._facts["admin_token"])

    @property
    def demo_key(self) -> str:
        """A virtual key of tenant `demo`."""
        return str(self._facts["demo_key"])

    @property
    def running(self) -> bool:
        """Whether the supervisor runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def supervisor_pid(self) -> int:
        """The process id of `keyforge up`."""
        if self._process is None:
            raise ServerFailed("the stack was not started")
        return self._process.pid

    def pids(self) -> dict[str, int]:
        """Return the current process ids; a restarted service has a new one as soon as it was started."""
        self._read()
        return {str(name): int(pid) for name, pid in self._facts["pids"].items()}

    def launch(self) -> None:
        """Start the supervisor and do not wait."""
        self.home.parent.mkdir(parents=True, exist_ok=True)
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "keyforge.cli", "up"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call, no lock
            )

    def start(self, within_s: float = READY_WITHIN_S) -> None:
        """Start everything and wait until it is ready. Raises ServerFailed with the output of the supervisor."""
        if self.running:
            return
        self.launch()

        def ready() -> bool:
            if not self.running:
                raise ServerFailed(f"`keyforge up` ended: {self.printed()[-2000:]}")
            return self._read()

        try:
            wait_until(ready, "a stack that is ready", timeout_s=within_s)
        except ServerFailed as error:
            printed = self.printed()[-2000:]
            self.stop()
            raise ServerFailed(f"{error}; it printed: {printed}") from error

    def stop(self) -> int | None:
        """End it as an operator would (SIGTERM); return its exit code, None if it was never started."""
        if self._process is None:
            return None
        if self.running:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(STOP_WITHIN_S)
        return self._process.returncode

    def kill_supervisor(self) -> None:
        """SIGKILL the supervisor alone; its services must die with it."""
        os.kill(self.supervisor_pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait(STOP_WITHIN_S)

    def kill(self, service: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Signal a service; return the process id that it had."""
        pid = self.pids()[service]
        os.kill(pid, number)
        return pid

    @contextlib.contextmanager
    def paused(self, service: str) -> Iterator[int]:
        """SIGSTOP a service for the duration of the block: its sockets stay open and it does not answer."""
        pid = self.kill(service, signal.SIGSTOP)
        try:
            yield pid
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def wait_replaced(self, service: str, old_pid: int, within_s: float = RESTART_WITHIN_S) -> int:
        """Wait until another process runs a service, and return its id."""

        def replaced() -> int | None:
            pid = self.pids().get(service, old_pid) if self._read() else old_pid
            return pid if pid != old_pid else None

        return wait_until(replaced, f"{service} started again", timeout_s=within_s)

    def wait_healthy(self, service: str, within_s: float = RESTART_WITHIN_S) -> None:
        """Wait until a service is healthy."""
        from urllib.error import URLError
        from urllib.request import urlopen

        process = members.process_of(service)
        url = self.url(process.ready_port) + process.ready_path

        def healthy() -> bool:
            try:
                with urlopen(url, timeout=2) as answer:  # noqa: S310  # loopback, from ready.json
                    return bool(answer.status == 200)
            except (URLError, OSError):
                return False

        wait_until(healthy, f"{service} is healthy", timeout_s=within_s)

    def restart(self, service: str) -> None:
        """Kill a service and wait until its successor is healthy."""
        old = self.kill(service)
        self.wait_replaced(service, old)
        self.wait_healthy(service)

    def printed(self) -> str:
        """Return everything that the supervisor printed, over all starts."""
        return self.output.read_text("utf-8", "replace") if self.output.exists() else ""

    def log(self, service: str) -> str:
        """Return the log of a service."""
        path = self.home / "logs" / f"{service}.log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def cli(self, *arguments: str, stdin: str = "", timeout_s: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Run the command line against this stack."""
        return subprocess.run(
            [sys.executable, "-m", "keyforge.cli", *arguments],
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def _read(self) -> bool:
        try:
            found = json.loads((self.home / "ready.json").read_bytes())
        except (OSError, ValueError):
            return False
        if found["supervisor"] != self.supervisor_pid:
            return False  # of a supervisor that was killed
        self._facts = found
        return True


def processes_of(pids: Mapping[str, int], within_s: float) -> list[str]:
    """Wait until these processes have ended, within a bound; return the names of those that still run."""
    end = time.monotonic() + within_s
    while True:
        left = [name for name, pid in pids.items() if _alive(pid)]
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.02)


def _alive(pid: int) -> bool:
    """Return whether a process runs; one that has ended and was not collected yet does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state not in {"Z", "X"}
