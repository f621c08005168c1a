"""CPU per JSON request of the upstream client, beside httpx, against a raw stub in a process of its own.

    python tests/bench/edge_provider_bench.py [--requests 20000] [--concurrency 64]

Prints a JSON line per client: CPU microseconds of this process per request, requests per second. Not a test: hosts
change pace, so only compare within one run.
"""

import argparse
import asyncio
import json
import multiprocessing
import time
from multiprocessing.connection import Connection
from typing import cast

import uvloop

from keyforge.edge.application.provider_call import HeaderBlock, Upstream, UpstreamRequest
from keyforge.edge.core.routing.origin import Origin
from keyforge.edge.outbound.provider_http.client import HttpUpstream
from tests.integration.httpx_upstream import HttpxUpstream

ANSWER = json.dumps(
    {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "model": "bench",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "word " * 160}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 187, "completion_tokens": 160, "total_tokens": 347},
    }
).encode()
HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ndate: now\r\nx-request-id: r\r\ncontent-length: %d\r\n\r\n"
)
BODY = json.dumps(
    {"model": "bench", "messages": [{"role": "user", "content": "word " * 200}], "max_tokens": 160}
).encode()


class Stub(asyncio.Protocol):
    """Answers every request that ends with the bench body."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.left = 0
        self.answer = HEAD % len(ANSWER) + ANSWER

    def data_received(self, data: bytes) -> None:
        if data.endswith(BODY[-16:]) or data.startswith(b"GET"):
            self.transport.write(self.answer)


def serve(pipe: Connection) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", 0, backlog=1024)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(main())


async def measure(name: str, upstream: Upstream, origin: Origin, requests: int, concurrency: int) -> None:
    headers = HeaderBlock.of([(b"authorization", b"Bearer fixture-secret"), (b"content-type", b"application/json")])

    async def worker(count: int) -> None:
        for _ in range(count):
            deadline = time.monotonic() + 30
            answer = await upstream.send(UpstreamRequest(origin, "/v1/chat/completions", headers, BODY, deadline))
            if len(await answer.read()) != len(ANSWER):
                raise SystemExit("a wrong answer")

    async def load(count: int) -> None:
        await asyncio.gather(*(worker(count // concurrency) for _ in range(concurrency)))

    await load(concurrency * 10)
    cpu, wall = time.process_time(), time.monotonic()
    await load(requests)
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    line = {"client": name, "cpu_us": round(cpu / requests * 1e6, 1), "per_s": round(requests / wall)}
    print(json.dumps(line), flush=True)


async def main(port: int, requests: int, concurrency: int) -> None:
    origin = Origin("http", "127.0.0.1", port, allow_insecure=True)
    own = HttpUpstream(time.monotonic)
    await measure("own", own, origin, requests, concurrency)
    await own.close()
    second = HttpxUpstream(time.monotonic)
    await measure("httpx", second, origin, max(requests // 20, concurrency), concurrency)
    await second.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--concurrency", type=int, default=64)
    chosen = parser.parse_args()
    here, there = multiprocessing.Pipe()
    stub = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    stub.start()
    try:
        uvloop.run(main(here.recv(), chosen.requests, chosen.concurrency))
    finally:
        stub.terminate()
        stub.join()
