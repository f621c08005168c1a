"""The whole gateway under load, beside its peers, in one run: `./taskw bench` (`--install-peers` once, before).

json     CPU per JSON request at 1, 16 and 64 connections, with one tenant, and without reserving
fleet    CPU per JSON request with 1,000 keys of 100 tenants, 20 header lines from the agent and 25 from the provider
streams  memory of open streams (over a TLS upstream as well), the way of the first chunk, CPU per chunk
r3       latency at one connection over three replicas
peers    CPU per JSON request of other gateways, and of this one in turn with them

CPU is microseconds per answered request of each process (user and system, from /proc), medians over the runs, with what
a run left to be done after it. `pace` is a fixed Python loop around each run: hosts change theirs, so a run with
different paces before and behind it is made again, and ratios are of runs that followed each other.

The edge, or the peer, has core 1 to itself; the load, the upstream and all the rest share core 0, which is busy first:
the edge is not driven to its limit, the peers are. Needs Debian's `wrk`. Without its `nginx-light` a stub of ours is
the upstream: that changes how much the gateway is asked, and not what it costs. The exit code is 0 whatever the gates
say, 1 if a part could not be measured.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.bench import bodies, peers
from tests.bench.measure import (
    GATEWAY_CORE,
    LOAD_CORE,
    LogSize,
    Measured,
    calibrate,
    measured,
    pin,
    rss_mb,
    wait_for,
    wrk,
)
from tests.bench.report import Found, report
from tests.bench.stack import KEYS_PER_TENANT, another_edge, free_port, plain_provider, running
from tests.bench.upstream import Upstream, answers, upstream

PATH = "/v1/chat/completions"
PARTS = ("json", "fleet", "streams", "r3", "peers")
FLEET_TENANTS, FLEET_KEYS_PER_TENANT = 100, 10
PEERS_FOLDER = Path(__file__).parents[2] / ".bench"


class Bench:
    """What the parts of the bench share: where to write, how long to load, how often."""

    def __init__(self, folder: Path, provider: Upstream, upstream_port: int, seconds: int, runs: int) -> None:
        self.folder, self.provider, self.upstream_port = folder, provider, upstream_port
        self.body = provider.body
        self.seconds, self.runs = seconds, runs

    def load(
        self,
        url: str,
        lines: list[str],
        pids: dict[str, int],
        connections: int,
        log: Callable[[], LogSize] | None = None,
        runs: int | None = None,
    ) -> Measured:
        """Measure one target at so many connections."""
        headers = self.folder / "headers"
        headers.write_text("\n".join(lines) + "\n")

        def once(seconds: int) -> Any:
            return wrk(url, self.body, headers, connections=connections, seconds=seconds)

        once(1)
        known = {**pids, "upstream": self.provider.pid}
        return measured(known, lambda: once(self.seconds), runs=runs or self.runs, log=log)

    def direct(self) -> Found:
        """Measure the upstream alone, at one connection."""
        return plain(self.load(f"http://127.0.0.1:{self.upstream_port}{PATH}", ["X-None: 1"], {}, 1))

    def measure_json(self) -> Found:
        """Measure the gateway with everything on, at 1, 16 and 64 connections, and at 64 with less to do."""
        with running(self.folder / "json", [plain_provider(self.upstream_port)]) as stack:
            found: Found = {"direct": self.direct(), "edge_idle_mb": round(rss_mb(stack.pids["edge"]), 1)}
            pids = {name: stack.pids[name] for name in ("edge", "budget", "nats", "audit")}
            for name, pid in stack.pids.items():
                pin(pid, GATEWAY_CORE if name == "edge" else LOAD_CORE)
            lines = bearers(stack.keys)
            url = f"{stack.ready['edge']}{PATH}"
            one = {f"c{count}": self.load(url, lines, pids, count, stack.log) for count in (1, 16, 64)}
            one["c64, one tenant"] = self.load(url, lines[:KEYS_PER_TENANT], pids, 64, stack.log)
            with another_edge(stack, self.folder, module="tests.bench.edge_without_budget") as (pid, other):
                one["no reserving"] = self.load(f"{other}{PATH}", lines, {"edge": pid}, 64)
        return found | {"keyforge": {name: plain(row) for name, row in one.items()}}

    def measure_fleet(self) -> Found:
        """Measure the gateway with many keys, and with heads as long as SDKs and providers send them."""
        provider = plain_provider(self.upstream_port, bodies.LONG_HEADS)
        size = {"tenants": FLEET_TENANTS, "keys_per_tenant": FLEET_KEYS_PER_TENANT}
        with running(self.folder / "fleet", [provider], **size) as stack:
            pids = {name: stack.pids[name] for name in ("edge", "budget", "nats", "audit")}
            for name, pid in stack.pids.items():
                pin(pid, GATEWAY_CORE if name == "edge" else LOAD_CORE)
            long = long_heads(stack.keys)
            url = f"{stack.ready['edge']}{PATH}"
            rows = {f"c{count}": self.load(url, long, pids, count, stack.log) for count in (1, 64)}
            rows["c64, one tenant"] = self.load(url, long[:FLEET_KEYS_PER_TENANT], pids, 64, stack.log)
            rows["c64, 4 header lines in"] = self.load(url, bearers(stack.keys), pids, 64, stack.log)
        return {"fleet": {"keys": len(stack.keys), "loads": {name: plain(row) for name, row in rows.items()}}}

    def measure_r3(self) -> Found:
        """Measure the gateway on a cluster of three, at one connection."""
        from tests.bench.cluster import running_on_cluster

        with running_on_cluster(self.folder / "r3", [plain_provider(self.upstream_port)]) as stack:
            for name, pid in stack.pids.items():
                pin(pid, GATEWAY_CORE if name == "edge" else LOAD_CORE)
            direct = self.direct()
            one = self.load(f"{stack.ready['edge']}{PATH}", bearers(stack.keys), dict(stack.pids), 1)
        return {"r3": {"direct": direct, "c1": plain(one)}}

    def measure_streams(self) -> Found:
        """Measure what streams cost."""
        from tests.bench.streams import streams

        return {"streams": streams(self.folder)}

    def measure_peers(self) -> Found:
        """Measure the peers that are installed and this gateway, one run of each in turn."""
        ready = peers.ready(PEERS_FOLDER, self.folder, upstream=self.upstream_port, ports=[free_port() for _ in "123"])
        rounds: dict[str, list[Measured]] = {}
        with ExitStack() as started:
            stack = started.enter_context(running(self.folder / "peers", [plain_provider(self.upstream_port)]))
            for name, pid in stack.pids.items():
                pin(pid, GATEWAY_CORE if name == "edge" else LOAD_CORE)
            url, lines, pids = f"{stack.ready['edge']}{PATH}", bearers(stack.keys), {"edge": stack.pids["edge"]}
            targets = {"edge, one tenant": (url, lines[:KEYS_PER_TENANT], pids), "edge, 8 tenants": (url, lines, pids)}
            for peer in ready:
                targets[peer.name] = (peer.url, [peer.headers], {peer.name: started.enter_context(self.started(peer))})
            for _ in range(self.runs):
                for name, (target, headers, processes) in targets.items():
                    rounds.setdefault(name, []).append(self.load(target, headers, processes, 64, runs=1))
        rows = {name: sorted(found, key=_own_us)[len(found) // 2] for name, found in rounds.items()}
        ratios = {
            f"{ours} / {peer.name}": statistics.median(
                [_own_us(one) / _own_us(other) for one, other in zip(rounds[ours], rounds[peer.name], strict=True)]
            )
            for ours in ("edge, one tenant", "edge, 8 tenants")
            for peer in ready
        }
        return {"peers": {name: plain(row) | {"us": _own_us(row)} for name, row in rows.items()}, "ratios": ratios}

    @contextmanager
    def started(self, peer: peers.Peer) -> Iterator[int]:
        """Run a peer; yield its pid."""
        command = ["taskset", "-c", GATEWAY_CORE, *peer.command]
        with (self.folder / f"{peer.name}.log").open("w") as log:
            process = subprocess.Popen(
                command, env=peers.environment(peer.env), cwd=self.folder, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            wait_for(peer.name, lambda: answers(peer.url, self.body, peer.headers), seconds=90)
            yield process.pid
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _own_us(one: Measured) -> float:
    """Return what the gateway itself cost: the process that is not the upstream or the load."""
    return next(cost for name, cost in one.cpu_us.items() if name not in ("upstream", "wrk"))


def bearers(keys: list[str]) -> list[str]:
    """Return the header of each key, as wrk is told."""
    return [f"Authorization: Bearer {key}" for key in keys]


def long_heads(keys: list[str]) -> list[str]:
    """Return the headers of an SDK's request with each key, as wrk is told."""
    return ["\t".join([one, *bodies.CLIENT_HEAD]) for one in bearers(keys)]


