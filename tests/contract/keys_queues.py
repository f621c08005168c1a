"""Queues on one ctl subject, commands to give them, and what others append beside them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from keyforge.contracts import frame, subjects
from keyforge.contracts.events import Event, PartitionFenced, TenantCreated, TenantUpdated
from keyforge.contracts.frame import Recorded
from keyforge.contracts.ids import OwnerId, TenantId, TokenId
from keyforge.eventlog.log import EventLog
from keyforge.eventlog.memory import MemoryLog
from keyforge.keys.application.ports import Decide, StagedFacts
from keyforge.keys.core import names
from keyforge.keys.core.facts import Tenant
from keyforge.keys.outbound.command_queue import LogCommandQueue
from keyforge.runtime.clock import SystemClock
from keyforge.testkit.encrypted_names import decrypted, encrypted
from keyforge.testkit.ticks import append_tick

NOW = datetime(2030, 1, 1, tzinfo=UTC)
WITHIN_S = 60.0


def created(tenant: str, name: str = "x") -> TenantCreated:
    return TenantCreated(
        tenant=TenantId(tenant),
        name=encrypted(name),
        plan="default",
        partition=0,
        limits=(),
        revision=1,
        secret_version=1,
        by=TokenId("t"),
    )


def renamed(tenant: str, name: str, revision: int) -> TenantUpdated:
    return TenantUpdated(
        tenant=TenantId(tenant),
        name=encrypted(name),
        plan="default",
        status="active",
        limits=(),
        revision=revision,
        secret_version=1,
        by=TokenId("t"),
    )


def create(tenant: str) -> Decide:
    """A command: make a tenant if there is none, and say so if there is."""

    def decide(known: StagedFacts, _: datetime) -> Event | None:
        return None if known.find(names.tenant_id(tenant)) else created(tenant)

    return decide


def count(tenant: str) -> Decide:
    """A command that depends on what came before: the tenant's name counts up."""

    def decide(known: StagedFacts, _: datetime) -> Event:
        fact = known.find(names.tenant_id(tenant))
        assert isinstance(fact, Tenant)
        return renamed(tenant, str(int(decrypted(fact.name.text)) + 1), fact.version + 1)

    return decide


@dataclass
class Lab:
    """A log and queues on one of its ctl subjects."""

    log: EventLog
    partition: int
    foreign: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def queue(
        self, *, ticks_per_s: float = 1000, append_time_limit_s: float = 5.0
    ) -> AsyncIterator[LogCommandQueue]:
        queue = LogCommandQueue(
            self.log,
            subjects.log_stream(self.partition),
            subjects.ctl(self.partition),
            SystemClock(),
            ticks_per_s=ticks_per_s,
            append_time_limit_s=append_time_limit_s,
            on_foreign=self.foreign.extend,
        )
        async with asyncio.timeout(WITHIN_S):
            await queue.start()
        try:
            async with asyncio.timeout(WITHIN_S):
                yield queue
        finally:
            async with asyncio.timeout(WITHIN_S):
                await queue.stop()

    async def fence(self, epoch: int) -> None:
        """What an owner appends beside keys."""
        event = PartitionFenced(partition=self.partition, epoch=epoch, owner=OwnerId("budget-0"))
        data = frame.encode([Recorded(f"p{self.partition}.{epoch}", "budget/budget-0", NOW, event)])
        await append_tick(self.log, self.partition, data)

    async def events(self) -> list[str]:
        """The ids of all of keys' events in the log."""
        stream, found = subjects.log_stream(self.partition), list[str]()
        end = await self.log.end(stream)
        async with asyncio.timeout(WITHIN_S), aclosing(self.log.read(stream)) as batches:
            async for messages in batches:
                for message in messages:
                    found += [one.id for one in frame.decode(message.data, message.subject) if one.source == "keys"]
                if messages[-1].seq >= end:
                    break
        return found


def memory_log(partition: int) -> MemoryLog:
    """The twin, with the stream of one partition."""
    log = MemoryLog()
    log.declare(subjects.log_stream(partition), [subjects.log_all(partition)])
    return log


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(WITHIN_S):
        while not holds():  # noqa: ASYNC110  # what is waited for tells nobody
            await asyncio.sleep(0.001)


def name_of(queue: LogCommandQueue, tenant: str) -> str:
    fact = queue.facts.cache.committed(names.tenant_id(tenant))
    assert isinstance(fact, Tenant)
    return decrypted(fact.name.text)
