"""Publishes stored records to KF_AUDIT, at least once, none skipped, without ever holding up the writer (ADR 12, 30).

The writer hands over in memory what a block brought: what it has of one tenant's keys goes out together, and what it
has of the tenant's own chain. What is missing in memory (after a start, or when KF_AUDIT was unavailable for so long
that too much waited) is read from ClickHouse, from the position in KF_AUDIT_POSITION on.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import aclosing, suppress
from functools import partial
from typing import Final, TypeVar

from keyforge.audit.errors import StoreError
from keyforge.audit.metrics import Metrics
from keyforge.audit.outbound.audit_messages import batches, subject_of
from keyforge.audit.outbound.outgoing import Outgoing
from keyforge.audit.outbound.publish_balance import PublishBalance
from keyforge.audit.outbound.publish_position import (
    NotAdvancedError,
    OtherStreamsError,
    OvertakenError,
    Published,
    PublishPosition,
)
from keyforge.audit.outbound.store import Store
from keyforge.audit.outbound.stored_tail import StoredTail
from keyforge.audit.outbound.tenant_rows import TenantRows
from keyforge.chain.seal import MasterKey
from keyforge.contracts import sealed, subjects
from keyforge.eventlog.log import Appended, AppendRefused, AppendUnknown, EventLog, LogMissing
from keyforge.eventlog.retry import Backoff, retrying
from keyforge.runtime import logs
from keyforge.runtime.threads import in_thread

WAITING_BYTES_MAX: Final = 64 * 1024 * 1024
"""What may wait in memory; with more, all of it is read from ClickHouse later. Chosen: at 1.1 KB a record (measured)
60,000, as many as may wait to be stored (`writer.WAITING_ROWS_MAX`)."""
SENDING_MAX: Final = 16
"""Messages in flight, each of another subject; those of one follow one another. Chosen: halved, tenants wait for the
fsync of others; doubled, nothing is gained, as the server stores the messages of a stream one at a time."""
CONTENDED_MAX: Final = 10
"""How often in a row others may have come first with a position before that is a fault. Chosen: at least 30 s of tries
(BACKOFF); two healthy audits contend for one entry for a try or two."""
BACKOFF: Final = Backoff(0.25, 5.0)
"""Chosen: a stream that is back is used within 5 s, about what a new leader takes (4 to 9 s, `eventlog.fence`); one
that is down is asked 12 times a minute."""
WHY_CHARS_MAX: Final = 300
"""Of a fault's text that is shown. Chosen: two lines of a terminal; all of a server's reasons that were seen fit."""
LOOK_S: Final = 2.0
"""How often KF_AUDIT's state is asked for. Chosen: as gauges are refreshed (`projection.REFRESH_S`)."""

T = TypeVar("T")


class _NotAppended(Exception):
    """The server that answered did not store a message."""


