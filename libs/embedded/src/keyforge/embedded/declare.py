"""Creates missing streams and buckets, as the one user who may: at every start, or once for containers."""

from collections.abc import Mapping
from typing import Final

from keyforge.contracts import members
from keyforge.contracts.subjects import PARTITIONS_EMBEDDED, inbox_prefix
from keyforge.embedded.errors import StackError
from keyforge.embedded.services import PARTITIONS_MAX, count
from keyforge.eventlog import streams
from keyforge.eventlog.log import EventLogError
from keyforge.eventlog.nats.client import NatsClient
from keyforge.eventlog.nats.errors import AccessRefused, Disconnected

CONNECT_WITHIN_S: Final = 30.0
"""Chosen: in a container the server may still be starting."""
NATS_URL_DEFAULT: Final = "nats://127.0.0.1:4222"
REPLICAS_MAX: Final = 5
"""JetStream's own limit."""


async def declare(url: str, *, user: str, password: str, partitions: int, replicas: int) -> list[str]:
    """Declare everything; return the names of what was created. Raises StackError."""
    try:
        client = NatsClient(
            url.split(","), user=user, password=password, inbox_prefix=inbox_prefix(user or members.ADMIN)
        )
        await client.open(within_s=CONNECT_WITHIN_S)
    except AccessRefused as error:
        raise StackError(f"the log refuses user {user}: {error}") from error
    except (Disconnected, ValueError) as error:
        raise StackError(f"the log at {url} does not answer: {error}") from error
    try:
        return await streams.declare(client, partitions=partitions, replicas=replicas)
    except EventLogError as error:
        raise StackError(f"the log cannot be set up: {error}") from error
    finally:
        await client.close()


async def declare_from(environment: Mapping[str, str]) -> list[str]:
    """Declare what the environment describes; for containers, before any service starts. Raises EmbeddedError."""
    return await declare(
        environment.get("KEYFORGE_NATS_URL") or NATS_URL_DEFAULT,
        user=environment.get("KEYFORGE_NATS_USER") or members.ADMIN,
        password=environment.get("KEYFORGE_NATS_PASSWORD", ""),
        partitions=count(environment, "KEYFORGE_PARTITIONS", PARTITIONS_EMBEDDED, PARTITIONS_MAX),
        replicas=count(environment, "KEYFORGE_REPLICAS", 1, REPLICAS_MAX),
    )
