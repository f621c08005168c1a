"""What audit costs for each request, as a process of its own beside a real log: `python -m tests.bench.audit_bench`.

Frames come as they do with 64 connections: a few admissions and completions every 5 ms. Measured is the CPU of the
whole process, the embedded ClickHouse engine included, then the time that a restart takes to fold all of it again.
"""

import argparse
import asyncio
import tempfile
import time
from datetime import timedelta
from pathlib import Path

from keyforge.audit.core.fold import Fold
from keyforge.audit.core.sealed import Sealed
from keyforge.audit.outbound import rows
from keyforge.contracts import subjects
from keyforge.contracts.compression import compress
from keyforge.testkit.nats_server import NatsNode
from tests.bench.measure import calibrate, cpu_us, rss_mb
from tests.integration.audit_stack import Audit, audit_on
from tests.unit import audit_facts as facts

TICK_S = 0.005
GATE_US = 80


def pure(requests: int) -> None:
    """Fold and encode, without a process around it."""
    out, folding = Sealed(), Fold(0, facts.MASTER)
    messages = [*begun(8), *(message for first in range(0, requests, 32) for message in pair(first, 32, 8))]
    start = time.process_time()
    for sequence, message in enumerate(messages, 1):
        folding.fold(sequence, message.subject, facts.nanoseconds(message.at), message.data, out)
    folded = time.process_time()
    rows.records(out.records, {})
    encoded = time.process_time()
    rows.ends(out.ends)
    ended = time.process_time()
    print(f"fold            {(folded - start) / out.events * 1e6:6.1f} us an event")
    print(f"record's row    {(encoded - folded) / len(out.records) * 1e6:6.1f} us")
    print(f"request's row   {(ended - encoded) / len(out.ends) * 1e6:6.1f} us")


def begun(keys: int) -> list[facts.Sent]:
    created = [facts.key_created(f"Key{n:09d}") for n in range(keys)]
    frames = [facts.ctl(*created[first : first + 200]) for first in range(0, keys, 200)]
    return [facts.ctl(facts.tenant_created()), *frames]


def pair(first: int, count: int, keys: int) -> list[facts.Sent]:
    """Two frames: admissions, and the completions of the same."""
    numbers = range(first, first + count)
    deadline = facts.NOW + timedelta(minutes=10)
    frames = (
        facts.adm(*(facts.admitted(n, key_id=f"Key{n % keys:09d}", deadline=deadline) for n in numbers)),
        facts.use(*(facts.completed(n, key_id=f"Key{n % keys:09d}") for n in numbers)),
    )
    return [sent._replace(data=compress(sent.data)) for sent in frames]


async def served(audit: Audit, requests_per_s: int, seconds: int, keys: int) -> int:
    """Append as a loaded gateway does; return how many requests that were."""
    count = max(1, int(requests_per_s * TICK_S))
    frames = [pair(first * count, count, keys) for first in range(int(seconds / TICK_S))]
    due = time.perf_counter()
    for messages in frames:
        await audit.append(*messages)
        due += TICK_S
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
    return count * len(frames)


async def whole(requests_per_s: int, seconds: int, keys: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        node = NatsNode(Path(name) / "nats")
        node.start()
        try:
            async with audit_on(node, Path(name) / "audit", linger_s=1.0) as audit:
                await measure(audit, node, requests_per_s, seconds, keys)
        finally:
            node.stop()


async def measure(audit: Audit, node: NatsNode, requests_per_s: int, seconds: int, keys: int) -> None:
    started = time.perf_counter()
    audit.start()
    await audit.append(*begun(keys))
    await audit.ready()
    print(f"ready after     {time.perf_counter() - started:6.2f} s")
    await audit.until_records("Key000000000", 1, limit=1)
    idle = cpu_us(audit.pid)
    await asyncio.sleep(2)
    idle = (cpu_us(audit.pid) - idle) / 2
    before, nats_before = cpu_us(audit.pid), cpu_us(node.pid)
    published_before = await audit.log.end(subjects.AUDIT_STREAM)
    begin = time.perf_counter()
    requests = await served(audit, requests_per_s, seconds, keys)
    took = time.perf_counter() - begin
    await audit.until_records("Key000000000", 1 + 2 * (requests // keys), timeout_s=120, limit=1)
    used = (cpu_us(audit.pid) - before) / requests
    print(f"requests        {requests:6d} at {requests / took:.0f} a second; idle {idle / 1e4:.1f} % of a core")
    lag_s = time.perf_counter() - begin - took
    print(f"audit           {used:6.1f} us a request (gate {GATE_US}), all stored {lag_s:.2f} s after the last")
    await asyncio.sleep(2)
    nats_us = (cpu_us(node.pid) - nats_before) / requests
    published = await audit.log.end(subjects.AUDIT_STREAM) - published_before
    print(f"nats-server     {nats_us:6.1f} us a request; {published} messages on KF_AUDIT for {keys} keys")
    print(f"memory          {rss_mb(audit.pid):6.0f} MB")
    audit.stop()
    started = time.perf_counter()
    audit.start()
    await audit.ready()
    await audit.append(*pair(10_000_000, keys, keys))
    await audit.until_records("Key000000000", 3 + 2 * (requests // keys), timeout_s=120, limit=1)
    took = time.perf_counter() - started
    print(f"start and fold  {took:6.2f} s for {2 * requests} events, CPU {cpu_us(audit.pid) / 1e6:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=2500, help="requests a second")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--keys", type=int, default=8)
    asked = parser.parse_args()
    print(f"calibration     {calibrate()} us a core")
    pure(20_000)
    asyncio.run(whole(asked.rate, asked.seconds, asked.keys))
    print(f"calibration     {calibrate()} us a core")


if __name__ == "__main__":
    main()
