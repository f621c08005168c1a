"""The genuine ones of the tenants' records that are stored after a message, in the order of the log.

Columns may have been altered, rows made up or removed. What is not as it was sealed is withheld and counted; where the
columns beside a header say something else than it does, rows are found by header; a gap in a chain is counted too.
"""

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from typing import Any, Final

from keyforge.audit.core.evidence import AuthenticityCheck
from keyforge.audit.metrics import Metrics
from keyforge.audit.outbound.tenant_rows import StoredRow, TenantRows
from keyforge.chain.record import unpack
from keyforge.chain.seal import MasterKey
from keyforge.chain.verify import Stored
from keyforge.runtime import logs
from keyforge.runtime.threads import in_thread

PAGE_RECORDS: Final = 5000
"""Records read from ClickHouse at a time. Chosen: 5.5 MB at 1.1 KB a record (measured)."""
WITHHELD_SHOWN_MAX: Final = 20
"""Withheld records of a page that are logged one by one; all are counted. Precedent:
`projection.REJECTED_SHOWN_MAX`."""

Read = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Calls the store from a thread until it answers."""


class StoredTail:
    """Reads one log's part of the store, after a message."""

    def __init__(self, rows: TenantRows, master: MasterKey, metrics: Metrics, read: Read, partition: int) -> None:
        self._rows = rows
        self._check = AuthenticityCheck(master)
        self._metrics = metrics
        self._read = read
        self._partition = partition
        self._last: dict[str, int] = {}
        """By chain the seq of the last genuine record."""
        self._withheld: Counter[str] = Counter()
        """By chain how many rows were withheld since then."""
        self.withheld = 0
        """How many rows were withheld, or found missing, in all."""
        self._whole = False
        self._logger = logs.get("publisher")

    async def pages(self, after: int) -> AsyncGenerator[list[StoredRow], None]:
        """Yield the genuine rows after a message, whole messages at a time."""
        self._whole = after == 0
        by_header = not await self._read(partial(self._rows.columns_agree, self._partition, after))
        if by_header:
            self._logger.error("columns of stored records are altered; reading them by their headers")
        read_page = partial(self._rows.page, by_header=by_header)
        while page := await self._read(partial(read_page, self._partition, after, PAGE_RECORDS)):
            after = page.upto
            rows = await (self._flooded(after, by_header=by_header) if page.flooded else self._genuine(page.rows))
            self._count_gaps(rows)
            if rows:
                yield rows

    async def _flooded(self, sequence: int, *, by_header: bool) -> list[StoredRow]:
        """Return the genuine rows of a message that has too many: they are as few as ever, and in memory at once."""
        found: dict[tuple[str, int, bytes], StoredRow] = {}
        digest = ""
        read_part = partial(self._rows.part, by_header=by_header)
        while True:
            rows, digest = await self._read(partial(read_part, self._partition, sequence, digest, PAGE_RECORDS))
            if not rows:
                return sorted(found.values(), key=lambda row: (unpack(row.header).frame_index, row.chain, row.seq))
            found |= {(row.chain, row.seq, row.hash): row for row in await self._genuine(rows)}

    async def _genuine(self, rows: list[StoredRow]) -> list[StoredRow]:
        found, others = await in_thread(self._divided, rows)
        self._count(len(others))
        self._withheld.update(row.chain for row in others)
        for row in others[:WITHHELD_SHOWN_MAX]:
            self._logger.error("stored record withheld: it is not as it was sealed", chain=row.chain[:100], seq=row.seq)
        return found

    def _divided(self, rows: list[StoredRow]) -> tuple[list[StoredRow], list[StoredRow]]:
        """Return the genuine rows and the others. Blocking, for 0.2 s where each has a chain of its own: call it from a
        thread."""
        found, others = list[StoredRow](), list[StoredRow]()
        for row in rows:
            (found if self._is_genuine(row) else others).append(row)
        return found, others

    def _is_genuine(self, row: StoredRow) -> bool:
        if not row.chain.startswith(("key/", "tenant/")):
            return False
        if not self._check.is_authentic(row.chain, Stored(row.header, row.hash, row.mac, row.body)):
            return False
        header = unpack(row.header)
        return (header.partition, header.sequence, header.seq) == (self._partition, row.sequence, row.seq)

    def _count_gaps(self, rows: list[StoredRow]) -> None:
        """Count what is missing between the records of a chain, and was not withheld."""
        for row in rows:
            before = self._last.get(row.chain, 0 if self._whole else row.seq - 1)
            gap = row.seq - before - 1
            missing = gap - self._withheld.pop(row.chain, 0) if gap > 0 else 0
            if missing > 0:
                self._logger.error("records are missing in the store", chain=row.chain, seq=before + 1, count=missing)
                self._count(missing)
            self._last[row.chain] = row.seq

    def _count(self, rows: int) -> None:
        self.withheld += rows
        self._metrics.withheld.inc(rows)
