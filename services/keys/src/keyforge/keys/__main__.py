"""`python -m keyforge.keys`: the operators' API, until SIGTERM."""

import sys

from pydantic import ValidationError

from keyforge.eventlog.durability import require_durable
from keyforge.eventlog.jetstream import JetStreamLog
from keyforge.eventlog.log import EventLogError
from keyforge.keys.app import Service
from keyforge.keys.errors import KeysError
from keyforge.keys.settings import KeysSettings
from keyforge.runtime import bus, logs, serve
from keyforge.runtime.buckets import BucketUnavailableError
from keyforge.runtime.clock import SystemClock
from keyforge.runtime.sealing import SealingError


async def main(settings: KeysSettings) -> int:
    """Serve; return the exit code."""
    await require_durable(settings.nats_monitor_url.split(","), relaxed=settings.durability == "relaxed")
    connection = await bus.connect(settings)
    try:
        service = Service(connection, JetStreamLog(connection.link), settings, SystemClock())
        await service.start()
        return await serve.serve(service.asgi, settings, stop=service.stop, failed=service.failed)
    finally:
        await connection.close()


def run() -> int:
    """Read the settings and serve. A setting that cannot be used is one line on stderr."""
    try:
        settings = KeysSettings()  # type: ignore[call-arg]  # the environment has them
    except ValidationError as error:
        for wrong in error.errors(include_input=False, include_url=False):
            print(f"KEYFORGE_{'_'.join(map(str, wrong['loc'])).upper()}: {wrong['msg']}", file=sys.stderr)  # noqa: T201
        return 2
    logs.configure("keys", settings.log_level)
    try:
        return serve.run(main(settings))
    except (KeysError, EventLogError, BucketUnavailableError, SealingError, OSError) as error:
        logs.get("keys").error("cannot run", error=str(error) or type(error).__name__)
        return 1


if __name__ == "__main__":
    sys.exit(run())
