"""`python -m keyforge.keys`: the operators' API, until SIGTERM."""

import sys

from keyforge.eventlog.jetstream import JetStreamLog
from keyforge.keys.app import Service
from keyforge.keys.errors import KeysError
from keyforge.keys.settings import KeysSettings
from keyforge.runtime import serve
from keyforge.runtime.buckets import BucketUnavailableError
from keyforge.runtime.clock import SystemClock
from keyforge.runtime.start import connect, start


async def main(settings: KeysSettings) -> int:
    """Serve; return the exit code."""
    connection, partitions = await connect(settings)
    try:
        service = Service(connection, JetStreamLog(connection.nats), settings, SystemClock(), partitions=partitions)
        await service.start()
        return await serve.serve(service.asgi, settings, stop=service.stop, failed=service.failed)
    finally:
        await connection.close()


def run() -> int:
    """Read the settings and serve; return the exit code."""
    return start("keys", KeysSettings, main, faults=(KeysError, BucketUnavailableError))


if __name__ == "__main__":
    sys.exit(run())
