"""Publishes stored records to KF_AUDIT, at least once, none skipped, without ever holding up the writer (ADR 12).

The writer hands over in memory what a block brought. What is missing there (after a start, or when KF_AUDIT was
unavailable for so long that too much waited) is read from ClickHouse, from the position in KF_AUDIT's last message on.
"""

import asyncio
from collections import deque
from functools import partial
from typing import Final, NamedTuple

from keyforge.audit.errors import StoreError
from keyforge.audit.metrics import Metrics
from keyforge.audit.outbound.store import Store
from keyforge.chain.seal import Record
from keyforge.contracts import sealed, subjects
from keyforge.contracts.ids import KeyId, TenantId
from keyforge.contracts.unreadable import UNREADABLE
from keyforge.eventlog.log import Appended, AppendRefused, AppendUnknown, EventLog, LogMissing
from keyforge.eventlog.retry import Backoff, retrying
from keyforge.runtime import logs

WAITING_BYTES_MAX: Final = 64 * 1024 * 1024
"""What may wait in memory; with more, all of it is read from ClickHouse later. Chosen: at 1.1 KB a record (measured)
60,000, as many as may wait to be stored (`writer.WAITING_ROWS_MAX`)."""
PAGE_RECORDS: Final = 5000
"""Records read from ClickHouse at a time. Chosen: 5.5 MB at 1.1 KB a record (measured)."""
SENDING_MAX: Final = 16
"""Messages in flight, each of another key; those of one key follow one another. Chosen: halved, keys wait for the fsync
of others; doubled, nothing is gained, as the server stores the messages of a stream one at a time."""
BACKOFF: Final = Backoff(0.25, 5.0)
"""Chosen: a stream that is back is used within 5 s, about what a new leader takes (4 to 9 s, `eventlog.fence`); one
that is down is asked 12 times a minute."""


class _NotAppended(Exception):
    """The server that answered did not store a message."""


class Outgoing(NamedTuple):
    """Records of whole messages of one log, encoded for KF_AUDIT, by chain. `sequence` is the last message."""

    partition: int
    sequence: int
    records: dict[str, list[bytes]]
    size: int


def outgoing(partition: int, sequence: int, records: list[Record]) -> Outgoing:
    """Encode the records of keys' chains for KF_AUDIT; other chains are not published."""
    found: dict[str, list[bytes]] = {}
    size = 0
    for record in records:
        chain = record.chain
        if chain.key_id:
            name = chain.name
            event = sealed.encode_one(
                name, name[len("key/") :], record.seq, record.header, record.hash, record.mac, record.body
            )
            size += len(event)
            found.setdefault(name, []).append(event)
    return Outgoing(partition, sequence, found, size)


