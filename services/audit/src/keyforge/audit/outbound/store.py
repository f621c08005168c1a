"""Reads and writes the tables, through one client library for a ClickHouse server and for the engine in this process.

Blocking: call it from a thread. Clients come from a small pool, so that readers and the writer do not wait for each
other. Whatever a client raises becomes a StoreError.
"""

import contextlib
import queue
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from keyforge.audit.application.ports import SpendBy, Spent
from keyforge.audit.core.position import Head, StoredState
from keyforge.audit.errors import SchemaDiffersError, StoreError
from keyforge.audit.outbound import schema
from keyforge.chain.verify import Stored
from keyforge.contracts.frame import Position

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

DATABASE: Final = "keyforge"
CLIENTS_MAX: Final = 4
"""Clients of the pool. Chosen: one for the writer, one for the publisher, two for readers."""
CONNECT_TIMEOUT_S: Final = 5
QUERY_TIMEOUT_S: Final = 60
"""Of a server, in seconds. Chosen: the slowest statement reads the heads of all chains, once at the start; a fifth of
the client's default (300 s), so that a server that hangs is noticed."""
_INSERT: Final[dict[str, Any]] = {
    "async_insert": 0,
    "input_format_parallel_parsing": 0,
    "max_threads": 1,
    "max_insert_threads": 1,
    "optimize_on_insert": 0,
}
"""One INSERT is one block and is on disk when it returns. Parallel threads, and replacing rows within a block, cost
more than they gain."""

TIMES: Final = (datetime(1900, 1, 1, tzinfo=UTC), datetime(2299, 12, 31, tzinfo=UTC))
"""The first and last time that ClickHouse and its client both handle."""

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")

_GROUPS: Final[Mapping[SpendBy, str]] = {
    "tenant": "tenant",
    "key": "key_id",
    "provider": "provider",
    "model": "model",
    "endpoint": "endpoint",
    "edge": "edge",
    "hour": "toStartOfHour(admitted_at)",
    "day": "toStartOfDay(admitted_at)",
}
"""The expression of each group."""


def server(url: str) -> Callable[[], "Client"]:
    """Return a function that connects to a ClickHouse server: http(s)://user:password@host:port/database."""
    parts = urlsplit(url)

    def connect() -> "Client":
        import clickhouse_connect

        return clickhouse_connect.get_client(
            host=parts.hostname or "127.0.0.1",
            port=parts.port or (8443 if parts.scheme == "https" else 8123),
            secure=parts.scheme == "https",
            username=unquote(parts.username or "default"),
            password=unquote(parts.password or ""),
            connect_timeout=CONNECT_TIMEOUT_S,
            send_receive_timeout=QUERY_TIMEOUT_S,
            autogenerate_session_id=False,
        )

    return connect


def database_of(url: str) -> str:
    """Return the database that a URL names. Raises ValueError."""
    name = urlsplit(url).path.strip("/") or DATABASE
    if _IDENTIFIER.fullmatch(name) is None:
        raise ValueError("the path of the ClickHouse URL must be the name of a database")
    return name


def engine(path: str) -> Callable[[], "Client"]:
    """Return a function that connects to the engine in this process; the first connection starts it (1.5 s, 340 MB)."""

    def connect() -> "Client":
        import clickhouse_connect

        return clickhouse_connect.get_client(interface="chdb", path=path)

    return connect


