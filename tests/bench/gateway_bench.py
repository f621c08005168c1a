"""The whole gateway under load, beside its peers, in one run: `./taskw bench` (`--install-peers` once, before).

CPU is microseconds per answered request of each process (user and system, from /proc), medians over the runs. The
edge, or the peer, has core 1 to itself; the load, the upstream and all the rest share core 0. Needs Debian's `wrk` and
`nginx-light`.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.bench import bodies, peers
from tests.bench.measure import (
    GATEWAY_CORE,
    LOAD_CORE,
    Measured,
    calibrate,
    measured,
    pin,
    rss_mb,
    table,
    wait_for,
    wrk,
)
from tests.bench.stack import Stack, free_port, running

GATES_US = {"edge": 110, "budget": 35, "nats": 35, "audit": 80}
PEER_RATIOS = {"ferrogw": 0.6, "portkey": 1 / 8, "litellm": 1 / 75}
RESERVE_RATIO = 2.2
ADDED_P50_MS = 2.0
EDGE_IDLE_MB = 120
PEERS_FOLDER = Path(__file__).parents[2] / ".bench"


@contextmanager
def upstream(folder: Path, port: int) -> Iterator[Path]:
    """Run nginx as the provider; yield the path of the request's body."""
    body, conf = bodies.write(folder, port)
    nginx = subprocess.Popen(["taskset", "-c", LOAD_CORE, "nginx", "-c", str(conf)], stderr=subprocess.DEVNULL)
    try:
        wait_for("the upstream", lambda: answers(f"http://127.0.0.1:{port}/", body, ""), seconds=10)
        yield body
    finally:
        nginx.terminate()
        nginx.wait(10)


def answers(url: str, body: Path, header: str) -> bool:
    """Say whether `url` answers the bench's request with its answer."""
    headers = dict(line.split(": ", 1) for line in header.split("\t") if line)
    try:
        got = httpx.post(url, content=body.read_bytes(), headers={"content-type": "application/json", **headers})
    except httpx.HTTPError:
        return False
    return got.status_code == 200 and "duplicated charge" in got.text


