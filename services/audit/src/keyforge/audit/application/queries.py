"""Readers' queries: which may run, how many at a time, and that none outlives the service."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from keyforge.audit.application.ports import QueryEngine, QueryResult
from keyforge.audit.core import sql_gate
from keyforge.audit.errors import READONLY, QueryError

QUERIES_MAX: Final = 4
"""Queries that run at a time. Chosen: with the bounds of each (`engine.THREADS_MAX`, `MEMORY_BYTES_MAX`) they take 8
threads and 2 GiB at most beside the writer of evidence."""
WAITING_MAX: Final = 32
"""Queries that run or wait. Chosen: eight turns of QUERIES_MAX; more are refused rather than queued."""
END_TRIES_MAX: Final = 20
END_RETRY_S: Final = 0.1
"""Together 2 s in which running queries are ended. Chosen: a fifth of the time that a service has to stop by default
(KEYFORGE_SHUTDOWN_TIME_LIMIT_S, 10 s)."""


class Queries:
    """Passes queries through the gate and runs them on an engine, a few at a time."""

    def __init__(self, engine: QueryEngine) -> None:
        self._engine = engine
        self._free = asyncio.Semaphore(QUERIES_MAX)
        self._waiting = 0
        self._closed = False

    async def run(
        self,
        sql: str,
        *,
        format_: str,
        parameters: Mapping[str, str],
        settings: Mapping[str, str],
        database: str = "",
    ) -> QueryResult:
        """Run one query if it only reads. `settings` may lower the engine's bounds and nothing else.

        Raises QueryError.
        """
        if database and not sql_gate.is_database(database):
            raise QueryError("Code: 81. DB::Exception: Not a valid database name. (UNKNOWN_DATABASE)")
        if self._waiting >= WAITING_MAX:
            raise QueryError("Code: 202. DB::Exception: Too many simultaneous queries. (TOO_MANY_SIMULTANEOUS_QUERIES)")
        self._waiting += 1
        try:
            async with self._free:
                if self._closed:
                    raise QueryError("Code: 236. DB::Exception: The service is shutting down. (ABORTED)")
                return await asyncio.to_thread(self._run, sql, format_, parameters, settings, database)
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        """Refuse further queries and end those that run, so that stopping the service does not wait for them."""
        self._closed = True
        for _ in range(END_TRIES_MAX):  # a query that is about to start is found by the next try
            if not self._waiting:
                return
            with suppress(QueryError):
                await asyncio.to_thread(self._engine.end_queries)
            await asyncio.sleep(END_RETRY_S)

    def _run(
        self, sql: str, format_: str, parameters: Mapping[str, str], settings: Mapping[str, str], database: str
    ) -> QueryResult:
        verdict = sql_gate.judge(sql, self._engine.table_functions())
        if isinstance(verdict, sql_gate.RefusedQuery):
            raise QueryError(f"Code: {READONLY}. DB::Exception: {verdict.why}. (READONLY)")
        return self._engine.run(verdict, format_=format_, parameters=parameters, settings=settings, database=database)