class Store:
    """The projection in ClickHouse."""

    def __init__(self, connect: Callable[[], "Client"], database: str = DATABASE) -> None:
        self._connect = connect
        self._database = database
        self._idle: queue.LifoQueue[Client] = queue.LifoQueue()
        self._tickets: queue.Queue[None] = queue.Queue()
        for _ in range(CLIENTS_MAX):
            self._tickets.put(None)

    def create(self) -> None:
        """Create what is missing and check what exists. Raises SchemaDiffersError, StoreError."""
        with self._client(database=False) as client:
            client.command(f"CREATE DATABASE IF NOT EXISTS {self._database}")
        with self._client() as client:
            for statement in schema.CREATE:
                client.command(statement)
            for table, expected in schema.COLUMNS.items():
                found = [row[0] for row in client.query(f"DESCRIBE TABLE {table}").result_rows]
                if found != expected:
                    raise SchemaDiffersError(f"table {table} has other columns than this version writes")

    def drop(self) -> None:
        """Drop the tables and views."""
        with self._client() as client:
            for statement in schema.DROP:
                client.command(statement)

    def stored_state(self) -> StoredState:
        """Return the last position in each table, by log, and the end of every chain."""
        with self._client() as client:
            heads = client.query(
                "SELECT chain, any(partition), max(seq), argMax(hash, seq), count() FROM records GROUP BY chain"
            ).result_rows
            return StoredState(
                self._positions(client, schema.RECORDS),
                self._positions(client, schema.REQUESTS),
                {row[0]: Head(row[1], row[2], bytes(row[3]), row[4]) for row in heads},
            )

    def insert(self, table: str, columns: Sequence[str], rows: bytes) -> None:
        """Insert rows in RowBinary, as one block, on disk when this returns."""
        with self._client() as client:
            client.raw_insert(table, columns, rows, settings=_INSERT, fmt="RowBinary")

    def last_seq(self, chain: str) -> int:
        """Return the greatest stored seq of a chain, 0 if it has none."""
        with self._client() as client:
            found = client.query("SELECT max(seq) FROM records WHERE chain = {chain:String}", {"chain": chain})
            return int(found.result_rows[0][0])

    def records(self, chain: str, after: int, upto: int, limit: int) -> list[Stored]:
        """Return records of a chain, in order; a row that was inserted twice is returned once."""
        with self._client() as client:
            found = client.query(
                "SELECT header, hash, mac, body FROM records WHERE chain = {chain:String} AND seq > {after:UInt64}"
                " AND seq <= {upto:UInt64} ORDER BY seq LIMIT 1 BY seq, header, hash, mac, body LIMIT {limit:UInt32}",
                {"chain": chain, "after": after, "upto": upto, "limit": limit},
                column_formats={"body": "bytes"},
            )
            return [Stored(bytes(row[0]), bytes(row[1]), bytes(row[2]), bytes(row[3])) for row in found.result_rows]

    def sealed(self, partition: int, after: int, limit: int) -> list[tuple[int, str, int, bytes, bytes, bytes, bytes]]:
        """Return (sequence, chain, seq, header, hash, mac, body) of tenants' records after a message, in order.

        About `limit` of them: a message's records are returned together.
        """
        following = "tenant != '' AND partition = {partition:UInt32} AND sequence > {after:UInt64}"
        with self._client() as client:
            found = client.query(
                # The page's end is found from one column first: rows that are sorted are in memory with their bodies.
                f"WITH (SELECT max(sequence) FROM (SELECT sequence FROM records WHERE {following}"  # noqa: S608  # our own
                " ORDER BY sequence LIMIT {limit:UInt32})) AS upto"
                " SELECT sequence, chain, seq, header, hash, mac, body FROM records"
                f" WHERE {following} AND sequence <= upto ORDER BY sequence, frame_index, chain LIMIT 1 BY chain, seq",
                {"partition": partition, "after": after, "limit": limit},
                column_formats={"body": "bytes"},
            )
            return [
                (row[0], row[1], row[2], bytes(row[3]), bytes(row[4]), bytes(row[5]), bytes(row[6]))
                for row in found.result_rows
            ]

    def spend(
        self, by: Sequence[SpendBy], tenant: str | None, since: datetime | None, until: datetime | None
    ) -> list[Spent]:
        """Return what requests admitted from `since` to before `until` came to, by group."""
        where, parameters = ["1"], dict[str, Any]()
        for condition, name, value in (
            ("tenant = {tenant:String}", "tenant", tenant),
            ("admitted_at >= {since:DateTime64(6, 'UTC')}", "since", _clamped(since)),
            ("admitted_at < {until:DateTime64(6, 'UTC')}", "until", _clamped(until)),
        ):
            if value is not None:
                where.append(condition)
                parameters[name] = value
        groups = [_GROUPS[name] for name in by]
        columns = ", ".join([*groups, schema.COUNTED, "sum(toInt128(settled_nusd))", "sum(toInt128(settled_tokens))"])
        order = f" GROUP BY {', '.join(groups)} ORDER BY {', '.join(groups)}" if groups else ""
        # Only expressions of _GROUPS become part of the text; what comes from outside is a parameter.
        query = f"SELECT {columns} FROM requests FINAL WHERE {' AND '.join(where)}{order}"  # noqa: S608
        with self._client() as client:
            rows = client.query(query, parameters).result_rows
            return [Spent(tuple(row[:-3]), int(row[-3]), int(row[-2]), int(row[-1])) for row in rows]

    def close(self) -> None:
        """Close the idle clients. The engine in this process ends with its last client."""
        while True:
            try:
                self._idle.get_nowait().close()
            except queue.Empty:
                return

    @staticmethod
    def _positions(client: "Client", table: str) -> dict[int, Position]:
        rows = client.query(
            f"SELECT partition, max((generation, sequence, frame_index)) FROM {table} GROUP BY partition"  # noqa: S608
        ).result_rows
        return {row[0]: Position(*row[1]) for row in rows}

    @contextlib.contextmanager
    def _client(self, *, database: bool = True) -> Iterator["Client"]:
        """Lend a client. One that failed is closed, since its state is unknown."""
        self._tickets.get()
        client: Client | None = None
        try:
            try:
                client = self._idle.get_nowait()
            except queue.Empty:
                client = self._connect()
            if database:
                client.database = self._database
            yield client
        except StoreError:
            raise
        except Exception as error:
            if client is not None:
                with contextlib.suppress(Exception):
                    client.close()
                client = None
            raise StoreError(f"{type(error).__name__}: {error}") from error
        finally:
            if client is not None:
                self._idle.put(client)
            self._tickets.put(None)


def _clamped(at: datetime | None) -> datetime | None:
    return at if at is None else min(max(at, TIMES[0]), TIMES[1])
