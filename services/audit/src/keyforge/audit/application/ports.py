"""The ports of audit: the store, its writer, the publisher for subscribers, the query engine."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final, Literal, NamedTuple, Protocol, get_args

from keyforge.audit.core.position import StoredState
from keyforge.audit.core.sealed import Sealed
from keyforge.audit.core.sql_gate import AllowedQuery
from keyforge.chain.verify import Stored

SpendBy = Literal["tenant", "key", "provider", "model", "endpoint", "edge", "hour", "day"]
SPEND_BY: Final[tuple[SpendBy, ...]] = get_args(SpendBy)
"""What spend may be grouped by."""


class Spent(NamedTuple):
    """The sums of one group of requests; `group` has a value for each name that was asked for."""

    group: tuple[str | datetime, ...]
    requests: int
    settled_nusd: int
    tokens: int


class RecordStore(Protocol):
    """The stored projection. Blocking: call it from a thread. Every method raises StoreError."""

    def create(self) -> None:
        """Create what is missing and check what exists. Raises SchemaDiffersError."""
        ...

    def drop(self) -> None:
        """Drop the tables and views."""
        ...

    def stored_state(self) -> StoredState:
        """Return the last position in each table, by log, and the end of every chain."""
        ...

    def last_seq(self, chain: str) -> int:
        """Return the greatest stored seq of a chain, 0 if it has none."""
        ...

    def records(self, chain: str, after: int, upto: int, limit: int) -> list[Stored]:
        """Return records of a chain, in order, each once."""
        ...

    def spend(
        self, by: Sequence[SpendBy], tenant: str | None, since: datetime | None, until: datetime | None
    ) -> list[Spent]:
        """Return what requests admitted from `since` to before `until` came to, by group."""
        ...


class RecordWriter(Protocol):
    """Stores what the folds produce, except what was stored when it was created."""

    @property
    def healthy(self) -> bool:
        """Whether the last call of the store succeeded."""
        ...

    @property
    def heads(self) -> Mapping[str, tuple[int, bytes]]:
        """The end of every chain as it is stored."""
        ...

    @property
    def done(self) -> Mapping[int, int]:
        """By log, the last message whose rows, if it made any, are stored."""
        ...

    @property
    def waiting(self) -> int:
        """Rows that wait to be stored."""
        ...

    @property
    def waiting_since(self) -> float | None:
        """The event loop's time since which the oldest row waits; None if none does."""
        ...

    async def put(self, partition: int, sealed: Sealed) -> None:
        """Hand over what whole messages became. Waits while too much is waiting."""
        ...

    async def until(self, sequences: Mapping[int, int]) -> None:
        """Wait until what the log's messages up to these, by partition, became is stored, or will never come."""
        ...

    def end_at(self, partition: int, sequence: int) -> None:
        """Nothing of a log will come after this message: end the waiting for more."""
        ...

    async def run(self) -> None:
        """Write until cancelled."""
        ...


WriterOf = Callable[[StoredState], RecordWriter]
"""Creates the writer for a store that holds this already."""


class RecordPublisher(Protocol):
    """Publishes what is stored to subscribers."""

    @property
    def healthy(self) -> bool:
        """Whether the last message for subscribers was stored."""
        ...

    @property
    def waiting_bytes(self) -> int:
        """Bytes in memory that wait to be published."""
        ...

    async def run(self) -> None:
        """Publish until cancelled."""
        ...


class QueryResult(NamedTuple):
    """The result of a query. `format` is empty if there is no data."""

    data: bytes
    format: str
    rows: int
    elapsed_ns: int


class QueryEngine(Protocol):
    """Runs readers' queries, read-only and bounded. Blocking: call it from a thread. Every method raises QueryError."""

    def table_functions(self) -> frozenset[str]:
        """Return the names of the engine's table functions, in lower case."""
        ...

    def run(
        self,
        query: AllowedQuery,
        *,
        format_: str,
        parameters: Mapping[str, str],
        settings: Mapping[str, str],
        database: str,
    ) -> QueryResult:
        """Run a query. `settings` may lower the bounds and nothing else."""
        ...

    def end_queries(self) -> None:
        """End the queries that run now."""
        ...
