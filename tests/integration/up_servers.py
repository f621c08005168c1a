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
import http.server, os, signal, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(sys.argv[3]))
        self.send_header("content-length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass
def end(*_):
    manner = sys.argv[5]
    print(sys.argv[2], "ends", file=open(sys.argv[4], "a"), flush=True)
    if manner.startswith("SIG"):
        print("outcomes are being stored", flush=True)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.Signals[manner])
    while manner == "slow" and not os.path.exists(sys.argv[4] + ".go"):
        time.sleep(0.01)
    sys.exit({"failing": "something was not stored", "colourful": "not\x1b[31m stored\x07"}.get(manner))
def break_down(*_):
    print("the ledger broke", flush=True)
    os._exit(1)
signal.signal(signal.SIGUSR1, break_down)
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


@asynccontextmanager
async def supervised_below(folder: Path) -> AsyncIterator[tuple[Supervisor, list[str]]]:
    """As `supervised_in`, with a new home in this folder."""
    home = Home(folder / "home")
    home.prepare()
    async with supervised_in(home) as found:
        yield found


def server(name: str, ends: Path, *, status: int = 200, manner: str = "polite") -> Service:
    """Return a server that ends when it is asked to, with a line in `ends`, in a `manner`: polite, failing, colourful,
    by a signal such as SIGSEGV, slow (once there is `ends`.go) or stubborn, not at all. SIGUSR1 breaks it down."""
    port = free_ports(1)[0]
    command = (sys.executable, "-c", SERVER, str(port), name, str(status), str(ends), manner)
    return Service(name, command, {}, port, stop_stage=members.process_of(name).stop_stage)


async def until(true: Callable[[], bool], within_s: float = WITHIN_S) -> None:
    async with asyncio.timeout(within_s):
        while not true():  # noqa: ASYNC110  # what is waited for happens in other processes
            await asyncio.sleep(0.01)
