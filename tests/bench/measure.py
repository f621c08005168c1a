"""What the bench measures with: CPU and memory of a process tree from /proc, a calibration loop, one run of wrk."""

import json
import os
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
LOAD_CORE = "0"
GATEWAY_CORE = "1"
SETTLE_WITHIN_S = 20.0
SETTLE_WINDOW_S = 0.3
SETTLE_WINDOWS = 2
SETTLE_BUSY = 0.15
"""Part of one core, all processes together, that counts as idle."""
STEADY = 0.15
"""A run counts if the calibration behind it is within this part of the one before."""
TRIES_MAX = 4
"""So often a run is made at most until the host keeps its pace; then it counts all the same."""
CALIBRATION = """
import json, time
best = 9.0
for _ in range(7):
    start = time.perf_counter()
    for _ in range(4000):
        json.loads(json.dumps({"a": [1, 2, 3], "b": "x" * 40}))
    best = min(best, time.perf_counter() - start)
print(best / 4000 * 1e6)
"""


@dataclass(frozen=True)
class Load:
    """One run of wrk: requests done, per second, latencies in milliseconds, answers that were no 2xx, its own CPU."""

    requests: int
    per_s: float
    p50_ms: float
    p99_ms: float
    bad: int
    own_cpu_us: float = 0.0


