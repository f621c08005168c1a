"""A provider to test against: OpenAI's API on loopback, scripted faults, and books of what it received and billed.

    python -m keyforge.simulator --port 8100
    python -m keyforge.simulator --faults        print the faults that a model's name selects, and end

    POST /v1/chat/completions, /v1/embeddings; GET /v1/models     (any prefix before /v1 is ignored)
    POST /_sim/script   {"rules": [{"model"?, "path"?, "credential"?, "times"?, "behaviour": {...}}]}   add rules
    POST /_sim/reset    drop rules, books and what was cached of prompts
    GET  /_sim/books    ?after=NUMBER&limit=COUNT: totals and entries; see `simulator.books`

The options of a behaviour, and how a request or the name of a model selects one: `simulator.script`; the faults that
names of models select: `simulator.faults`; tools, JSON and reasoning: `simulator.replies`. The prompt is billed when
the head of the answer is written, tokens of a stream with their chunks; an error status bills nothing.
"""

import argparse
import asyncio
import signal
import sys
from datetime import UTC, datetime

import uvloop

from keyforge.simulator.connection import Connection
from keyforge.simulator.faults.table import markdown
from keyforge.simulator.provider import Provider


async def start(host: str = "127.0.0.1", port: int = 0) -> tuple[asyncio.Server, int]:
    """Listen in the running loop; return the server and its port (0 chooses a free one)."""
    loop = asyncio.get_running_loop()
    provider = Provider(lambda: datetime.now(UTC))
    server = await loop.create_server(lambda: Connection(provider, loop), host, port, backlog=2048)
    return server, int(server.sockets[0].getsockname()[1])


async def serve(host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT; print one line once it listens."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    server, port = await start(host, port)
    print(f"simulator listening on http://{host}:{port}", flush=True)  # noqa: T201  # its one line of output
    await stopped.wait()
    server.close()


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m keyforge.simulator", description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--faults", action="store_true", help="print the faults that a model's name selects, and end")
    arguments = parser.parse_args()
    if arguments.faults:
        sys.stdout.write(markdown())
        return
    try:
        uvloop.run(serve(arguments.host, arguments.port))
    except OSError as error:
        sys.stderr.write(f"simulator: cannot listen on port {arguments.port} of {arguments.host}: {error.strerror}\n")
        sys.exit(2)