class Bench:
    """What the parts of the bench share: where to write, how long to load, how often."""

    def __init__(self, folder: Path, body: Path, upstream_port: int, seconds: int, runs: int) -> None:
        self.folder, self.body, self.upstream_port = folder, body, upstream_port
        self.seconds, self.runs = seconds, runs

    def load(self, url: str, lines: list[str], pids: dict[str, int], connections: int) -> Measured:
        """Measure one target at so many connections."""
        headers = self.folder / "headers"
        headers.write_text("\n".join(lines) + "\n")

        def once(seconds: int) -> Any:
            return wrk(url, self.body, headers, connections=connections, seconds=seconds)

        once(1)
        return measured(pids, lambda: once(self.seconds), runs=self.runs)

    def keyforge(self, stack: Stack) -> dict[str, Measured]:
        """Measure the gateway with everything on, at 1, 16 and 64 connections, and with reserving off at 64."""
        pids = {name: stack.pids[name] for name in ("edge", "budget", "nats", "audit")}
        for name, pid in pids.items():
            pin(pid, GATEWAY_CORE if name == "edge" else LOAD_CORE)
        lines = [f"Authorization: Bearer {key}" for key in stack.keys]
        url = f"{stack.ready['edge']}/v1/chat/completions"
        found = {f"c{count}": self.load(url, lines, pids, count) for count in (1, 16, 64)}
        with self._without_reserving(stack) as (pid, off):
            found["no reserving"] = self.load(off, lines, {"edge": pid}, 64)
        return found

    @contextmanager
    def _without_reserving(self, stack: Stack) -> Iterator[tuple[int, str]]:
        """Run a second edge, the same but for its reserves."""
        port = free_port()
        pairs = Path(f"/proc/{stack.pids['edge']}/environ").read_bytes().split(b"\0")
        env = dict(pair.decode().split("=", 1) for pair in pairs if b"=" in pair)
        env |= {
            "KEYFORGE_PORT": str(port),
            "KEYFORGE_INSTANCE": "edge-bench",
            "KEYFORGE_BENCH_NO_RESERVE": "1",
            "KEYFORGE_DURABILITY": "relaxed",
        }
        command = ["taskset", "-c", GATEWAY_CORE, sys.executable, "-m", "keyforge.edge"]
        with (self.folder / "edge-bench.log").open("w") as log:
            edge = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
        try:
            url = f"http://127.0.0.1:{port}/v1/chat/completions"
            header = f"Authorization: Bearer {stack.keys[0]}"
            wait_for("the edge without reserving", lambda: answers(url, self.body, header), seconds=30)
            yield edge.pid, url
        finally:
            edge.terminate()
            edge.wait(30)

    def peer(self, peer: peers.Peer) -> Measured:
        """Measure one peer at 64 connections."""
        command = ["taskset", "-c", GATEWAY_CORE, *peer.command]
        with (self.folder / f"{peer.name}.log").open("w") as log:
            process = subprocess.Popen(
                command, env=peers.environment(peer.env), cwd=self.folder, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            wait_for(peer.name, lambda: answers(peer.url, self.body, peer.headers), seconds=90)
            return self.load(peer.url, [peer.headers], {peer.name: process.pid}, 64)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def report(found: dict[str, Any]) -> str:
    """Return the tables: what was measured, and the gates with by how much each is held or missed."""
    rows = [
        [
            name,
            *(one["cpu_us"].get(part, "") for part in GATES_US),
            one["per_s"],
            one["p50_ms"],
            one["p99_ms"],
            one["bad"],
        ]
        for name, one in found["keyforge"].items()
    ]
    text = table(
        "KeyForge: CPU us per request",
        ["load", *GATES_US, "req/s", "p50 ms", "p99 ms", "bad"],
        [*rows, ["upstream alone c1", "", "", "", "", "", found["direct"]["p50_ms"], found["direct"]["p99_ms"], ""]],
    )
    text += table(
        "Peers: CPU us per request at 64 connections",
        ["gateway", "us", "req/s", "p50 ms", "bad"],
        [[name, one["cpu_us"][name], one["per_s"], one["p50_ms"], one["bad"]] for name, one in found["peers"].items()],
    )
    text += table("Gates", ["gate", "measured", "bound", "verdict"], gates(found))
    paces = " at the start, ".join(str(found[name]) for name in ("calibration", "calibration_end"))
    return f"{text}calibration (us, core 0 and 1): {paces} at the end\n"


def gates(found: dict[str, Any]) -> list[list[object]]:
    """Return a row per gate: its name, what was measured, the bound, held or missed by how much."""
    full, off = found["keyforge"]["c64"]["cpu_us"], found["keyforge"]["no reserving"]["cpu_us"]["edge"]
    rows: list[tuple[str, float, float]] = [(f"{part} us", full[part], bound) for part, bound in GATES_US.items()]
    rows.append(("edge / edge without reserving", full["edge"] / off, RESERVE_RATIO))
    for name, ratio in PEER_RATIOS.items():
        if name in found["peers"]:
            rows.append((f"edge / {name}", full["edge"] / found["peers"][name]["cpu_us"][name], ratio))
    added = found["keyforge"]["c1"]["p50_ms"] - found["direct"]["p50_ms"]
    rows.append(("added p50 at one connection, ms", added, ADDED_P50_MS))
    rows.append(("edge idle MB", found["edge_idle_mb"], EDGE_IDLE_MB))
    return [
        [name, f"{value:.3g}", f"{bound:.3g}", "held" if value <= bound else f"missed, {value / bound:.2f} x"]
        for name, value, bound in rows
    ]


def plain(one: Measured) -> dict[str, Any]:
    """Return a measurement as data."""
    load = one.load
    return {"cpu_us": one.cpu_us, "per_s": load.per_s, "p50_ms": load.p50_ms, "p99_ms": load.p99_ms, "bad": load.bad}


def run(seconds: int, runs: int, only: set[str] | None) -> dict[str, Any]:
    """Run the whole bench; return its figures."""
    found: dict[str, Any] = {"calibration": calibrate()}
    with tempfile.TemporaryDirectory(prefix="keyforge-bench-") as scratch:
        folder, port = Path(scratch), free_port()
        with upstream(folder, port) as body:
            bench = Bench(folder, body, port, seconds, runs)
            found["direct"] = plain(bench.load(f"http://127.0.0.1:{port}/v1/chat/completions", ["X-None: 1"], {}, 1))
            with running(folder / "home", port) as stack:
                found["edge_idle_mb"] = round(rss_mb(stack.pids["edge"]), 1)
                found["keyforge"] = {name: plain(one) for name, one in bench.keyforge(stack).items()}
            ready = peers.ready(PEERS_FOLDER, folder, upstream=port, ports=[free_port() for _ in range(3)])
            found["peers"] = {one.name: plain(bench.peer(one)) for one in ready if not only or one.name in only}
    found["calibration_end"] = calibrate()
    return found


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=4, help="length of one run")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--peers", help="only these, separated by commas; `none` for none")
    parser.add_argument("--install-peers", action="store_true", help="install the peers into .bench/ first")
    parser.add_argument("--json", action="store_true")
    told = parser.parse_args()
    missing = [name for name in ("wrk", "nginx", "taskset") if shutil.which(name) is None]
    if missing or (os.cpu_count() or 1) < 2:
        print(f"bench: needs {', '.join(missing) or 'two cores'} (Debian: wrk nginx-light util-linux)", file=sys.stderr)
        return 2
    if told.install_peers:
        peers.install(PEERS_FOLDER)
    found = run(told.seconds, told.runs, set(told.peers.split(",")) if told.peers else None)
    print(json.dumps(found, indent=1) if told.json else report(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