def tree(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    found, todo = [], [pid]
    while todo:
        one = todo.pop()
        found.append(one)
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                todo += [int(child) for child in task.read_text().split()]
            except OSError:
                continue
    return found


def cpu_us(pid: int) -> float:
    """Return the CPU time, user and system, that a process tree has used, in microseconds."""
    ticks = 0
    for one in tree(pid):
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks * 1e6 / TICKS_PER_S


def rss_mb(pid: int) -> float:
    """Return the resident memory of a process tree in MiB."""
    total = 0
    for one in tree(pid):
        try:
            found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{one}/status").read_text())
        except OSError:
            continue
        total += int(found.group(1)) if found else 0
    return total / 1024


def calibrate() -> list[float]:
    """Return how long a fixed Python loop takes on each core, in microseconds: shows a host that changed its pace."""
    return [
        round(float(subprocess.check_output(["taskset", "-c", core, sys.executable, "-c", CALIBRATION])), 2)
        for core in (LOAD_CORE, GATEWAY_CORE)
    ]


def pin(pid: int, core: str) -> None:
    """Tie every thread of a process tree to one core."""
    for one in tree(pid):
        subprocess.run(["taskset", "-acp", core, str(one)], check=False, stdout=subprocess.DEVNULL)


def wrk(url: str, body: Path, headers: Path, *, connections: int, seconds: int) -> Load:
    """Drive `url` with one body; `headers` holds a line of `Name: value` pairs (split by a tab) per kind of request."""
    command = ["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s"]
    command += ["--latency", "-s", str(HERE / "post.lua"), url, "--", str(body), str(headers)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = re.search(r"JSON (\{.*\})", done.stdout)
    if not found:
        raise RuntimeError(done.stdout + done.stderr)
    told = json.loads(found.group(1))
    return Load(
        requests=told["requests"],
        per_s=told["requests"] / told["duration_us"] * 1e6,
        p50_ms=told["p50_us"] / 1e3,
        p99_ms=told["p99_us"] / 1e3,
        bad=told["bad"],
        own_cpu_us=(used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime) * 1e6,
    )


class LogSize(NamedTuple):
    """Frames that are stored, and the bytes that they take there, subject and headers among them."""

    frames: int
    bytes: int


@dataclass(frozen=True)
class Measured:
    """Medians over the runs: CPU microseconds per request of each process, the load's own figures, busy cores."""

    cpu_us: dict[str, float]
    load: Load
    runs: int
    busy: list[float]
    """Which part of the load's time each core was busy: shows what was the limit."""
    requests_per_frame: float | None = None
    """Over all frames, admissions and outcomes: shows how well batches filled."""
    bytes_per_request: int | None = None
    """What a request takes in the log."""
    pace: float = 0.0
    """Microseconds of the calibration loop around the runs: what a figure is worth on a host that changes its pace."""


def core_ticks() -> list[tuple[int, int]]:
    """Return busy and all ticks of the core of the load and that of the gateway; stolen time counts as busy."""
    lines = dict(line.split(" ", 1) for line in Path("/proc/stat").read_text().splitlines() if line.startswith("cpu"))
    found = []
    for core in (LOAD_CORE, GATEWAY_CORE):
        fields = [int(field) for field in lines[f"cpu{core}"].split()[:8]]
        found.append((sum(fields) - fields[3] - fields[4], sum(fields)))
    return found


@contextmanager
def busy_cores() -> Iterator[list[float]]:
    """Yield a list that holds, after the block, which part of its time each of the two cores was busy."""
    busy: list[float] = []
    before = core_ticks()
    yield busy
    pairs = zip(before, core_ticks(), strict=True)
    busy += [round((now[0] - then[0]) / max(1, now[1] - then[1]), 2) for then, now in pairs]


def settle(pids: Iterable[int]) -> None:
    """Wait until these have done what a load left them to do: it belongs to the load's requests as well."""
    known, end = list(pids), time.monotonic() + SETTLE_WITHIN_S
    before, calm = sum(cpu_us(pid) for pid in known), 0
    while calm < SETTLE_WINDOWS and time.monotonic() < end:
        time.sleep(SETTLE_WINDOW_S)  # CPU is counted over this while
        now = sum(cpu_us(pid) for pid in known)
        calm = calm + 1 if now - before <= SETTLE_BUSY * SETTLE_WINDOW_S * 1e6 else 0
        before = now


def measured(
    pids: dict[str, int], load: Callable[[], Load], *, runs: int, log: Callable[[], LogSize] | None = None
) -> Measured:
    """Run `load` and see what it cost each process; medians, since machines here are noisy. A run during which the host
    changed its pace is made again."""
    costs: dict[str, list[float]] = {name: [] for name in (*pids, "wrk")}
    loads: list[tuple[Load, list[float]]] = []
    paces: list[float] = []
    settle(pids.values())
    frames_made, bytes_made, tries = 0, 0, 0
    while len(loads) < runs:
        pace = statistics.mean(calibrate())
        begun = log() if log else LogSize(0, 0)
        before = {name: cpu_us(pid) for name, pid in pids.items()}
        with busy_cores() as busy:
            one = load()
        settle(pids.values())
        used = {name: cpu_us(pid) - before[name] for name, pid in pids.items()}
        pace_after = statistics.mean(calibrate())
        tries += 1
        if abs(pace_after - pace) > STEADY * pace and tries < TRIES_MAX:
            continue
        tries = 0
        loads.append((one, busy))
        paces.append((pace + pace_after) / 2)
        ended = log() if log else begun
        frames_made += ended.frames - begun.frames
        bytes_made += ended.bytes - begun.bytes
        for name in pids:
            costs[name].append(used[name] / max(1, one.requests))
        costs["wrk"].append(one.own_cpu_us / max(1, one.requests))
    middle, busy = sorted(loads, key=lambda pair: pair[0].per_s)[len(loads) // 2]
    bad, total = sum(one.bad for one, _ in loads), sum(one.requests for one, _ in loads)
    return Measured(
        {name: round(statistics.median(found), 1) for name, found in costs.items()},
        Load(middle.requests, round(middle.per_s), middle.p50_ms, middle.p99_ms, bad),
        runs,
        busy,
        round(total / max(1, frames_made), 1) if log else None,
        round(bytes_made / max(1, total)) if log else None,
        round(statistics.median(paces), 2),
    )


def wait_for(what: str, ready: Callable[[], bool], *, seconds: float) -> None:
    """Poll until `ready`, or raise TimeoutError."""
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.1)  # polls


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table as text."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([title, *(f"  {line}" for line in lines), ""])
