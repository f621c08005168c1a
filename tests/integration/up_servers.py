"""Small servers in place of services, and a supervisor over them: what is tested is how any process is kept."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from keyforge.contracts import members
from keyforge.embedded.home import Home
from keyforge.embedded.services import Service
from keyforge.embedded.supervisor import Supervisor
from keyforge.testkit.ports import free_ports

WITHIN_S: Final = 60.0

SERVER = """
import http.server, signal, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(sys.argv[3]))
        self.send_header("content-length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass
def end(*_):
    print(sys.argv[2], "ends", file=open(sys.argv[4], "a"))
    sys.exit(sys.argv[5] == "failing" and "something was not stored")
signal.signal(signal.SIGTERM, signal.SIG_IGN if sys.argv[5] == "stubborn" else end)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@asynccontextmanager
async def supervised_in(home: Home) -> AsyncIterator[tuple[Supervisor, list[str]]]:
    """Yield a supervisor and what it reports; stop all at the end."""
    reported: list[str] = []
    supervised = Supervisor(home, reported.append)
    with supervised.signals_handled():
        yield supervised, reported
        await supervised.stop()


def server(name: str, ends: Path, *, status: int = 200, manner: str = "polite") -> Service:
    port = free_ports(1)[0]
    command = (sys.executable, "-c", SERVER, str(port), name, str(status), str(ends), manner)
    return Service(name, command, {}, port, stop_stage=members.process_of(name).stop_stage)


async def until(true: Callable[[], bool], within_s: float = WITHIN_S) -> None:
    async with asyncio.timeout(within_s):
        while not true():  # noqa: ASYNC110  # what is waited for happens in other processes
            await asyncio.sleep(0.01)
