"""Wires budget: one bus, one log, a partition for each stream, the operators' API beside them."""

import asyncio
import gc
from typing import Any, Final

from keyforge.budget.application.batching import Batching
from keyforge.budget.application.committer import Committer
from keyforge.budget.application.partition import Partition, PartitionBounds
from keyforge.budget.inbound.api import build_api
from keyforge.budget.inbound.responder import Responder
from keyforge.budget.inbound.stall_detector import StallDetector
from keyforge.budget.metrics import Metrics
from keyforge.budget.outbound.lease import BucketLeases
from keyforge.budget.outbound.replies import NatsOutbox
from keyforge.budget.settings import BudgetSettings
from keyforge.contracts import members, subjects
from keyforge.contracts.ids import OwnerId
from keyforge.eventlog.jetstream import JetStreamLog
from keyforge.eventlog.log import EventLog
from keyforge.runtime import logs, start, tasks
from keyforge.runtime.buckets import Bucket
from keyforge.runtime.bus import Bus
from keyforge.runtime.clock import Clock, SystemClock
from keyforge.runtime.http import with_http_guards
from keyforge.runtime.log_fill import LogFill
from keyforge.runtime.serve import serve
from keyforge.runtime.tokens import TokenVerifier

STOP_S_MAX: Final = 8.0
"""How long a stop waits for what is in flight. Chosen: four times an append's timeout (2 s), within the 25 s of
compose.yaml."""
GC_THRESHOLD: Final = 50_000
"""Allocations before the collector looks. Chosen: 25 times Python's largest default (2,000): a ledger is large and has
no cycles, so walking it is in vain."""


class Budget:
    """All partitions of one process. `failed` is set to the fault that makes one of them useless."""

    def __init__(self, bus: Bus, log: EventLog, settings: BudgetSettings, clock: Clock, *, partitions: int) -> None:
        owner = OwnerId(settings.instance)
        leases = BucketLeases(Bucket(bus.nats_py, log, subjects.LEASES_BUCKET), owner)
        verifier = TokenVerifier(Bucket(bus.nats_py, log, subjects.TOKENS_BUCKET), settings.key_secrets())
        self._bus = bus
        self.metrics = Metrics()
        self.stall_detector = StallDetector(bus.nats, clock)
        batching = Batching(clock)
        bounds = PartitionBounds(settings.abandon_grace_s, settings.ask_age_s_max, settings.asks_waiting_max)
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.partitions = [
            Partition(
                number,
                owner=owner,
                log=log,
                leases=leases,
                outbox=NatsOutbox(bus.nats),
                listener_of=self._listener_of,
                batching=batching,
                clock=clock,
                metrics=self.metrics,
                bounds=bounds,
            )
            for number in range(partitions)
        ]
        self._tasks: list[asyncio.Task[None]] = []
        self._fill = LogFill(log, members.BUDGET, self._owned)
        api = build_api(self, self.partitions, self.metrics, verifier, clock, self._fill)
        self.asgi: Any = with_http_guards(api)

    def checks(self) -> dict[str, bool]:
        """Return what must be true to be ready. A halted partition is a line of its own that names the reason."""
        checks = {
            "bus": self._bus.is_connected,
            "durability": self._bus.is_durable,
            "partitions": all(partition.ready for partition in self.partitions),
        }
        for partition in self.partitions:
            if (halt := partition.replica.halted) is not None:
                checks[f"partition {partition.number} halted: {halt}"] = False
        return checks

    def details(self) -> dict[str, Any]:
        """Return what operators should know beside the checks."""
        return {}

    def start(self) -> None:
        """Begin to fold, and to own what is free."""
        self.stall_detector.start()
        self._fill.start()
        for partition in self.partitions:
            task = asyncio.create_task(partition.run())
            task.add_done_callback(self._ended)
            self._tasks.append(task)

    async def stop(self) -> None:
        """Answer what is in flight, give the leases back, close the connections."""
        for partition in self.partitions:
            partition.stop()
        _, late = await asyncio.wait(self._tasks, timeout=STOP_S_MAX)
        if late:  # nothing is lost: who gets no answer asks the next owner, which finds in the log what was admitted
            names = [
                partition.number for partition, task in zip(self.partitions, self._tasks, strict=True) if task in late
            ]
            logs.get("budget").warning("partitions did not end", partitions=names, waited_s=STOP_S_MAX)
        await tasks.end(self._tasks)
        self.stall_detector.stop()
        await self._fill.stop()
        if not self.failed.done():
            self.failed.cancel()
        await self._bus.close()

    def _owned(self) -> list[str]:
        return [subjects.log_stream(partition.number) for partition in self.partitions if partition.owner]

    def _listener_of(self, committer: Committer) -> Responder:
        return Responder(self._bus.nats, committer, self.stall_detector, self.metrics)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (fault := task.exception()) is not None and not self.failed.done():
            self.failed.set_exception(fault)


async def main(settings: BudgetSettings) -> int:
    """Run budget until it is asked to end; return the exit code."""
    gc.set_threshold(GC_THRESHOLD, 20, 100)
    bus, partitions = await start.connect(settings)
    budget = Budget(bus, JetStreamLog(bus.nats), settings, SystemClock(), partitions=partitions)
    budget.start()
    return await serve(budget.asgi, settings, stop=budget.stop, failed=budget.failed)
