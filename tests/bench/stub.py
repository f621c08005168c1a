"""An upstream that streams, as a process of its own: the model that is asked for says how.

    python -m tests.bench.stub [--tls CERTIFICATE KEY]

    hold    a chunk at once, then one every two seconds until a POST to /release ends all of them as they should
    first   the head at once, the first chunk a little later; its content is the moment of its writing (monotonic ns)
    burst   100 chunks, one every 10 ms: a provider's 100 tokens a second

It prints its port in a line, and ends with its standard input.
"""

import argparse
import asyncio
import json
import re
import ssl
import sys
import time
from typing import ClassVar, cast

import uvloop

HOLD_PAUSE_S = 2.0
FIRST_AFTER_S = 0.03
BURST_PAUSE_S = 0.01
BURST_CHUNKS = 100
BACKLOG = 4096
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LENGTH = re.compile(rb"content-length:\s*(\d+)", re.IGNORECASE)
MODEL = re.compile(rb'"model":\s*"(?:[a-z-]+/)?(hold|first|burst)"')
USAGE = {"prompt_tokens": 187, "completion_tokens": 100, "total_tokens": 287}


def event(choices: list[dict[str, object]], usage: dict[str, int] | None = None) -> bytes:
    """Return an event of a stream, framed as a piece of a chunked body."""
    told = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1_763_860_000, "model": "bench"}
    data = b"data: " + json.dumps({**told, "choices": choices, "usage": usage}).encode() + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(data), data)


def delta(text: str) -> bytes:
    """Return an event that says `text`."""
    return event([{"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}])


WORD = delta(" duplicated")
END = (
    event([{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}])
    + event([], USAGE)
    + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
)


class Stub(asyncio.Protocol):
    """One connection, one request after another."""

    held: ClassVar[set["Stub"]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.loop = asyncio.get_running_loop()
        self.read = b""
        self.timer: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        Stub.held.discard(self)
        if self.timer:
            self.timer.cancel()

    def data_received(self, data: bytes) -> None:
        self.read += data
        head, found, body = self.read.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        if found and len(body) >= (int(length.group(1)) if length else 0):
            self.read = b""
            self.answer(head, body)

    def answer(self, head: bytes, body: bytes) -> None:
        """Begin the answer to a request that has come whole."""
        if b" /release " in head.partition(b"\r\n")[0]:
            for one in list(Stub.held):
                one.end()
            self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
            return
        model = MODEL.search(body)
        kind = model.group(1) if model else b""
        self.transport.write(HEAD)
        if kind == b"hold":
            Stub.held.add(self)
            self.hold()
        elif kind == b"first":
            self.timer = self.loop.call_later(FIRST_AFTER_S, self.first)
        else:
            self.timer = self.loop.call_later(BURST_PAUSE_S, self.burst, BURST_CHUNKS, self.loop.time())

    def hold(self) -> None:
        """Say a word, and again later."""
        self.transport.write(WORD)
        self.timer = self.loop.call_later(HOLD_PAUSE_S, self.hold)

    def first(self) -> None:
        """Say what time it is."""
        self.transport.write(delta(f"at {time.monotonic_ns()}"))
        self.timer = self.loop.call_later(FIRST_AFTER_S, self.end)

    def burst(self, left: int, at: float) -> None:
        """Say a word, so many times, at times that do not drift."""
        if not left:
            self.end()
            return
        self.transport.write(WORD)
        self.timer = self.loop.call_at(at + BURST_PAUSE_S, self.burst, left - 1, at + BURST_PAUSE_S)

    def end(self) -> None:
        """End the stream as a provider does."""
        Stub.held.discard(self)
        if self.timer:
            self.timer.cancel()
        self.transport.write(END)


async def serve(tls: list[str] | None) -> None:
    """Serve until nobody holds our standard input any more."""
    context = None
    if tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*tls)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Stub, "127.0.0.1", 0, backlog=BACKLOG, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tls", nargs=2, metavar=("CERTIFICATE", "KEY"))
    uvloop.run(serve(parser.parse_args().tls))