class Publisher:
    """Publishes to KF_AUDIT. `healthy`: whether the last message was stored."""

    def __init__(
        self,
        log: EventLog,
        store: Store,
        partitions: int,
        *,
        metrics: Metrics,
        waiting_bytes_max: int = WAITING_BYTES_MAX,
    ) -> None:
        self.healthy = True
        self._eventlog = log
        self._store = store
        self._partitions = partitions
        self._metrics = metrics
        self._waiting_bytes_max = waiting_bytes_max
        self._waiting: deque[list[Outgoing]] = deque()
        self._waiting_bytes = 0
        self._incomplete = True
        self._available = asyncio.Event()
        self._position: dict[int, int] = {}
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

    async def run(self) -> None:
        """Publish until cancelled."""
        self._discard_waiting()
        self._position = await self._find_position()
        while True:
            if self._incomplete:
                self._incomplete = False
                await self._catch_up()
            await self._available.wait()
            while self._waiting and not self._incomplete:
                block = self._waiting.popleft()
                self._waiting_bytes -= sum(one.size for one in block)
                await self._publish(block)
            if not self._incomplete:
                self._available.clear()

    def _discard_waiting(self) -> None:
        """Drop what waits in memory; it is stored, and is read from there later."""
        self._incomplete = True
        self._waiting.clear()
        self._waiting_bytes = 0

    async def _find_position(self) -> dict[int, int]:
        """Return up to which message each log is published, from KF_AUDIT's last message; empty if it has none."""
        look = partial(self._eventlog.last, subjects.AUDIT_STREAM, subjects.AUDIT_ALL)
        last = await retrying(look, backoff=BACKOFF, retry_on=LogMissing, failed=self._failed)
        self.healthy = True
        if last is None:
            return {}
        try:
            return sealed.published(last.data)
        except (*UNREADABLE, ValueError):
            self._logger.warning("the last published message cannot be read; publishing from the beginning")
            return {}

    async def _catch_up(self) -> None:
        for partition in range(self._partitions):
            while page := await self._page(partition):
                await self._publish([page])

    async def _page(self, partition: int) -> Outgoing | None:
        after = self._position.get(partition, 0)
        query = partial(asyncio.to_thread, self._store.sealed, partition, after, PAGE_RECORDS)
        rows = await retrying(query, backoff=BACKOFF, retry_on=StoreError)
        if not rows:
            return None
        found: dict[str, list[bytes]] = {}
        for _, chain, seq, header, hash_, mac, body in rows:
            event = sealed.encode_one(chain, chain[len("key/") :], seq, header, hash_, mac, body)
            found.setdefault(chain, []).append(event)
        return Outgoing(partition, rows[-1][0], found, 0)

    async def _publish(self, block: list[Outgoing]) -> None:
        """Publish a block. Its last message, sent after all others are stored, carries the block's own position."""
        after = dict(self._position)
        together: dict[str, list[bytes]] = {}
        for one in block:
            if one.sequence > self._position.get(one.partition, 0):
                after[one.partition] = max(one.sequence, after.get(one.partition, 0))
                for chain, events in one.records.items():
                    together.setdefault(chain, []).extend(events)
        if together:
            batches = [(_subject(chain), list(_batches(events))) for chain, events in together.items()]
            subject, last = batches[-1][0], batches[-1][1].pop()
            free = asyncio.Semaphore(SENDING_MAX)
            async with asyncio.TaskGroup() as group:
                for to, of_key in batches:
                    group.create_task(self._send(free, to, of_key))
            await self._append(subject, sealed.join(last, after))
            self._metrics.published.inc(sum(map(len, together.values())))
        self._position = after

    async def _send(self, free: asyncio.Semaphore, subject: str, batches: list[list[bytes]]) -> None:
        async with free:
            for batch in batches:
                await self._append(subject, sealed.join(batch, self._position))

    async def _append(self, subject: str, message: bytes) -> None:
        """Append until stored. A message that may be stored already is sent again: subscribers skip copies."""

        async def attempt() -> None:
            outcome = await self._eventlog.append(subject, message)
            if not isinstance(outcome, Appended):
                raise _NotAppended(f"{type(outcome).__name__}: {getattr(outcome, 'reason', '')}")

        faults = (_NotAppended, AppendUnknown, AppendRefused)
        await retrying(attempt, backoff=BACKOFF, retry_on=faults, failed=self._failed)
        self.healthy = True

    def _failed(self, fault: Exception) -> None:
        if self.healthy:
            self._logger.error("cannot publish to subscribers; evidence is stored all the same", why=str(fault)[:300])
        self.healthy = False
        self._metrics.publish_failures.inc()


def _subject(chain: str) -> str:
    _, tenant, key = chain.split("/")
    return subjects.audit_subject(TenantId(tenant), KeyId(key))


def _batches(events: list[bytes]) -> list[list[bytes]]:
    found: list[list[bytes]] = []
    size = sealed.BATCH_BYTES_MAX
    for event in events:
        if size + len(event) > sealed.BATCH_BYTES_MAX:
            found.append([])
            size = 0
        found[-1].append(event)
        size += len(event) + 1
    return found
