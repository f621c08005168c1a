"""What reading and appending cost, with fsync on: `python tests/bench/eventlog_bench.py [--cluster] [--uvloop]`.

Compare runs only where the calibration loop, at both ends, says the same: hosts change pace.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from contextlib import aclosing
from pathlib import Path

import uvloop

from keyforge.contracts import subjects
from keyforge.contracts.ids import EdgeId
from keyforge.eventlog.fence import append_known
from keyforge.eventlog.jetstream import JetStreamLog
from keyforge.eventlog.log import Appended, AppendUnknown, Expect
from keyforge.eventlog.streams import Sizes, declare_stream, log_spec
from keyforge.testkit.nats_client import NatsServer, open_client
from keyforge.testkit.nats_cluster import NatsCluster
from keyforge.testkit.nats_server import NatsNode

EVENT = b"x" * 600
SIZES = Sizes(log_bytes_max=4 * 1024**3)
READS = ((600, 60_000), (20_000, 8_000))
FRAMES = (1, 16, 64, 256)
APPENDS = 200
TICKED_S = 3.0
ADM, CTL, USE, STREAM = subjects.adm(0), subjects.ctl(0), subjects.use(0, EdgeId("e1")), subjects.log_stream(0)


def calibrate() -> float:
    """Microseconds for a thousand turns of a fixed loop."""
    best = 1e9
    for _ in range(5):
        started, total = time.perf_counter(), 0
        for i in range(50_000):
            total += i * i
        best = min(best, (time.perf_counter() - started) / 50 * 1e6)
    return best


def row(name: str, *cells: str) -> None:
    print(f"{name:<44}" + "".join(f"{cell:>16}" for cell in cells), flush=True)


async def reading(server: NatsServer, size: int, count: int, partition: int) -> None:
    stream, use = subjects.log_stream(partition), subjects.use(partition, EdgeId("e1"))
    async with open_client(server.urls) as client:
        await declare_stream(client, log_spec(partition, replicas=server.replicas, sizes=SIZES))
        log, frame = JetStreamLog(client), b"x" * size
        for _ in range(0, count, 200):
            await asyncio.gather(*(log.append(use, frame) for _ in range(200)))
        for _ in range(3):
            seen, started, cpu = 0, time.perf_counter(), time.process_time()
            async with aclosing(log.read(stream)) as batches:
                async for batch in batches:
                    seen += len(batch)
                    if seen >= count:
                        break
            cpu_us = (time.process_time() - cpu) / seen * 1e6
            row(f"read {size} B", f"{seen / (time.perf_counter() - started):,.0f}/s", f"{cpu_us:.1f} us cpu")


async def appending(log: JetStreamLog) -> None:
    tick = await log.append(CTL, b"tick")
    assert isinstance(tick, Appended)
    for events in FRAMES:
        frame, spent = EVENT * events, []
        for _ in range(APPENDS):
            started = time.perf_counter()
            assert isinstance(await log.append(ADM, frame, expect=Expect(CTL, tick.seq)), Appended)
            spent.append((time.perf_counter() - started) * 1e3)
        row(f"append, conditional, {events} events of 600 B", *quantiles(spent), f"{min(spent):.2f} ms min")


async def hearing(log: JetStreamLog) -> None:
    """From the call of an append until a reader hands the message over."""
    spent: list[float] = []
    async with aclosing(log.read(STREAM, after=await log.end(STREAM))) as batches:
        waiting = asyncio.ensure_future(anext(batches))
        await asyncio.sleep(0.2)  # the consumer is there
        for _ in range(APPENDS):
            started = time.perf_counter()
            await log.append(USE, EVENT)
            await waiting
            spent.append((time.perf_counter() - started) * 1e3)
            waiting = asyncio.ensure_future(anext(batches))
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    row("append until a reader has it", *quantiles(spent))


async def ticking(log: JetStreamLog, keys: JetStreamLog, pause_s: float | None) -> None:
    """How many frames the owner appends while keys ticks the control clock; it folds by asking for the last tick."""
    stop = False
    ticks = frames = sends = 0

    async def tick() -> None:
        nonlocal ticks
        while not stop and pause_s is not None:
            try:
                ticks += isinstance(await keys.append(CTL, b"tick"), Appended)
            except AppendUnknown:
                continue
            await asyncio.sleep(pause_s)

    other = asyncio.create_task(tick())
    end = time.perf_counter() + TICKED_S
    last = await log.last(STREAM, CTL)
    clock = last.seq if last else 0
    while time.perf_counter() < end:
        sends += 1
        outcome = await append_known(log, ADM, EVENT, expect=Expect(CTL, clock), pause_s=0.0005, attempts_max=200)
        if isinstance(outcome, Appended):
            frames += 1
        else:
            clock = outcome.last
    stop = True
    await other
    name = "never" if pause_s is None else "at full speed" if not pause_s else f"every {pause_s * 1e3:.0f} ms"
    row(f"owner, while keys ticks {name}", f"{frames / TICKED_S:,.0f} frames/s", f"{ticks / TICKED_S:,.0f} ticks/s")


def quantiles(spent: list[float]) -> tuple[str, str]:
    return f"{statistics.median(spent):.2f} ms p50", f"{statistics.quantiles(spent, n=100)[98]:.2f} ms p99"


async def measure(server: NatsServer) -> None:
    async with open_client(server.urls) as client, open_client(server.urls) as other:
        await declare_stream(client, log_spec(0, replicas=server.replicas, sizes=SIZES))
        log, keys = JetStreamLog(client), JetStreamLog(other)
        await appending(log)
        await hearing(log)
        for pause_s in (None, 0.05, 0.0):
            await ticking(log, keys, pause_s)
    for partition, (size, count) in enumerate(READS, 1):
        await reading(server, size, count, partition)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--cluster", action="store_true")
    options.add_argument("--uvloop", action="store_true")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = NatsCluster(Path(folder)) if chosen.cluster else NatsNode(Path(folder))
        try:
            server.start()
            row("calibration", f"{calibrate():.1f} us")
            with asyncio.Runner(loop_factory=uvloop.new_event_loop if chosen.uvloop else None) as runner:
                runner.run(measure(server))
            row("calibration", f"{calibrate():.1f} us")
        finally:
            server.stop()


if __name__ == "__main__":
    main()
