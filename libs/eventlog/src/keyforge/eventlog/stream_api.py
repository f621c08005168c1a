"""Reads, creates and changes one stream over JetStream's API, and tells what may succeed later from what cannot."""

from typing import Any, Literal

import msgspec

from keyforge.eventlog import jetstream_api
from keyforge.eventlog.log import EventLogError, LogMissing
from keyforge.eventlog.nats.client import NatsClient

NAME_IN_USE = 10058
NO_PEERS = 10005
"""The cluster has not as many servers now as a stream has replicas."""


class DeclareFailed(EventLogError):
    """A stream is missing and could not be created: JetStream is away, the storage is too small, not permitted."""


class _Reply(msgspec.Struct):
    error: jetstream_api.ApiError | None = None


_reply = msgspec.json.Decoder(_Reply)


async def config_of(client: NatsClient, stream: str) -> dict[str, Any] | None:
    """The configuration of a stream, None if there is none. Raises LogMissing while that cannot be known."""
    try:
        return (await jetstream_api.stream_info(client, stream))[0]
    except jetstream_api.StreamNotFound:
        return None


async def change(client: NatsClient, what: Literal["CREATE", "UPDATE"], stream: str, config: dict[str, Any]) -> None:
    """Raises LogMissing if another made it meanwhile or it may succeed later, DeclareFailed if it cannot."""
    reply = _reply.decode(await jetstream_api.call(client, f"STREAM.{what}.{stream}", config))
    if reply.error is None:
        return
    if reply.error.err_code in {NAME_IN_USE, NO_PEERS} or reply.error.code == 503:
        raise LogMissing(str(reply.error))
    raise DeclareFailed(f"{stream} could not be {what.lower()}d: {reply.error}")