def plain(one: Measured) -> Found:
    """Return a measurement as data."""
    load = one.load
    told = {"per_s": load.per_s, "p50_ms": load.p50_ms, "p99_ms": load.p99_ms, "bad": load.bad}
    return {
        "cpu_us": one.cpu_us,
        **told,
        "busy": one.busy,
        "per_frame": one.requests_per_frame,
        "log_bytes": one.bytes_per_request,
        "pace": one.pace,
    }


def run(seconds: int, runs: int, parts: list[str]) -> Found:
    """Run these parts; return their figures, and why a part could not be measured."""
    found: Found = {"calibration": calibrate(), "failed": {}}
    with tempfile.TemporaryDirectory(prefix="keyforge-bench-") as scratch:
        folder, port = Path(scratch), free_port()
        with upstream(folder, port) as provider:
            found["upstream"] = provider.kind
            bench = Bench(folder, provider, port, seconds, runs)
            for part in parts:
                print(f"bench: {part}", file=sys.stderr, flush=True)
                try:
                    found |= getattr(bench, f"measure_{part}")()
                except Exception as error:  # noqa: BLE001 - the other parts are worth having
                    found["failed"][part] = f"{type(error).__name__}: {error}"
    found["calibration_end"] = calibrate()
    return found


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=4, help="length of one run")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default=",".join(PARTS), help="these parts alone, separated by commas (%(default)s)")
    parser.add_argument("--install-peers", action="store_true", help="install the peers into .bench/ first")
    parser.add_argument("--json", action="store_true")
    told = parser.parse_args()
    parts = [part for part in PARTS if part in told.only.split(",")]
    if unknown := set(told.only.split(",")) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    missing = [name for name in ("wrk", "taskset") if shutil.which(name) is None]
    if missing or (os.cpu_count() or 1) < 2:
        print(f"bench: needs {', '.join(missing) or 'two cores'} (Debian: wrk util-linux)", file=sys.stderr)
        return 2
    if told.install_peers:
        peers.install(PEERS_FOLDER)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # unwinds, so that all it started ends
    found = run(told.seconds, told.runs, parts)
    print(json.dumps(found, indent=1) if told.json else report(found))
    return 1 if found["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
