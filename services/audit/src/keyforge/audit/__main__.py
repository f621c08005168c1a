"""`python -m keyforge.audit`: the fold, ClickHouse and the operators' API, until SIGTERM."""

import asyncio
import gc
import sys
from typing import Final

from pydantic import ValidationError

from keyforge.audit import app
from keyforge.audit.errors import AuditError
from keyforge.audit.settings import AuditSettings
from keyforge.eventlog.durability import require_durable
from keyforge.eventlog.log import EventLogError
from keyforge.runtime import bus, logs, serve

COLLECT_EVERY: Final = 50_000
"""Objects created and not freed before the youngest generation is collected; Python's default is 700 to 2,000. Chosen:
the records of a whole batch are not traversed while they are being encoded."""


async def main(settings: AuditSettings) -> int:
    """Serve; return the exit code."""
    loading = asyncio.create_task(asyncio.to_thread(app.load, settings))
    await require_durable(settings.nats_monitor_url.split(","), relaxed=settings.durability == "relaxed")
    connection = await bus.connect(settings)
    try:
        service = app.Service(settings, connection)
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
    """Read the settings and serve; an error of the settings or at the start is one line on stderr or in the log."""
    try:
        settings = AuditSettings()  # type: ignore[call-arg]  # the environment has them
    except ValidationError as error:
        for wrong in error.errors(include_input=False, include_url=False):
            print(f"KEYFORGE_{'_'.join(map(str, wrong['loc'])).upper()}: {wrong['msg']}", file=sys.stderr)  # noqa: T201
        return 2
    logs.configure("audit", settings.log_level)
    try:
        return serve.run(main(settings))
    except (AuditError, EventLogError, OSError) as error:
        logs.get("audit").error("cannot run", error=str(error) or type(error).__name__)
        return 1


if __name__ == "__main__":
    sys.exit(run())
