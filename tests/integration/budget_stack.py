"""Budget with real neighbours: a nats-server, owners in this process, an edge and a keys service played by hand."""

import asyncio
import secrets as entropy
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx
import msgspec
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError

from keyforge.budget.app import Budget
from keyforge.budget.settings import BudgetSettings
from keyforge.contracts import directory, frame, subjects
from keyforge.contracts.directory import Lease, TokenEntry
from keyforge.contracts.events import Event, RequestAdmitted
from keyforge.contracts.frame import Recorded
from keyforge.contracts.ids import TokenId
from keyforge.contracts.keyformat import ID_BYTES, SECRET_BYTES, KeySecrets, mint
from keyforge.contracts.reserve import Answer, Reserve, Reserves, decode_answers, encode_reserves
from keyforge.eventlog.jetstream import JetStreamLog
from keyforge.eventlog.log import Appended, AppendUnknown, EventLog, Expect, Message, Unavailable
from keyforge.eventlog.meta import declare
from keyforge.runtime.buckets import Bucket
from keyforge.runtime.bus import Bus
from keyforge.runtime.clock import Clock, SystemClock
from keyforge.testkit.made_with import made_with
from keyforge.testkit.nats_client import bus_to
from keyforge.testkit.nats_cluster import NatsCluster
from keyforge.testkit.nats_server import NatsNode
from tests.unit.budget_facts import EDGE

ROOT = bytes(range(32))
SECRETS = KeySecrets.derive(ROOT)
WAIT_S = 60.0
POLL_S = 0.01

T = TypeVar("T")


async def until(probe: Callable[[], T | bool | None], what: str, *, within_s: float = WAIT_S) -> T:
    """Poll until `probe` returns something true; fail with `what` after `within_s`."""
    end_s = asyncio.get_running_loop().time() + within_s
    while True:
        found = probe()
        if found is not None and found is not False:
            return found  # type: ignore[return-value]
        assert asyncio.get_running_loop().time() < end_s, f"not within {within_s} s: {what}"
        await asyncio.sleep(POLL_S)


def settings_of(node: NatsNode | NatsCluster, **changed: Any) -> BudgetSettings:
    fields: dict[str, Any] = {
        "key_secret": ROOT.hex(),
        "nats_url": node.url,
        "nats_monitor_url": ",".join(node.monitor_urls),
        "nats_user": "",
        "instance": "budget-0",
    }
    return BudgetSettings(**(fields | changed))


