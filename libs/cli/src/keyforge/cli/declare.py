"""Creates what is missing of streams and buckets, as the one user who may: at every start, or once for containers."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Final

from nats.aio.client import Client
from nats.errors import Error as NatsError

from keyforge.cli.errors import UpError
from keyforge.cli.services import PARTITIONS_MAX, count
from keyforge.contracts.subjects import PARTITIONS_EMBEDDED
from keyforge.eventlog import streams
from keyforge.eventlog.log import EventLogError
from keyforge.runtime import permissions
from keyforge.runtime.bus import inbox_prefix

CONNECT_TIMEOUT_S: Final = 2
CONNECT_WITHIN_S: Final = 30.0
CONNECT_PAUSE_S: Final = 0.2
NATS_URL_DEFAULT: Final = "nats://127.0.0.1:4222"
REPLICAS_MAX: Final = 5


async def declare(url: str, *, user: str, password: str, partitions: int, replicas: int) -> list[str]:
    """Declare everything; return the names of what is new. Raises UpError."""
    client = await _connect(url, user=user, password=password)
    try:
        return await streams.declare(client, partitions=partitions, replicas=replicas)
    except EventLogError as error:
        raise UpError(f"the log cannot be set up: {error}") from error
    finally:
        await client.close()


async def declare_from(environment: Mapping[str, str]) -> list[str]:
    """Declare what the environment describes; for containers, before any service starts. Raises CliError."""
    return await declare(
        environment.get("KEYFORGE_NATS_URL") or NATS_URL_DEFAULT,
        user=environment.get("KEYFORGE_NATS_USER") or permissions.ADMIN,
        password=environment.get("KEYFORGE_NATS_PASSWORD", ""),
        partitions=count(environment, "KEYFORGE_PARTITIONS", PARTITIONS_EMBEDDED, PARTITIONS_MAX),
        replicas=count(environment, "KEYFORGE_REPLICAS", 1, REPLICAS_MAX),
    )


async def _connect(url: str, *, user: str, password: str) -> Client:
    """Connect, waiting for a server that is not there yet. Raises UpError."""
    loop = asyncio.get_running_loop()
    end = loop.time() + CONNECT_WITHIN_S
    while True:
        client = Client()
        try:
            await client.connect(
                servers=url.split(","),
                user=user,
                password=password,
                inbox_prefix=inbox_prefix(user or permissions.ADMIN).encode(),
                connect_timeout=CONNECT_TIMEOUT_S,
                allow_reconnect=False,
                error_cb=_ignore,
            )
        except (NatsError, OSError, TimeoutError) as error:
            await client.close()  # else its socket stays open
            text = str(error) or type(error).__name__
            if "authorization" in text.lower():
                raise UpError(f"the log refuses user {user}: {text}") from error
            if loop.time() > end:
                raise UpError(f"the log at {url} does not answer: {text}") from error
        else:
            return client
        await asyncio.sleep(CONNECT_PAUSE_S)


async def _ignore(_error: Exception) -> None:
    """What goes wrong is raised where it matters; nats-py would print it as well."""
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0)
