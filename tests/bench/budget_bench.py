"""`python -m tests.bench.budget_bench`: microseconds per operation of budget, in pieces and as a process under load.

The process is asked as an edge asks: one message of reserves in flight, completions gathered for 5 ms. Compare only
runs whose calibration is the same at both ends.
"""

import asyncio
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from keyforge.budget.core.admit import admit
from keyforge.budget.core.decision_time import DecisionTime
from keyforge.budget.core.fold import fold
from keyforge.budget.core.holds import HeldFrame, Holds
from keyforge.budget.core.ledger import Ledger
from keyforge.budget.core.state_hash import state_hash
from keyforge.contracts import frame, subjects
from keyforge.contracts.compression import compress
from keyforge.contracts.events import RequestAdmitted, RequestCompleted
from keyforge.contracts.frame import Recorded
from keyforge.contracts.reserve import Reserve, Reserves, decode_answers, decode_reserves, encode_reserves
from keyforge.testkit.nats_server import NatsNode
from tests.bench.measure import CALIBRATION, cpu_us, rss_mb
from tests.integration.budget_load import Process
from tests.integration.budget_stack import World, world_on
from tests.unit.budget_facts import EDGE, T0, ask, cap, completed, fenced, key_created, tenant_created

COUNT = 20_000
PER_FRAME = 25
CONNECTIONS = 64
SECONDS = 4.0
RUNS = 3
COMPLETIONS_LINGER_S = 0.005
LIMITS = (cap("usd", "month", 10**18), cap("tokens", "minute", 10**18))


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def each(name: str, run: Callable[[], object], count: int = COUNT) -> None:
    """Time `run`, which does `count` operations."""
    begun_s = time.process_time()
    run()
    say(f"  {name:42} {(time.process_time() - begun_s) / count * 1e6:7.2f} us")


def calibrate() -> None:
    scope: dict[str, object] = {"print": lambda best: say(f"calibration {best:.2f} us")}
    exec(CALIBRATION, scope)


def begun() -> Ledger:
    ledger = Ledger(0)
    facts = (tenant_created(*LIMITS), key_created(*LIMITS), fenced(1))
    fold(ledger, 1, subjects.ctl(0), T0, [Recorded("x", "test", T0, event) for event in facts])
    return ledger


def pieces() -> None:
    """The pure parts, four limits to a request, frames of 25."""
    say(f"pieces, per request, {len(LIMITS) * 2} limits")
    ledger, holds, now = begun(), Holds(), DecisionTime(T0)
    asks = [ask(f"0192f5c4-0000-7000-8000-{i:012d}", 1000) for i in range(COUNT)]
    wire = [encode_reserves(Reserves(EDGE, asks[i : i + PER_FRAME])) for i in range(0, COUNT, PER_FRAME)]
    each("decode reserves", lambda: [decode_reserves(data) for data in wire])
    admitted: list[RequestAdmitted] = []

    def decide() -> None:
        for one in asks:
            outcome = admit(ledger, holds, one, EDGE, epoch=1, now=now)
            assert isinstance(outcome, RequestAdmitted)
            admitted.append(outcome)

    each("admit", decide)

    sent = HeldFrame()

    def hold() -> None:
        for event in admitted:
            holds.hold(ledger, event, sent)

    def release() -> None:
        for event in admitted:
            holds.release(event.request_id)

    each("hold", hold)
    recorded = [Recorded(f"{event.request_id}.admitted", "budget/budget-0", T0, event) for event in admitted]
    encoded: list[bytes] = []
    each("encode", lambda: encoded.extend(frame.encode_one(one) for one in recorded))

    def fold_admitted() -> None:
        for i in range(0, COUNT, PER_FRAME):
            fold(ledger, 2 + i, subjects.adm(0), T0, recorded[i : i + PER_FRAME])

    each("evolve an admission", fold_admitted)
    each("release", release)
    completions(ledger, admitted, encoded)


