"""An upstream that gives the bench's answer to everything, as a process of its own: where there is no nginx.

    python -m tests.bench.plain_stub PORT

It costs its core several times what nginx does: what the gateway's processes cost is the same, what it serves a second
is not.
"""

import asyncio
import json
import re
import sys
from typing import cast

import uvloop

from tests.bench import bodies

BACKLOG = 4096
LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)


def answer(*, long_heads: bool) -> bytes:
    """Return the whole answer."""
    body = json.dumps(bodies.ANSWER).encode()
    head = [
        ("Server", "stub"),
        ("Date", "Mon, 23 Nov 2026 18:00:00 GMT"),
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Connection", "keep-alive"),
        *(bodies.PROVIDER_HEAD if long_heads else ()),
    ]
    lines = "".join(f"{name}: {value}\r\n" for name, value in head)
    return f"HTTP/1.1 200 OK\r\n{lines}\r\n".encode() + body


ANSWERS = {long_heads: answer(long_heads=long_heads) for long_heads in (False, True)}


class Stub(asyncio.Protocol):
    """One connection, one request after another."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.read = b""

    def data_received(self, data: bytes) -> None:
        self.read += data
        head, found, body = self.read.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        if found and len(body) >= (int(length.group(1)) if length else 0):
            self.read = b""
            path = head.split(b" ", 2)[1]
            self.transport.write(ANSWERS[path.startswith(bodies.LONG_HEADS.encode() + b"/")])


async def serve(port: int) -> None:
    """Serve until the process is ended."""
    server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", port, backlog=BACKLOG)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
