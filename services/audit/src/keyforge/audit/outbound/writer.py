"""Gathers what the folds produce into few, large INSERTs, and repeats each until it is stored. Nothing is dropped.

At most one INSERT per `linger_s`, unless very many rows wait: ClickHouse's cost is per block. Evidence goes first, the
analytics of the same messages after it; a crash in between is found at the next start. When too much waits, `put`
waits, then the folds wait, and the log keeps the rest.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, Final

from keyforge.audit.core.position import StoredState
from keyforge.audit.core.sealed import Head, KeySpend, RequestEnd, Sealed
from keyforge.audit.errors import StoreError
from keyforge.audit.metrics import Metrics
from keyforge.audit.outbound import rows, schema
from keyforge.audit.outbound.chunk import Chunk, heads_of
from keyforge.audit.outbound.outgoing import Outgoing, outgoing
from keyforge.audit.outbound.store import Store
from keyforge.chain.seal import Record
from keyforge.eventlog.retry import Backoff, retrying
from keyforge.runtime import logs
from keyforge.runtime.threads import in_thread_of

ROWS_MAX: Final = 20_000
"""Rows of one INSERT. Precedent: ClickHouse asks for blocks of 10,000 to 100,000 rows."""
BYTES_MAX: Final = 32 * 1024 * 1024
"""Bytes of rows in one INSERT, roughly. Chosen: half as much again as ROWS_MAX records of 1.1 KB (measured), so it
bounds blocks with large bodies only."""
WAITING_ROWS_MAX: Final = 60_000
"""Rows that may wait before the folds wait. Chosen: two INSERTs and the one on its way."""
BACKOFF: Final = Backoff(0.25, 5.0)
"""Chosen: as for subscribers (`publisher.BACKOFF`): a store that is back is used within 5 s, one that is down is asked
12 times a minute."""
FINISH_S: Final = 60.0
"""How long a block on its way may take once the writer is to stop. Chosen: as long as one answer of a server
(`clients.QUERY_TIMEOUT_S`); the rest of it is stored by the next start."""
HEADS_MAX: Final = 500
"""Chains whose ends one query looks for. Chosen: as many as one looks at again (`checking.AGAIN_MAX`)."""
PAUSED_PART: Final = 0.1
"""After a pause, the first rows gather for this part of the linger only: a single request is stored soon."""
NAMES_MAX: Final = 100_000
"""Chains whose encoded names are kept; with more, it begins again. Chosen: 17 MB at 170 bytes each (measured)."""


class Writer:
    """The only writer of its tables in this process."""

    def __init__(
        self,
        store: Store,
        stored: StoredState,
        *,
        linger_s: float,
        metrics: Metrics,
        tables_suffix: str = "",
        offer: Callable[[list[Outgoing]], None] | None = None,
    ) -> None:
        """`stored` is what the store holds already; `offer` receives each stored block's records for subscribers.

        `tables_suffix` names tables beside the current ones.
        """
        self.healthy = True
        self.heads: dict[str, Head] = {}
        """By chain its head at the messages that are `done`: the fold's, whatever the store holds."""
        self.spend: dict[str, KeySpend] = {}
        """By the chain of a key, what it had spent then."""
        self.done: dict[int, int] = {}
        """By log, the last message whose rows, if it made any, are stored."""
        self._store = store
        self._stored_before = stored
        self._linger_s = linger_s
        self._metrics = metrics
        self._suffix = tables_suffix
        self._offer = offer
        self._storing = asyncio.Lock()
        self._logger = logs.get("writer")
        self._waiting: deque[Chunk] = deque()
        self._waiting_rows = 0
        self._inserting = False
        self._failing = asyncio.Event()
        """Set while `healthy` is not."""
        self._available = asyncio.Event()
        self._full = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._advanced = asyncio.Event()
        self._names: dict[str, bytes] = {}
        self._last: dict[int, int] = {}

    @property
    def waiting(self) -> int:
        """Rows that wait to be stored."""
        return self._waiting_rows

    async def put(self, partition: int, sealed: Sealed) -> None:
        """Accept what whole messages became; what is stored already is left out. Waits while too much is waiting.

        No call may span the position that the store held at the start.
        """
        records, ends = sealed.records, sealed.ends
        last = {record.chain.name: record for record in records}
        heads = {chain: Head(record.seq, record.hash) for chain, record in last.items()}
        if sealed.sequence <= self._stored_before.sequence(partition):
            records = []
            stored = self._stored_before.requests.get(partition, 0)
            ends = [end for end in ends if end.sequence > stored]
        if not (records or ends):
            if not self._waiting and not self._inserting:
                self._confirm(heads, sealed.spend)
                self._advance({partition: sealed.sequence})
                return
            if self._waiting and self._waiting[-1].partition == partition:
                newest = self._waiting[-1]
                newest.sequence = sealed.sequence
                newest.heads |= heads
                newest.spend |= sealed.spend
                return
        chunk = self._encoded(partition, sealed, records, ends, heads)
        self._waiting.append(chunk)
        self._waiting_rows += chunk.rows
        self._available.set()
        if self._waiting_rows >= ROWS_MAX:
            self._full.set()
        if self._waiting_rows >= WAITING_ROWS_MAX:
            self._room.clear()
            await self._room.wait()

    def tables_swapped(self) -> None:
        """The tables that it writes are the current ones from now on."""
        self._suffix = ""

    @asynccontextmanager
    async def between_blocks(self) -> AsyncIterator[None]:
        """Store nothing until the context ends: what the tables hold is then what `heads` and `spend` say."""
        async with self._storing:
            yield

    async def until(self, sequences: Mapping[int, int]) -> None:
        """Wait until what the log's messages up to these, by partition, became is stored, or will never come."""
        while any(
            self.done.get(partition, 0) < min(sequence, self._last.get(partition, sequence))
            for partition, sequence in sequences.items()
        ):
            await self._advanced.wait()

    def end_at(self, partition: int, sequence: int) -> None:
        """Nothing of a log will come after this message: end the waiting for more."""
        self._last[partition] = sequence
        self._advance({})

    async def run(self) -> None:
        """Write until cancelled; a block on its way is stored first, in both tables, if the store takes it."""
        # A thread of its own: in those that all share, an INSERT would wait for the queries of every reader.
        thread = ThreadPoolExecutor(1, thread_name_prefix="writer")
        try:
            await self._run(thread)
        finally:
            thread.shutdown(wait=False)  # nothing runs in it any more

    async def _run(self, thread: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        last = float("-inf")
        while True:
            await self._available.wait()
            elapsed = loop.time() - last
            wait_s = max(self._linger_s - elapsed, self._linger_s * PAUSED_PART)
            if not self._full.is_set():
                try:
                    async with asyncio.timeout(wait_s):
                        await self._full.wait()
                except TimeoutError:
                    pass
            block = self._take_block()
            last = loop.time()
            self._inserting = True
            inserting = asyncio.ensure_future(self._insert(block, thread))
            try:
                await asyncio.shield(inserting)
            except asyncio.CancelledError:
                await self._finish(inserting)
                raise

    async def _finish(self, inserting: asyncio.Future[None]) -> None:
        """Wait until a block is stored, unless the store fails: evidence without its analytics would look like an edit
        to a rebuild."""
        failing: asyncio.Future[Any] = asyncio.ensure_future(self._failing.wait())
        try:
            await asyncio.wait((inserting, failing), return_when=asyncio.FIRST_COMPLETED, timeout=FINISH_S)
        finally:
            failing.cancel()
            inserting.cancel()
            await asyncio.wait([inserting])

    def _encoded(
        self, partition: int, sealed: Sealed, records: list[Record], ends: list[RequestEnd], heads: dict[str, Head]
    ) -> Chunk:
        if len(self._names) > NAMES_MAX:
            self._names.clear()
        return Chunk(
            partition=partition,
            sequence=sealed.sequence,
            records=len(records),
            ends=len(ends),
            evidence=rows.records(records, self._names),
            analytics=rows.ends(ends),
            heads=heads,
            spend=sealed.spend,
            outgoing=outgoing(partition, sealed.sequence, records, made=sealed.made),
        )

    def _confirm(self, heads: Mapping[str, Head], spend: Mapping[str, KeySpend]) -> None:
        self.heads.update(heads)
        self.spend.update(spend)

    def _advance(self, sequences: dict[int, int]) -> None:
        self.done.update(sequences)
        self._advanced.set()
        self._advanced = asyncio.Event()

    def _take_block(self) -> list[Chunk]:
        block: list[Chunk] = []
        count = size = 0
        while self._waiting:
            chunk = self._waiting[0]
            if block and (count + chunk.rows > ROWS_MAX or size + chunk.size > BYTES_MAX):
                break
            count += chunk.rows
            size += chunk.size
            block.append(self._waiting.popleft())
        self._waiting_rows -= count
        if not self._waiting:
            self._available.clear()
        if self._waiting_rows < ROWS_MAX:
            self._full.clear()
        if self._waiting_rows < WAITING_ROWS_MAX:
            self._room.set()
        return block

    async def _insert(self, block: list[Chunk], thread: ThreadPoolExecutor) -> None:
        """Store a block, evidence first; repeats until it is stored."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        async with self._storing:
            if evidence := b"".join([chunk.evidence for chunk in block]):
                await self._until_stored(schema.RECORDS, schema.RECORD_COLUMNS, evidence, block, thread)
            if analytics := b"".join([chunk.analytics for chunk in block]):
                columns = [name for name, _ in schema.REQUEST_COLUMNS]
                await self._until_stored(schema.REQUESTS, columns, analytics, None, thread)
            for chunk in block:
                self._confirm(chunk.heads, chunk.spend)
        self._inserting = False
        self._advance({chunk.partition: chunk.sequence for chunk in block})
        self._metrics.inserts.observe(loop.time() - started)
        self._metrics.records.inc(sum(chunk.records for chunk in block))
        self._metrics.requests.inc(sum(chunk.ends for chunk in block))
        if self._offer is not None:
            self._offer([chunk.outgoing for chunk in block])

    async def _until_stored(
        self,
        table: str,
        columns: Sequence[str],
        data: bytes,
        evidence: list[Chunk] | None,
        thread: ThreadPoolExecutor,
    ) -> None:
        """Repeat an INSERT of the same bytes. After a failure, looks up whether `evidence` was stored all the same."""

        async def attempt() -> None:
            if self.healthy or evidence is None or not await self._is_stored(evidence, thread):
                await in_thread_of(thread, self._store.insert, table + self._suffix, columns, data)

        await retrying(attempt, backoff=BACKOFF, retry_on=StoreError, failed=self._failed)
        self.healthy = True
        self._failing.clear()

    def _failed(self, error: Exception) -> None:
        self.healthy = False
        self._failing.set()
        self._metrics.failures.inc()
        self._logger.warning("insert failed; trying again", error=str(error)[:500])

    async def _is_stored(self, block: list[Chunk], thread: ThreadPoolExecutor) -> bool:
        """Return whether all evidence of a block is in the table.

        An INSERT is stored whole or not at all, but another process may have stored a part of the same, so the end of
        every chain is looked for. Nobody stores a record before those that precede it: an end proves them.
        """
        heads = heads_of(block)
        for first in range(0, len(heads), HEADS_MAX):
            some = heads[first : first + HEADS_MAX]
            if not await in_thread_of(thread, self._store.has_records, some, self._suffix):
                return False
        return True
