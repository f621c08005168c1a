"""One owner over a log in memory: replica, leadership and committer, without a bus; and what appends to its log."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from keyforge.budget.application.batch import BatchBuilder
from keyforge.budget.application.batching import Batching
from keyforge.budget.application.committer import Committer
from keyforge.budget.application.leadership import Leadership
from keyforge.budget.application.replica import Replica
from keyforge.budget.metrics import Metrics
from keyforge.contracts import frame, subjects
from keyforge.contracts.events import Event, RequestAdmitted
from keyforge.contracts.frame import Recorded
from keyforge.contracts.ids import OwnerId
from keyforge.contracts.reserve import Answer, Reserve, decode_answers
from keyforge.eventlog.log import Appended
from keyforge.eventlog.memory import MemoryLog
from keyforge.runtime.clock import SetClock, SystemClock
from tests.unit.budget_facts import (
    EDGE,
    T0,
)

WAIT_S = 60.0
CTL, ADM, USE = subjects.ctl(0), subjects.adm(0), subjects.use(0, EDGE)


class Inbox:
    """Origin answers arrive: the twin of the bus."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = {}

    def put(self, reply_to: str, data: bytes) -> None:
        self.answers[reply_to] = decode_answers(data)

    def flush(self) -> None:
        return


class Owner:
    """One instance over a shared log: replica, leadership, committer."""

    def __init__(self, log: MemoryLog, clock: SetClock, *, name: str = "budget-0", age_s: float = 60.0) -> None:
        self.log, self.clock = log, clock
        self.epochs: list[int] = []
        self.inbox = Inbox()
        metrics = Metrics()
        self.replica = Replica(0, log, clock, metrics)
        self.leadership = Leadership(self.replica, log, clock, owner=OwnerId(name), on_epoch=self._began)
        self.committer = Committer(
            self.replica,
            self.leadership,
            BatchBuilder(self.replica, source=f"budget/{name}", abandon_grace_s=10),
            log,
            clock,
            metrics,
            self.inbox,
            Batching(SystemClock()),  # waits as real time passes
            ask_age_s_max=age_s,
            asks_waiting_max=500,
        )
        self.asked = 0
        self.running: asyncio.Task[None] | None = None

    async def _began(self, epoch: int) -> None:
        self.epochs.append(epoch)

    async def run(self) -> None:
        await self.replica.catch_up()
        await self.leadership.take(self.clock.now)
        await self.committer.run()

    def send(self, *asks: Reserve) -> str:
        self.asked += 1
        reply_to = f"reply {self.asked}"
        assert self.committer.offer(EDGE, list(asks), reply_to)
        return reply_to

    async def answers(self, reply_to: str) -> list[Answer]:
        await until(lambda: reply_to in self.inbox.answers)
        return self.inbox.answers[reply_to]

    async def ask(self, *asks: Reserve) -> list[Answer]:
        return await self.answers(self.send(*asks))

    async def quiet(self) -> None:
        """Wait until everything in the log is folded and nothing is held."""
        end = await self.log.end(self.replica.stream)
        assert await self.replica.folded(end, within_s=WAIT_S)


async def until(probe: Callable[[], bool]) -> None:
    end_s = asyncio.get_running_loop().time() + WAIT_S
    while not probe():
        assert asyncio.get_running_loop().time() < end_s
        await asyncio.sleep(0.001)


@asynccontextmanager
async def running(owner: Owner) -> AsyncIterator[Owner]:
    folding = asyncio.create_task(owner.replica.run())
    owner.running = asyncio.create_task(owner.run())
    try:
        await until(lambda: bool(owner.epochs) or (owner.running is not None and owner.running.done()))
        yield owner
    finally:
        for task in (owner.running, folding):
            task.cancel()
        await asyncio.gather(owner.running, folding, return_exceptions=True)


async def append(log: MemoryLog, subject: str, *events: Event) -> int:
    recorded = [Recorded(f"t{i}", "test", T0, event) for i, event in enumerate(events)]
    outcome = await log.append(subject, frame.encode(recorded))
    assert isinstance(outcome, Appended)
    return outcome.seq


async def admissions(log: MemoryLog) -> list[tuple[int, str]]:
    """Sequence and request id of every admission in the log."""
    found: list[tuple[int, str]] = []
    async for batch in log.read(subjects.log_stream(0)):
        found += [
            (message.seq, recorded.event.request_id)
            for message in batch
            for recorded in frame.decode(message.data, message.subject)
            if isinstance(recorded, Recorded) and isinstance(recorded.event, RequestAdmitted)
        ]
        if batch[-1].seq >= await log.end(subjects.log_stream(0)):
            break
    return found


class Wall(SetClock):
    """A clock whose wall reading can step while its monotonic one goes on."""

    def __init__(self, base: SetClock) -> None:
        super().__init__(base.now())
        self.base = base
        self.ahead = timedelta(0)

    def now(self) -> Any:
        return self.base.now() + self.ahead

    def monotonic(self) -> float:
        return self.base.monotonic()


async def recorded(log: MemoryLog) -> list[Recorded]:
    async for batch in log.read(subjects.log_stream(0)):
        return [r for m in batch for r in frame.decode(m.data, m.subject) if isinstance(r, Recorded)]
    return []