def completions(ledger: Ledger, admitted: list[RequestAdmitted], encoded: list[bytes]) -> None:
    """Their ends, and the whole log folded again."""
    ended = [Recorded("x", "edge", T0, completed(event.request_id[2:], 900)) for event in admitted]
    use = subjects.use(0, EDGE)
    frames = [compress(frame.encode(ended[i : i + PER_FRAME])) for i in range(0, COUNT, PER_FRAME)]
    decoded: list[list[Recorded | frame.Unread]] = []
    each("decode completions", lambda: decoded.extend(frame.decode(data, use) for data in frames))

    def fold_completed() -> None:
        for number, events in enumerate(decoded):
            fold(ledger, COUNT + 10 + number, use, T0, events)

    each("evolve a completion", fold_completed)
    assert not ledger.open
    each("state hash, in all", lambda: state_hash(ledger), 1)
    replayed = [frame.join(encoded[i : i + PER_FRAME]) for i in range(0, COUNT, PER_FRAME)]
    again = begun()
    begun_s = time.process_time()
    for number, data in enumerate(replayed):
        fold(again, 2 + number, subjects.adm(0), T0, frame.decode(data, subjects.adm(0)))
    for number, data in enumerate(frames):
        fold(again, COUNT + number, use, T0, frame.decode(data, use))
    say(f"  fold from zero: {2 * COUNT / (time.process_time() - begun_s):,.0f} events a second")


class Edge:
    """Reserves as an edge does: what waits goes together, one message in flight."""

    def __init__(self, world: World, epoch: int) -> None:
        self.world = world
        self.subject = subjects.reserve(0, epoch)
        self.waiting: list[tuple[Reserve, asyncio.Future[None]]] = []
        self.ended: list[RequestCompleted] = []
        self.note_sent = False
        self.done = 0
        self.waits_s: list[float] = []
        self.run = 0

    async def reserve(self, one: Reserve) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append((one, future))
        if not self.note_sent:
            self.note_sent = True
            self.task = asyncio.create_task(self._send())
        await future

    async def _send(self) -> None:
        while self.waiting:
            batch, self.waiting = self.waiting[:500], self.waiting[500:]
            data = encode_reserves(Reserves(EDGE, [one for one, _ in batch]))
            answers = decode_answers((await self.world.bus.nats_py.request(self.subject, data, timeout=5)).data)
            for (_, future), answer in zip(batch, answers, strict=True):
                assert answer.verdict == "allow", answer
                future.set_result(None)
        self.note_sent = False

    async def worker(self, number: int, end_s: float) -> None:
        count = 0
        while time.perf_counter() < end_s:
            count += 1
            name = f"{self.run}-{number}-{count}"
            begun_s = time.perf_counter()
            await self.reserve(ask(name, 1000))
            self.waits_s.append(time.perf_counter() - begun_s)
            self.ended.append(completed(name, 900))
            self.done += 1

    async def settle(self) -> None:
        while True:
            await asyncio.sleep(COMPLETIONS_LINGER_S)
            while self.ended:
                batch, self.ended = self.ended[:256], self.ended[256:]
                await self.world.use(*batch)

    async def load(self, connections: int, seconds: float) -> None:
        self.run += 1
        self.done, self.waits_s = 0, []
        settling = asyncio.create_task(self.settle())
        end_s = time.perf_counter() + seconds
        await asyncio.gather(*(self.worker(i, end_s) for i in range(connections)))
        await asyncio.sleep(0.2)
        settling.cancel()


async def process(folder: Path) -> None:
    """A process under load: CPU of budget and of nats-server per request, and what a reserve waits."""
    node = NatsNode(folder / "nats")
    node.start()
    try:
        async with world_on(node) as world:
            await world.ctl(tenant_created(*LIMITS), key_created(*LIMITS))
            owner = Process(world, folder)
            try:
                await world.ask(ask("warm"))
                lease = await world.lease()
                assert lease is not None
                edge = Edge(world, lease.epoch)
                for connections in (CONNECTIONS, 1):
                    await measure(edge, owner, node, connections)
                say(f"  resident {rss_mb(owner.process.pid):.0f} MiB")
            finally:
                owner.end()
    finally:
        node.stop()


async def measure(edge: Edge, owner: Process, node: NatsNode, connections: int) -> None:
    for _ in range(RUNS):
        before = cpu_us(owner.process.pid), cpu_us(node.pid)
        await edge.load(connections, SECONDS)
        budget_us = (cpu_us(owner.process.pid) - before[0]) / edge.done
        nats_us = (cpu_us(node.pid) - before[1]) / edge.done
        p50_ms = statistics.median(edge.waits_s) * 1e3
        say(
            f"  {connections:3} at once: budget {budget_us:6.1f} us, nats {nats_us:6.1f} us a request, "
            f"{edge.done / SECONDS:7.0f} requests a second, a reserve waits {p50_ms:.2f} ms (p50)"
        )


def main() -> int:
    calibrate()
    gc.disable()
    pieces()
    gc.enable()
    say("process: one partition, fsync on, one edge")
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(process(Path(folder)))
    calibrate()
    return 0


if __name__ == "__main__":
    sys.exit(main())
