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
"""Objects made and not freed before the collector looks at the young ones."""


async def main(settings: AuditSettings) -> int:
    """Serve; return the exit code."""
    warming = asyncio.create_task(asyncio.to_thread(app.load, settings))
    await require_durable(settings.nats_monitor_url.split(","), relaxed=settings.durability == "relaxed")
    connection = await bus.connect(settings)
    try:
        service = app.Service(settings, connection)
        await service.start()
        _spare_the_collector()
        return await serve.serve(service.app, settings, stop=service.stop, failed=service.projection.failed)
    finally:
        await connection.close()
        await warming


def _spare_the_collector() -> None:
    """Look for cycles seldom: hardly any are made, and what waits to be stored is looked through each time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_EVERY, 20, 100)


def run() -> int:
    """Read the settings and serve. What cannot be worked with is one clear line."""
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
