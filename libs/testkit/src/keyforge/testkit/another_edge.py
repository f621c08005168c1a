"""A second edge of a stack, in a process of its own with the same settings except for its name and port."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.error import URLError
from urllib.request import urlopen

from keyforge.testkit.nats_server import ServerFailed, die_with_parent, wait_until
from keyforge.testkit.ports import free_ports
from keyforge.testkit.stack import Stack

READY_WITHIN_S: Final = 60.0
STOP_WITHIN_S: Final = 60.0


class AnotherEdge:
    """Its address, and how it ends."""

    def __init__(self, url: str, process: "subprocess.Popen[bytes]") -> None:
        self.url = url
        self._process = process

    def kill(self) -> None:
        """SIGKILL it, and wait until it has ended."""
        self._process.kill()
        self._process.wait(STOP_WITHIN_S)

    def stop(self) -> None:
        """End it as an operator would, if it still runs; kill it if it does not end."""
        self._process.terminate()
        try:
            self._process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def ready(self) -> bool:
        """Return whether it is ready. Raises ServerFailed if it has ended."""
        if self._process.poll() is not None:
            raise ServerFailed(f"the other edge ended with {self._process.returncode}")
        try:
            with urlopen(f"{self.url}/readyz", timeout=2) as answer:  # noqa: S310  # loopback, our own port
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False


@contextmanager
def another_edge(stack: Stack, folder: Path, **changed: str) -> Iterator[AnotherEdge]:
    """Run a second edge of a stack until the end of the block. `changed`: settings of its own."""
    (port,) = free_ports(1)
    variables = Path(f"/proc/{stack.pids()['edge']}/environ").read_bytes().split(b"\0")
    settings = dict(pair.decode().split("=", 1) for pair in variables if b"=" in pair)
    settings |= {"KEYFORGE_PORT": str(port), "KEYFORGE_INSTANCE": "edge-1", **changed}
    with (folder / "edge-1.log").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "keyforge.edge"],
            env=settings,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call, no lock
        )
    edge = AnotherEdge(f"http://127.0.0.1:{port}", process)
    try:
        wait_until(edge.ready, "the other edge is ready", timeout_s=READY_WITHIN_S)
        yield edge
    finally:
        edge.stop()
