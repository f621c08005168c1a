"""The provider simulator as a process of its own, with its control API as methods."""

import http.client
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, Final, Self

import msgspec

from keyforge import simulator
from keyforge.testkit.nats_server import die_with_parent

READY_S: Final = 60.0
STOP_S: Final = 30.0


class Simulator:
    """Start with `with Simulator() as simulator:`; `url` is the provider's base URL, ending in /v1."""

    def __init__(self, port: int = 0) -> None:
        self._asked_port = port
        self._process: subprocess.Popen[str] | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The base URL for clients."""
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        """Start and wait until it listens; on the same port as before, if it is started again."""
        command = [sys.executable, "-m", simulator.__name__, "--port", str(self.port or self._asked_port)]
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call, no lock
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith("simulator listening"):
            self.stop()
            raise RuntimeError("the simulator did not start")
        self.port = int(line.strip().rpartition(":")[2])

    def stop(self) -> None:
        """End the process, if it runs."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_S)
        if process.stdout is not None:
            process.stdout.close()

    def script(self, behaviour: Mapping[str, Any] | None = None, **match: Any) -> None:
        """Add a rule: `script({"status": 429}, model="m", times=2)`."""
        rule = {**match, "behaviour": dict(behaviour or {})}
        self._call("POST", "/_sim/script", msgspec.json.encode({"rules": [rule]}))

    def reset(self) -> None:
        """Drop rules and books."""
        self._call("POST", "/_sim/reset")

    def books(self, after: int = 0) -> dict[str, Any]:
        """Return the totals, and up to 10,000 entries numbered above `after`."""
        page: dict[str, Any] = msgspec.json.decode(self._call("GET", f"/_sim/books?after={after}"))
        return page

    def _call(self, method: str, path: str, body: bytes = b"") -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=READY_S)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != 200:
                raise ValueError(text.decode(errors="replace"))
            return text
        finally:
            connection.close()