class World:
    """A server with streams, and what keys and an edge would do there."""

    def __init__(self, node: NatsNode | NatsCluster, bus: Bus, *, partition: int = 0) -> None:
        self.node = node
        self.bus = bus
        self.log = JetStreamLog(bus.nats, append_timeout_s=WAIT_S)
        self.partition = partition
        self.leases = Bucket(bus.nats_py, self.log, subjects.LEASES_BUCKET)
        self.token = mint("kfa", SECRETS, entropy.token_bytes(ID_BYTES), entropy.token_bytes(SECRET_BYTES))
        self.written = 0

    async def lease(self) -> Lease | None:
        entry = await self.leases.get(subjects.lease_key(self.partition))
        return msgspec.json.decode(entry.value, type=Lease) if entry and entry.value else None

    async def ctl(self, *events: Event) -> int:
        """Append as keys does: conditional on the last tick; returns the sequence."""
        while True:
            last = await self.log.last(subjects.log_stream(self.partition), subjects.ctl(self.partition))
            expect = Expect(subjects.ctl(self.partition), last.seq if last else 0)
            outcome = await self.log.append(subjects.ctl(self.partition), self._frame(events), expect=expect)
            if isinstance(outcome, Appended):
                return outcome.seq

    async def use(self, *events: Event) -> int:
        """Append as an edge does."""
        outcome = await self.log.append(subjects.use(self.partition, EDGE), self._frame(events))
        assert isinstance(outcome, Appended)
        return outcome.seq

    def _frame(self, events: tuple[Event, ...]) -> bytes:
        self.written += 1
        now = SystemClock().now()
        return frame.encode(Recorded(f"{self.written}.{i}", "test", now, e) for i, e in enumerate(events))

    async def ask(self, *asks: Reserve, epoch: int | None = None, within_s: float = WAIT_S) -> list[Answer]:
        """Ask the owner as an edge does, again as long as nobody is there."""
        end_s = asyncio.get_running_loop().time() + within_s
        while True:
            lease = await self.lease()
            at = epoch if epoch is not None else (lease.epoch if lease else 0)
            try:
                reply = await self.bus.nats_py.request(
                    subjects.reserve(self.partition, at),
                    encode_reserves(Reserves(EDGE, list(asks))),
                    timeout=max(0.1, end_s - asyncio.get_running_loop().time()),
                )
                return decode_answers(reply.data)
            except NoRespondersError:
                assert asyncio.get_running_loop().time() < end_s, "nobody answers reserves"
                await asyncio.sleep(POLL_S)

    async def ask_once(self, *asks: Reserve, epoch: int, within_s: float = 1.0) -> list[Answer] | None:
        """Ask one epoch's subject; None if no answer came."""
        try:
            reply = await self.bus.nats_py.request(
                subjects.reserve(self.partition, epoch), encode_reserves(Reserves(EDGE, list(asks))), timeout=within_s
            )
        except (NoRespondersError, NatsTimeoutError):
            return None
        return decode_answers(reply.data)

    async def messages(self) -> list[Message]:
        """Everything that is in the partition's log now."""
        stream = subjects.log_stream(self.partition)
        end = await self.log.end(stream)
        found: list[Message] = []
        if end:
            reading = self.log.read(stream)
            async for batch in reading:
                found += batch
                if found[-1].seq >= end:
                    break
            await reading.aclose()
        return found

    async def admitted(self) -> list[tuple[int, RequestAdmitted]]:
        """Every admission in the log with its sequence."""
        return [
            (message.seq, recorded.event)
            for message in await self.messages()
            for recorded in frame.decode(message.data, message.subject)
            if isinstance(recorded, Recorded) and isinstance(recorded.event, RequestAdmitted)
        ]

    @asynccontextmanager
    async def owner(
        self,
        *,
        clock: Clock | None = None,
        log: Callable[[EventLog], EventLog] = lambda log: log,
        wait: bool = True,
        **changed: Any,
    ) -> AsyncIterator[Budget]:
        """Run budget on a connection of its own."""
        settings = settings_of(self.node, **changed)
        bus = await bus_to(self.node.urls)
        budget = Budget(bus, log(JetStreamLog(bus.nats)), settings, clock or SystemClock(), partitions=1)
        budget.start()
        try:
            if wait:
                await until(lambda: budget.partitions[self.partition].owner, "owns the partition")
            yield budget
        finally:
            await budget.stop()

    @asynccontextmanager
    async def http(self, budget: Budget | int) -> AsyncIterator[httpx.AsyncClient]:
        """A client of budget's API, here or at a port, with an operator's token."""
        tokens = Bucket(self.bus.nats_py, self.log, subjects.TOKENS_BUCKET)
        entry = TokenEntry(token_id=TokenId(self.token.id), digest=self.token.digest, role="platform-auditor")
        await tokens.put(self.token.id, directory.encode(entry))
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=budget.asgi) if isinstance(budget, Budget) else None,
            base_url="http://budget" if isinstance(budget, Budget) else f"http://127.0.0.1:{budget}",
            headers={"authorization": f"Bearer {self.token.text}"},
        ) as client:
            yield client


@asynccontextmanager
async def world_on(node: NatsNode, *, partitions: int = 1) -> AsyncIterator[World]:
    """A world on `node`, its streams declared."""
    bus = await bus_to(node.urls)
    try:
        await declare(bus.nats, made_with=made_with(partitions, key_secret=ROOT.hex()), replicas=1)
        yield World(node, bus)
    finally:
        await bus.close()


class Faulty:
    """A log whose next append on `subject` meets a fault; everything else is the real one's."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self.lose_ack_of: str | None = None
        self.lose: str | None = None
        self.before: Callable[[], Any] | None = None
        self.read = log.read
        self.end = log.end
        self.last = log.last
        self.state = log.state

    async def append(
        self, subject: str, frame: bytes, *, expect: Expect | None = None, msg_id: str | None = None
    ) -> Any:
        if self.before is not None and subject.endswith(".adm"):
            before, self.before = self.before, None
            await before()
        if subject == self.lose:
            self.lose = None
            raise AppendUnknown("lost on the way")
        outcome = await self._log.append(subject, frame, expect=expect, msg_id=msg_id)
        if subject == self.lose_ack_of and not isinstance(outcome, Unavailable):
            self.lose_ack_of = None
            raise AppendUnknown("the acknowledgement was lost")
        return outcome
