"""`python -m keyforge.audit`: the fold, ClickHouse and the operators' API, until SIGTERM."""

import asyncio
import gc
import sys
from typing import Final

from keyforge.audit import app
from keyforge.audit.errors import AuditError
from keyforge.audit.settings import AuditSettings
from keyforge.runtime import serve
from keyforge.runtime.start import connect, start

COLLECT_EVERY: Final = 50_000
"""Objects created and not freed before the youngest generation is collected; Python's default is 700 to 2,000. Chosen:
more than the records of two whole INSERTs (`writer.ROWS_MAX`), which are not traversed while they are being encoded."""


async def main(settings: AuditSettings) -> int:
    """Serve; return the exit code."""
    app.check(settings)
    loading = asyncio.create_task(asyncio.to_thread(app.load, settings))
    connection, partitions = await connect(settings)
    try:
        service = app.Service(settings, connection, partitions=partitions)
        await service.start()
        _collect_seldom()
        return await serve.serve(service.app, settings, stop=service.stop, failed=service.projection.failed)
    finally:
        await connection.close()
        await loading


def _collect_seldom() -> None:
    """Collect garbage seldom: there are hardly any cycles, and a collection traverses all that waits to be stored."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_EVERY, 20, 100)


def run() -> int:
    """Read the settings and serve; return the exit code."""
    return start("audit", AuditSettings, main, faults=(AuditError,))


if __name__ == "__main__":
    sys.exit(run())
