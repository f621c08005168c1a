"""CPU of the edge per JSON request, with nats-server, budget and an nginx as the provider: what it costs and where.

    python -m tests.bench.edge_bench [--connections 64] [--seconds 3] [--runs 3] [--profile FILE] [--no-reserve]

`--profile` writes py-spy's raw stacks of the last run. The edge has core 1, all else shares core 0. Not a gate: that is
`gateway_bench`, which measures the installed stack beside its peers.
"""

import argparse
import asyncio
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from keyforge.contracts import subjects
from keyforge.contracts.ids import CredentialId, ProviderId
from keyforge.testkit.ports import free_ports
from tests.bench import bodies
from tests.bench.measure import GATEWAY_CORE, LOAD_CORE, Load, calibrate, measured, pin, rss_mb, wrk
from tests.bench.upstream import upstream
from tests.integration.edge_stack import EdgeStack

KEYS = 16


async def main() -> None:
    """Print one line per figure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--profile", type=Path)
    parser.add_argument("--no-reserve", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (port,) = free_ports(1)
        module = "tests.bench.edge_without_budget" if asked.no_reserve else "keyforge.edge"
        with upstream(folder, port) as provider:
            async with EdgeStack(folder, edge_module=module, KEYFORGE_LOG_LEVEL="WARNING") as stack:
                await run(asked, stack, folder, provider.body, f"http://127.0.0.1:{port}/v1")


async def run(asked: argparse.Namespace, stack: EdgeStack, folder: Path, body: Path, url: str) -> None:
    """Seed the stack, then load it."""
    provider = ProviderId("bench")
    await stack.credential(provider, CredentialId("bench-one"), "fixture-bench", url=url)
    await stack.provider(provider, [bodies.MODEL], url=url)
    keys = [await stack.key() for _ in range(KEYS)]
    headers = folder / "headers"
    headers.write_text("".join(f"Authorization: Bearer {key.text}\n" for key in keys))
    await stack.until(lambda: stack.chat(keys[0], model=bodies.MODEL), lambda answer: answer.status_code == 200)
    pids = {name: process.pid for name, process in stack.processes.items()} | {"nats": stack.node.pid}
    for name, pid in pids.items():
        pin(pid, GATEWAY_CORE if name == "edge" else LOAD_CORE)
    target = f"http://127.0.0.1:{stack.edge_port}/v1/chat/completions"

    def load(seconds: int = asked.seconds) -> Load:
        return wrk(target, body, headers, connections=asked.connections, seconds=seconds)

    print("calibration", calibrate())
    await asyncio.to_thread(load, 1)
    stream = subjects.log_stream(0)
    before = await stack.log.end(stream)
    found = await asyncio.to_thread(measured, pids, load, runs=asked.runs)
    print("cpu us a request", found.cpu_us)
    print("load", found.load)
    frames = await stack.log.end(stream) - before
    print("frames in the log a request", round(frames / (found.load.requests * found.runs), 3))
    print("edge rss MiB", round(rss_mb(pids["edge"]), 1))
    print("calibration", calibrate())
    if asked.profile:
        await asyncio.to_thread(profile, pids["edge"], asked.profile, load)


def profile(pid: int, file: Path, load: Callable[[int], object]) -> None:
    """Let py-spy watch the edge under load."""
    command = ["py-spy", "record", "-n", "-r", "500", "-d", "4", "-f", "raw", "-o", str(file), "-p", str(pid)]
    with subprocess.Popen(command):
        load(6)


if __name__ == "__main__":
    asyncio.run(main())
