"""The embedded ClickHouse engine for readers' queries: each on a handle of its own, read-only and bounded.

Blocking: call it from a thread. The handles share the engine and its folder with the clients of `store`.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from keyforge.audit.application.ports import QueryResult
from keyforge.audit.core import sql_gate
from keyforge.audit.errors import READONLY, QueryError

if TYPE_CHECKING:
    from chdb.state.sqlitelike import Connection

EXECUTION_S_MAX: Final = 30
RESULT_BYTES_MAX: Final = 64 * 1024 * 1024
MEMORY_BYTES_MAX: Final = 512 * 1024 * 1024
THREADS_MAX: Final = 2
"""Bounds of one query (ADR 18). Chosen: the engine shares a process with the fold. The four that run at a time
(`QUERIES_MAX`) take 8 threads and 2 GiB at most; 30 s is the longest that an answer of audit's own API waits."""
BOUND_DIGITS_MAX: Final = 18
"""Digits of a bound that a client sets: it must fit the 64 bits of ClickHouse's setting."""
UNKNOWN_FORMAT: Final = 73
"""ClickHouse's code of the error."""

_BOUNDS: Final = {
    "max_execution_time": EXECUTION_S_MAX,
    "max_result_bytes": RESULT_BYTES_MAX,
    "max_memory_usage": MEMORY_BYTES_MAX,
    "max_threads": THREADS_MAX,
    "max_query_size": sql_gate.QUERY_CHARS_MAX * 4,
}
_ENGINES_OWN: Final = ("", "default")
"""Names of the engine's default database, which shows files as tables; ours is used instead."""
_PYTHONS_OWN: Final = frozenset(("arrowtable", "dataframe", "datastore"))
"""Formats that the engine returns as Python objects, without any of the bounds."""
_SHORTER: Final = ("max_execution_time", "max_result_bytes", "max_threads")
"""Bounds that a client may lower."""


class Engine:
    """The engine in this process, for readers."""

    def __init__(self, path: str, database: str) -> None:
        self._path = os.path.realpath(path)
        self._database = database
        self._table_functions: frozenset[str] | None = None

    def table_functions(self) -> frozenset[str]:
        """Return the names of the engine's table functions, in lower case. Raises QueryError."""
        if self._table_functions is None:
            with self._handle() as connection:
                found = connection.query("SELECT lower(name) FROM system.table_functions", "TSV").bytes() or b""
            self._table_functions = frozenset(found.decode().split())
        return self._table_functions

    def run(
        self,
        query: sql_gate.AllowedQuery,
        *,
        format_: str,
        parameters: Mapping[str, str],
        settings: Mapping[str, str],
        database: str = "",
    ) -> QueryResult:
        """Run a query that the gate allowed. `settings` may lower our bounds and nothing else. Raises QueryError."""
        wanted = query.format or format_
        if wanted.lower() in _PYTHONS_OWN:
            raise QueryError(f"Code: {UNKNOWN_FORMAT}. DB::Exception: Unknown format {wanted}. (UNKNOWN_FORMAT)")
        with self._handle() as connection:
            connection.query(f"USE {self._database if database in _ENGINES_OWN else database}", "Null")
            self._confine(connection, settings)
            result = connection.query(query.sql, wanted, params=dict(parameters))
            data = bytes(result.bytes() or b"")
            if not data and wanted == "Native":
                data = self._no_rows(connection, query.bare, parameters)
            return QueryResult(data, wanted if data else "", int(result.rows_read()), int(result.elapsed() * 1e9))

    def end_queries(self) -> None:
        """End the readers' queries that run now; our own, which write, go on. Raises QueryError."""
        with self._handle() as connection:
            connection.query("KILL QUERY WHERE Settings['readonly'] = '1' ASYNC", "Null")

    @contextmanager
    def _handle(self) -> Iterator["Connection"]:
        import chdb

        try:
            connection = chdb.connect(self._path)
            try:
                yield connection
            finally:
                connection.close()
        except RuntimeError as error:
            raise QueryError(str(error)) from None

    def _confine(self, connection: "Connection", settings: Mapping[str, str]) -> None:
        """Set the bounds, then make the handle read-only: from then on it cannot change a setting either."""
        bounds = dict(_BOUNDS)
        for name, value in settings.items():
            if name not in _SHORTER or not (value.isdecimal() and len(value) <= BOUND_DIGITS_MAX):
                raise QueryError(f"Code: {READONLY}. DB::Exception: Cannot modify this setting. (READONLY)")
            bounds[name] = min(bounds[name], max(int(value), 1))
        connection.query("SET " + ", ".join(f"{name} = {value}" for name, value in bounds.items()), "Null")
        connection.query("SET readonly = 1", "Null")

    @staticmethod
    def _no_rows(connection: "Connection", sql: str, parameters: Mapping[str, str]) -> bytes:
        """Make a result without rows: a server sends a block with the columns' names and types, the engine nothing."""
        try:
            described = connection.query(f"DESCRIBE TABLE ({sql})", "TSVRaw", params=dict(parameters))
        except RuntimeError:  # not a SELECT
            return b""
        columns = [line.split("\t")[:2] for line in (described.bytes() or b"").decode().splitlines()]
        return _length(len(columns)) + b"\0" + b"".join(_text(name) + _text(type_) for name, type_ in columns)


def _text(value: str) -> bytes:
    data = value.encode()
    return _length(len(data)) + data


def _length(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
