"""The ports of audit: the store, its writer, the publisher for subscribers, the query engine."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Final, Literal, NamedTuple, Protocol, get_args

from keyforge.audit.core.evidence import StoredEnd, StoredSpend, Table
from keyforge.audit.core.folded_chain import FoldedChain
from keyforge.audit.core.position import StoredState
from keyforge.audit.core.sealed import Head, KeySpend, RequestEnd, Sealed
from keyforge.audit.core.sql_gate import AllowedQuery
from keyforge.chain.seal import MasterKey
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


class KeptTables(NamedTuple):
    """A set of tables that a rebuild kept: rows and bytes of both."""

    name: str
    rows: int
    bytes: int


class TableDifference(NamedTuple):
    """Where two sets of tables differ: the first record of it, and how. `partition` None: not known."""

    table: Table
    partition: int | None
    chain: str
    seq: int | None
    why: str


class RecordStore(Protocol):
    """The stored rows. Blocking: call it from a thread. Every method raises StoreError."""

    def chain_ends(self, chains: Sequence[str] = (), master: MasterKey | None = None) -> list[StoredEnd]:
        """Return the stored end of each of these chains that has one; of all if none are named.

        Without a master key none is looked at closely, so none is `authentic`: that is most of the cost.
        """
        ...

    def chain_extent(self, chain: str, upto: int) -> tuple[int, int]:
        """Return the greatest stored seq of a chain, 0 if it has none, and how many seqs up to `upto` are stored."""
        ...

    def first_stored_twice(self, chain: str, upto: int) -> int | None:
        """Return the first seq of a chain, up to `upto`, of which there are rows that differ; None if there is none."""
        ...

    def beginning(self, partition: int, limit: int) -> list[tuple[str, Stored]]:
        """Return chain and record, without its body, of the first rows that are stored of a log."""
        ...

    def requests_positions(self, ends: Mapping[int, int]) -> dict[int, int]:
        """Return by log the last message of which `requests` has a row, of those up to the log's end."""
        ...

    def last_stored_of(self, ends: Sequence[RequestEnd]) -> int:
        """Return the last message of those of these ends that `requests` has a row of; 0 if it has none."""
        ...

    def spend_of_keys(self, keys: Sequence[tuple[str, str]] = ()) -> list[StoredSpend]:
        """Return what is stored of the requests of each of these keys, tenant and id; of all if none are named."""
        ...

    def records(self, chain: str, after: int, upto: int, limit: int) -> list[Stored]:
        """Return records of a chain, in order, each once."""
        ...

    def spend(
        self, by: Sequence[SpendBy], tenant: str | None, since: datetime | None, until: datetime | None
    ) -> list[Spent]:
        """Return what requests admitted from `since` to before `until` came to, by group."""
        ...


class StoredTables(Protocol):
    """The sets of tables. Blocking: call it from a thread. Every method raises StoreError."""

    def open(self) -> None:
        """Finish what was interrupted, create what is missing, check what exists. Raises SchemaDiffersError."""
        ...

    def restore_views(self) -> list[str]:
        """Create those views again that are not what `open` created; return their names."""
        ...

    def create_beside(self) -> None:
        """Create empty tables beside the current ones, and current ones that are gone."""
        ...

    def check_beside(self) -> None:
        """Raise BesideLostError if the tables beside the current ones are not those that were created."""
        ...

    def drop_built(self) -> None:
        """Drop those tables beside the current ones that were created last, and no others."""
        ...

    def swap(self, keep: str) -> None:
        """Make the tables beside the current ones. The old are kept under this name, or dropped if it is empty.

        Raises BesideLostError.
        """
        ...

    def kept(self) -> list[KeptTables]:
        """Return the sets that were kept, oldest first."""
        ...

    def drop_kept(self, name: str) -> bool:
        """Drop a set that was kept; return whether there was one of this name."""
        ...

    def current_bytes(self) -> int:
        """Return how large the current tables are."""
        ...

    def free_bytes(self) -> int:
        """Return how much room is left where tables are stored."""
        ...


class TableComparison(Protocol):
    """Compares the current tables with those beside them. Blocking: call it from a thread. Raises StoreError."""

    def records(
        self, upto: Mapping[int, int], *, beyond: bool, limit: int, stopped: Callable[[], bool]
    ) -> list[TableDifference]:
        """Return the first `limit` records that differ, up to these messages of the logs or, `beyond`, after them."""
        ...

    def requests(self, limit: int) -> list[TableDifference]:
        """Return the first `limit` keys, days and models whose sums differ."""
        ...


class BuiltTables(Protocol):
    """Examines the tables beside the current ones. Blocking: call it from a thread. Raises StoreError."""

    def faults(
        self,
        folded: Mapping[str, FoldedChain],
        spend: Mapping[str, KeySpend],
        *,
        limit: int,
        stopped: Callable[[], bool],
    ) -> list[TableDifference]:
        """Return the first `limit` records and keys, by the chain of a key, that are not what the fold gave."""
        ...


class StorePorts(NamedTuple):
    """What audit calls of the store, and the key that what is stored was sealed with."""

    store: RecordStore
    tables: StoredTables
    comparison: TableComparison
    built: BuiltTables
    master: MasterKey


class RecordWriter(Protocol):
    """Stores what the folds produce, except what was stored when it was created."""

    @property
    def healthy(self) -> bool:
        """Whether the last call of the store succeeded."""
        ...

    @property
    def heads(self) -> Mapping[str, Head]:
        """By chain its head at the messages that are `done`: the fold's, whatever the store holds."""
        ...

    @property
    def spend(self) -> Mapping[str, KeySpend]:
        """By the chain of a key, what it had spent then."""
        ...

    @property
    def done(self) -> Mapping[int, int]:
        """By log, the last message whose rows, if it made any, are stored."""
        ...

    @property
    def waiting(self) -> int:
        """Rows that wait to be stored."""
        ...

    async def put(self, partition: int, sealed: Sealed) -> None:
        """Hand over what whole messages became. Waits while too much is waiting."""
        ...

    def tables_swapped(self) -> None:
        """The tables that it writes are the current ones from now on."""
        ...

    def between_blocks(self) -> AbstractAsyncContextManager[None]:
        """Store nothing until the context ends: what the tables hold is then what `heads` and `spend` say."""
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


class WriterOf(Protocol):
    """Creates writers."""

    def __call__(self, stored: StoredState, *, beside: bool) -> RecordWriter:
        """Create the writer of the current tables, which hold this already, or of those beside them."""
        ...


class RecordPublisher(Protocol):
    """Publishes what is stored to subscribers."""

    @property
    def failure(self) -> str:
        """Why the last message for subscribers was not stored; empty if it was."""
        ...

    @property
    def waiting_bytes(self) -> int:
        """Bytes in memory that wait to be published."""
        ...

    def folded(self, partition: int, sequence: int, records: int) -> None:
        """The fold has made so many records of tenants and their keys of a log up to this message."""
        ...

    async def run(self, done: Mapping[int, int]) -> None:
        """Publish until cancelled. `done` is kept up to date: by log, the last message that is stored."""
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
