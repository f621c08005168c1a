"""What the use cases call: the store, its writer, the publisher for subscribers, the query engine."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final, Literal, NamedTuple, Protocol, get_args

from keyforge.audit.core.position import Held
from keyforge.audit.core.sealed import Sealed
from keyforge.audit.core.sql_gate import Allowed
from keyforge.chain.verify import Stored

SpendBy = Literal["tenant", "key", "provider", "model", "endpoint", "edge", "hour", "day"]
SPEND_BY: Final[tuple[SpendBy, ...]] = get_args(SpendBy)
"""What spend may be grouped by."""


class Spent(NamedTuple):
    """What one group of requests came to; `group` has a value for each name that was asked for."""

    group: tuple[str | datetime, ...]
    requests: int
    settled_nusd: int
    tokens: int


class RecordStore(Protocol):
    """The projection as it is stored. Blocking: call it from a thread. All of it raises StoreError."""

    def create(self) -> None:
        """Make what is missing and check what is there. Raises SchemaDiffersError."""
        ...

    def drop(self) -> None:
        """Throw the projection away."""
        ...

    def held(self) -> Held:
        """Return how far the tables go, and the end of every chain."""
        ...

    def last_seq(self, chain: str) -> int:
        """Return the greatest seq that is stored of a chain, 0 if none is."""
        ...

    def records(self, chain: str, after_seq: int, upto_seq: int, limit: int) -> list[Stored]:
        """Return records of a chain, in order, each once."""
        ...

    def spend(
        self, by: Sequence[SpendBy], tenant: str | None, since: datetime | None, until: datetime | None
    ) -> list[Spent]:
        """Return what was spent by what was admitted from `since` to before `until`, by group."""
        ...


class RecordWriter(Protocol):
    """Stores what the folds seal, from where the store stood when it was made."""

    @property
    def healthy(self) -> bool:
        """Whether the last thing that was asked of the store was done."""
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
        """How many rows wait to be stored."""
        ...

    @property
    def waiting_since(self) -> float | None:
        """The loop's time at which the oldest row that waits came; None if none does."""
        ...

    async def put(self, partition: int, sealed: Sealed) -> None:
        """Hand over what came of whole messages. Waits while too much waits."""
        ...

    async def until(self, sequences: Mapping[int, int]) -> None:
        """Wait until what came of these messages, by log, is stored."""
        ...

    async def run(self) -> None:
        """Write until cancelled."""
        ...


WriterOf = Callable[[Held], RecordWriter]
"""Makes the writer for a store that holds this already."""


class RecordPublisher(Protocol):
    """Publishes what is stored to subscribers."""

    @property
    def healthy(self) -> bool:
        """Whether the stream of subscribers took what it was last given."""
        ...

    @property
    def waiting_bytes(self) -> int:
        """How much waits in memory to be published."""
        ...

    async def run(self) -> None:
        """Publish until cancelled."""
        ...


class QueryResult(NamedTuple):
    """What a query came to. `format` is empty where there is nothing to show."""

    data: bytes
    format: str
    rows: int
    elapsed_ns: int


class QueryEngine(Protocol):
    """Runs readers' queries, read-only and bounded. Blocking: call it from a thread. All of it raises QueryError."""

    def table_functions(self) -> frozenset[str]:
        """Return the names of the engine's table functions, in lower case."""
        ...

    def run(
        self,
        query: Allowed,
        *,
        format_: str,
        parameters: Mapping[str, str],
        settings: Mapping[str, str],
        database: str,
    ) -> QueryResult:
        """Run a query. `settings` may lower the bounds and do nothing else."""
        ...

    def end_queries(self) -> None:
        """End the queries that run now."""
        ...
