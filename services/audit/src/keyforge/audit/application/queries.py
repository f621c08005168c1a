"""Queries of readers: how many run and wait, what may run at all, and that none outlives the service."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from keyforge.audit.application.ports import QueryEngine, QueryResult
from keyforge.audit.core import sql_gate
from keyforge.audit.errors import READONLY, QueryError

QUERIES_MAX: Final = 4
WAITING_MAX: Final = 32
END_TRIES_MAX: Final = 20
END_AGAIN_S: Final = 0.1


class Queries:
    """Judges queries and runs them on an engine, a few at a time."""

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
        """Run one query if it only reads. `settings` may lower the engine's bounds, no more. Raises QueryError."""
        if database and not sql_gate.is_database(database):
            raise QueryError("Code: 81. DB::Exception: There is no such database. (UNKNOWN_DATABASE)")
        if self._waiting >= WAITING_MAX:
            raise QueryError("Code: 202. DB::Exception: Too many queries wait. (TOO_MANY_SIMULTANEOUS_QUERIES)")
        self._waiting += 1
        try:
            async with self._free:
                if self._closed:
                    raise QueryError("Code: 236. DB::Exception: The service stops. (ABORTED)")
                return await asyncio.to_thread(self._run, sql, format_, parameters, settings, database)
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        """Run no more queries, and end those that run: nothing waits for their bound when the service stops."""
        self._closed = True
        for _ in range(END_TRIES_MAX):  # one that is about to begin is found the next time
            if not self._waiting:
                return
            with suppress(QueryError):
                await asyncio.to_thread(self._engine.end_queries)
            await asyncio.sleep(END_AGAIN_S)

    def _run(
        self, sql: str, format_: str, parameters: Mapping[str, str], settings: Mapping[str, str], database: str
    ) -> QueryResult:
        verdict = sql_gate.judge(sql, self._engine.table_functions())
        if isinstance(verdict, sql_gate.Refused):
            raise QueryError(f"Code: {READONLY}. DB::Exception: {verdict.why}. (READONLY)")
        return self._engine.run(verdict, format_=format_, parameters=parameters, settings=settings, database=database)
