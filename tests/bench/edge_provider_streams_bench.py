"""Memory and delay of open streams in the upstream client and the meter, against a raw stub in a process of its own.

    python tests/bench/edge_provider_streams_bench.py [--streams 1000]

Prints a JSON line: KB of resident memory per open stream, CPU microseconds per chunk of this process, and the delay
from the stub's write of a chunk to the moment it could be written to the agent (milliseconds, first chunks and all).
"""

import argparse
import asyncio
import json
import multiprocessing
import statistics
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import cast

import uvloop

from keyforge.edge.application.provider_call import HeaderBlock, UpstreamRequest
from keyforge.edge.core.dialects.openai_chat.stream import StreamMeter
from keyforge.edge.core.routing.origin import Origin
from keyforge.edge.outbound.provider_http.client import HttpUpstream

CHUNKS = 20
PAUSE_S = 0.5
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Stub(asyncio.Protocol):
    """Answers any request with a slow stream whose chunks carry the time of their writing."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        assert data.endswith(b"{}")
        self.transport.write(HEAD)
        asyncio.get_running_loop().call_later(0.2, self.chunk, 0)

    def chunk(self, number: int) -> None:
        if number == CHUNKS:
            self.transport.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
            return
        delta = {"index": 0, "delta": {"content": f"{time.monotonic():.6f}"}, "finish_reason": None}
        event = (
            b"data: " + json.dumps({"id": "chatcmpl-bench", "model": "bench", "choices": [delta]}).encode() + b"\n\n"
        )
        self.transport.write(b"%x\r\n%s\r\n" % (len(event), event))
        asyncio.get_running_loop().call_later(PAUSE_S, self.chunk, number + 1)


def serve(pipe: Connection) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", 0, backlog=4096)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(main())


def resident_kb() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


async def main(port: int, streams: int) -> None:
    upstream = HttpUpstream(time.monotonic)
    origin = Origin("http", "127.0.0.1", port, allow_insecure=True)
    first: list[float] = []
    every: list[float] = []

    async def one() -> None:
        request = UpstreamRequest(origin, "/v1/chat/completions", HeaderBlock(), b"{}", time.monotonic() + 120)
        meter = StreamMeter(keep_usage=False)
        delays = []
        async for piece in await upstream.send(request):
            passed = meter.feed(piece)
            if b"content" in passed:
                delays.append(time.monotonic() - float(passed.partition(b'"content": "')[2].partition(b'"')[0]))
        assert meter.done
        first.append(delays[0])
        every.extend(delays)

    await one()
    first.clear()
    every.clear()
    before = resident_kb()
    tasks = []
    for number in range(streams):
        tasks.append(asyncio.create_task(one()))
        if number % 20 == 19:
            await asyncio.sleep(0.05)
    cpu, wall = time.process_time(), time.monotonic()
    await asyncio.sleep(3)
    chunks = (time.monotonic() - wall) / PAUSE_S * streams
    line = {
        "streams": streams,
        "kb_per_stream": round((resident_kb() - before) / streams, 1),
        "cpu_us_per_chunk": round((time.process_time() - cpu) / chunks * 1e6, 1),
    }
    await asyncio.gather(*tasks)
    for name, delays in (("first", first), ("every", every)):
        line[f"{name}_p50_ms"] = round(statistics.median(delays) * 1e3, 2)
        line[f"{name}_p99_ms"] = round(statistics.quantiles(delays, n=100)[98] * 1e3, 2)
    print(json.dumps(line), flush=True)
    await upstream.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=1000)
    chosen = parser.parse_args()
    here, there = multiprocessing.Pipe()
    stub = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    stub.start()
    try:
        uvloop.run(main(here.recv(), chosen.streams))
    finally:
        stub.terminate()
        stub.join()
