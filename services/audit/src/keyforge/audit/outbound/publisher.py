"""Publishes stored records to KF_AUDIT: behind ClickHouse, at least once, none skipped; never in the writer's way.

What a block brought is handed over in memory. Whatever is missing there (at the start, or when KF_AUDIT would not take
more for so long that too much waited) is read from ClickHouse, behind the position that KF_AUDIT's last message names.
"""

import asyncio
from collections import deque
from typing import Final, NamedTuple

from keyforge.audit.errors import StoreError
from keyforge.audit.metrics import Metrics
from keyforge.audit.outbound.store import Store
from keyforge.chain.seal import Record
from keyforge.contracts import sealed, subjects
from keyforge.contracts.ids import KeyId, TenantId
from keyforge.contracts.unreadable import UNREADABLE
from keyforge.eventlog.log import Appended, AppendRefused, AppendUnknown, EventLog, LogMissing
from keyforge.runtime import logs

WAITING_BYTES_MAX: Final = 64 * 1024 * 1024
"""What may wait in memory; past it, all of it is read from ClickHouse later."""
PAGE_RECORDS: Final = 5000
SENDING_MAX: Final = 16
"""Messages on their way at a time, of different keys: those of one key follow one another."""
RETRY_S: Final = 0.25
RETRY_S_MAX: Final = 5.0


class Fresh(NamedTuple):
    """Records of whole messages of one log, as they are published: by subject. `sequence` is the last of them."""

    partition: int
    sequence: int
    records: dict[str, list[bytes]]
    size: int


def fresh(partition: int, sequence: int, records: list[Record]) -> Fresh:
    """Write the records of keys' chains for KF_AUDIT; other chains have no subscribers."""
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
    return Fresh(partition, sequence, found, size)


class Publisher:
    """The one that publishes in this process. `healthy`: whether KF_AUDIT took what it was last given."""

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
        self._waiting: deque[list[Fresh]] = deque()
        self._waiting_bytes = 0
        self._lost = True
        self._some = asyncio.Event()
        self._position: dict[int, int] = {}
        self._logger = logs.get("publisher")

    @property
    def waiting_bytes(self) -> int:
        """How much waits in memory to be published."""
        return self._waiting_bytes

    def offer(self, block: list[Fresh]) -> None:
        """Take what was stored just now. Never waits."""
        if self._lost:
            return
        self._waiting_bytes += sum(one.size for one in block)
        self._waiting.append(block)
        if self._waiting_bytes > self._waiting_bytes_max:
            self._lose()
        self._some.set()

    async def run(self) -> None:
        """Publish until cancelled."""
        self._lose()
        self._position = await self._find()
        while True:
            if self._lost:
                self._lost = False
                await self._catch_up()
            await self._some.wait()
            while self._waiting and not self._lost:
                block = self._waiting.popleft()
                self._waiting_bytes -= sum(one.size for one in block)
                await self._publish(block)
            if not self._lost:
                self._some.clear()

    def _lose(self) -> None:
        """Let go of what waits: it is stored, and will be read from there."""
        self._lost = True
        self._waiting.clear()
        self._waiting_bytes = 0

    async def _find(self) -> dict[int, int]:
        """Return how far each log is published, from KF_AUDIT's last message; nothing where it is empty."""
        while True:
            try:
                last = await self._eventlog.last(subjects.AUDIT_STREAM, subjects.AUDIT_ALL)
            except LogMissing as error:
                await self._wait_again(str(error), RETRY_S_MAX)
                continue
            self.healthy = True
            if last is None:
                return {}
            try:
                return sealed.published(last.data)
            except (*UNREADABLE, ValueError):
                self._logger.warning("the last message for subscribers is not ours: all is published again")
                return {}

    async def _catch_up(self) -> None:
        for partition in range(self._partitions):
            while page := await self._page(partition):
                await self._publish([page])

    async def _page(self, partition: int) -> Fresh | None:
        after = self._position.get(partition, 0)
        while True:
            try:
                rows = await asyncio.to_thread(self._store.sealed, partition, after, PAGE_RECORDS)
            except StoreError:
                await asyncio.sleep(RETRY_S_MAX)
                continue
            if not rows:
                return None
            found: dict[str, list[bytes]] = {}
            for _, chain, seq, header, hash_, mac, body in rows:
                event = sealed.encode_one(chain, chain[len("key/") :], seq, header, hash_, mac, body)
                found.setdefault(chain, []).append(event)
            return Fresh(partition, rows[-1][0], found, 0)

    async def _publish(self, block: list[Fresh]) -> None:
        """Publish a block: its last message, sent when all others are stored, says that it is."""
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
        """Append, however long it takes. One that may be stored is sent again: subscribers skip what they have."""
        pause_s = RETRY_S
        while True:
            try:
                outcome = await self._eventlog.append(subject, message)
                if isinstance(outcome, Appended):
                    self.healthy = True
                    return
                why = f"{type(outcome).__name__}: {getattr(outcome, 'reason', '')}"
            except (AppendUnknown, AppendRefused) as error:
                why = str(error)
            await self._wait_again(why, pause_s)
            pause_s = min(pause_s * 2, RETRY_S_MAX)

    async def _wait_again(self, why: str, pause_s: float) -> None:
        if self.healthy:
            self._logger.error("the stream of subscribers takes nothing; evidence goes on, they wait", why=why[:300])
        self.healthy = False
        self._metrics.publish_failures.inc()
        await asyncio.sleep(pause_s)


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