class Publisher:
    """Publishes to KF_AUDIT. `failure`: why the last message or position was not stored, empty if it was."""

    def __init__(
        self,
        log: EventLog,
        store: Store,
        partitions: int,
        master: MasterKey,
        *,
        metrics: Metrics,
        waiting_bytes_max: int = WAITING_BYTES_MAX,
    ) -> None:
        self.failure = ""
        self._eventlog = log
        self._store = store
        self._partitions = partitions
        self._master = master
        self._metrics = metrics
        self._waiting_bytes_max = waiting_bytes_max
        self._waiting: deque[list[Outgoing]] = deque()
        self._waiting_bytes = 0
        self._incomplete = True
        """Whether what waits is only a part of what is stored and not published: the rest is read from the store."""
        self._available = asyncio.Event()
        self._positions = PublishPosition(log, partitions)
        self._position_found = False
        self._readable = True
        self._published: dict[int, int] = {}
        """By partition the last message of its log whose records are all published."""
        self._balance = PublishBalance(partitions)
        self._done: Mapping[int, int] = {}
        self._logger = logs.get("publisher")

    @property
    def waiting_bytes(self) -> int:
        """Bytes in memory that wait to be published."""
        return self._waiting_bytes

    def offer(self, block: list[Outgoing]) -> None:
        """Accept what was just stored. Never waits."""
        if self._incomplete:
            return
        self._waiting_bytes += sum(one.size for one in block)
        self._waiting.append(block)
        if self._waiting_bytes > self._waiting_bytes_max:
            self._discard_waiting()
        self._available.set()

    def folded(self, partition: int, sequence: int, records: int) -> None:
        """The fold has made so many records of tenants and their keys of a log up to this message."""
        self._balance.fold(partition, sequence, records, done=self._done.get(partition, 0))

    async def run(self, done: Mapping[int, int]) -> None:
        """Publish until cancelled. `done` is kept up to date: by log, the last message that is stored."""
        self._done = done
        self._position_found = False
        self._discard_waiting()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._publish_all())
            group.create_task(self._watch_stream())

    async def _publish_all(self) -> None:
        while True:
            try:
                if self._incomplete:
                    await self._catch_up()
                self._count_missing()
                await self._available.wait()
                while self._waiting and not self._incomplete:
                    block = self._waiting.popleft()
                    self._waiting_bytes -= sum(one.size for one in block)
                    await self._publish(block)
            except OtherStreamsError as error:
                self._start_over(str(error))
            if not self._incomplete:
                self._available.clear()

    async def _watch_stream(self) -> None:
        """Keep the gauges of KF_AUDIT up to date, and notice when it is another stream."""
        while True:
            with suppress(LogMissing):
                state = await self._eventlog.state(subjects.AUDIT_STREAM)
                self._metrics.stream_bytes.set(state.bytes)
                self._metrics.stream_oldest.set(state.first_at.timestamp() if state.first_at else 0)
                if self._position_found and state.created != self._positions.stream:
                    self._start_over(f"{subjects.AUDIT_STREAM} was created again, {state.created}")
            self._available.set()  # the fold may have come to what is published: `_count_missing`
            await asyncio.sleep(LOOK_S)

    def _count_missing(self) -> None:
        """Count what the fold made of the logs and was neither published nor withheld, once all that is stored was.

        Never waits: what is stored meanwhile would count as missing. The position stays where it is: what is missing
        after it is counted by each start, as long as it is missing, and a rebuild that finds it has it published.
        """
        if self._incomplete or self._waiting:
            return
        for partition in range(self._partitions):
            done = self._done.get(partition, 0)
            if done >= self._published.get(partition, 0) and (missing := self._balance.missing(partition, done)):
                self._report_missing(partition, done, missing)

    def _report_missing(self, partition: int, upto: int, count: int) -> None:
        self._metrics.withheld.inc(count)
        self._logger.error(
            "records are not where the store should have them, and were not published; verify or rebuild",
            log=subjects.log_stream(partition),
            upto=upto,
            count=count,
        )

    def _start_over(self, why: str) -> None:
        """Look for the position again, and read from ClickHouse what is after it."""
        self._logger.warning("looking for the published position again", why=why)
        self._position_found = False
        self._discard_waiting()
        self._available.set()

    def _discard_waiting(self) -> None:
        """Drop what waits in memory; it is stored, and is read from there later."""
        self._incomplete = True
        self._waiting.clear()
        self._waiting_bytes = 0

    async def _catch_up(self) -> None:
        """Publish what is stored after the position. What is stored meanwhile waits in memory."""
        if not self._position_found:
            found = await retrying(self._positions.find, backoff=BACKOFF, retry_on=LogMissing, failed=self._failed)
            self._published = {partition: one.sequence for partition, one in found.items()}
            self._balance.begin({partition: one.records for partition, one in found.items()})
            self._position_found, self.failure = True, ""
        self._incomplete = False
        for partition in range(self._partitions):
            await self._publish_stored(partition)

    async def _publish_stored(self, partition: int) -> None:
        """Publish what is stored of a log after the position, which only genuine records move."""
        tail = StoredTail(TenantRows(self._store.clients), self._master, self._metrics, self._read, partition)
        async with aclosing(tail.pages(self._published.get(partition, 0))) as pages:
            async for rows in pages:
                found: dict[str, list[tuple[int, bytes]]] = {}
                for row in rows:
                    event = sealed.encode_one(row.chain, row.seq, row.header, row.hash, row.mac, row.body)
                    found.setdefault(subject_of(row.chain), []).append((row.sequence, event))
                await self._publish([Outgoing(partition, rows[-1].sequence, found, 0)])
        self._balance.withhold(partition, tail.withheld)

    async def _read(self, call: Callable[[], T]) -> T:
        """Call the store until it answers."""
        found = await retrying(partial(in_thread, call), backoff=BACKOFF, retry_on=StoreError, failed=self._not_read)
        if not self._readable:
            self._readable, self.failure = True, ""
        return found

    def _not_read(self, fault: Exception) -> None:
        self._readable = False
        self._failed(fault)

    async def _publish(self, block: list[Outgoing]) -> None:
        """Publish a block, and once all of it is stored write how far the logs are published that it has records of."""
        together: dict[str, list[bytes]] = {}
        last: dict[int, Outgoing] = {}
        count = Counter[int]()
        for one in block:
            after = self._published.get(one.partition, 0)
            for subject, records in one.records.items():
                if events := [event for sequence, event in records if sequence > after]:
                    together.setdefault(subject, []).extend(events)
                    last[one.partition] = one
                    count[one.partition] += len(events)
        free = asyncio.Semaphore(SENDING_MAX)
        async with asyncio.TaskGroup() as group:
            for subject, events in together.items():
                group.create_task(self._send(free, subject, events))
        self._metrics.published.inc(sum(map(len, together.values())))
        for partition, one in last.items():
            if missing := self._balance.publish(partition, count[partition], one.made):
                self._report_missing(partition, one.sequence, missing)
            await self._advance(partition, one.sequence)
        for one in block:
            self._published[one.partition] = max(one.sequence, self._published.get(one.partition, 0))

    async def _advance(self, partition: int, sequence: int) -> None:
        """Write a position until it is stored; a crash before that repeats what was published since the last one."""
        ours = Published(sequence, self._balance.records(partition))
        write = partial(self._positions.advance, partition, ours)
        faults = (NotAdvancedError, AppendUnknown, AppendRefused, LogMissing)
        contended = 0

        def failed(fault: Exception) -> None:
            nonlocal contended
            contended = contended + 1 if isinstance(fault, OvertakenError) else 0
            if not 0 < contended <= CONTENDED_MAX:
                self._failed(fault)

        found = await retrying(write, backoff=BACKOFF, retry_on=faults, failed=failed)
        self.failure = ""
        self._published[partition] = found.sequence  # another audit may be further
        self._balance.set(partition, found.records)

    async def _send(self, free: asyncio.Semaphore, subject: str, events: list[bytes]) -> None:
        async with free:
            for batch in batches(events):
                await self._append(subject, sealed.join(batch))

    async def _append(self, subject: str, message: bytes) -> None:
        """Append until stored. A message that may be stored already is sent again: subscribers skip copies."""

        async def attempt() -> None:
            outcome = await self._eventlog.append(subject, message)
            if not isinstance(outcome, Appended):
                raise _NotAppended(f"{type(outcome).__name__}: {getattr(outcome, 'reason', '')}")

        faults = (_NotAppended, AppendUnknown, AppendRefused)
        await retrying(attempt, backoff=BACKOFF, retry_on=faults, failed=self._failed)
        self.failure = ""

    def _failed(self, fault: Exception) -> None:
        why = (str(fault) or type(fault).__name__)[:WHY_CHARS_MAX]
        if not self.failure:
            self._logger.error("cannot publish to subscribers; evidence is stored all the same", why=why)
        self.failure = why
        self._metrics.publish_failures.inc()
