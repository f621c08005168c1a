"""Reads and writes `KF_META`, which says what the logs were made with (`contracts.meta`)."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

import msgspec

from keyforge.contracts import meta, subjects
from keyforge.contracts.meta import Meta
from keyforge.eventlog import jetstream_api, streams
from keyforge.eventlog.jetstream import JetStreamLog
from keyforge.eventlog.log import EventLog, EventLogError, LogClosed, LogMissing
from keyforge.eventlog.nats.client import NatsClient
from keyforge.eventlog.nats.errors import NatsClientError
from keyforge.eventlog.retry import ignored, retrying
from keyforge.eventlog.streams import BACKOFF, DECLARE_TIMEOUT_S, Sizes, bucket_spec, declare_stream

WRITE_TIMEOUT_S: Final = 2.0
"""As long as an append to a log waits (`jetstream.APPEND_TIMEOUT_S`)."""

_STREAM: Final = subjects.bucket_stream(subjects.META_BUCKET)
_SUBJECT: Final = subjects.bucket_subject(subjects.META_BUCKET, meta.ENTRY)


Write = Callable[[NatsClient, Meta], Awaitable[None]]


class WrongLog(EventLogError):
    """The log was made with other secrets, partitions or a newer format, or by something that left no word of that.
    Nothing was changed; for a person to look at."""


class _Ack(msgspec.Struct):
    seq: int = 0
    error: jetstream_api.ApiError | None = None


async def declare(
    client: NatsClient,
    *,
    made_with: Meta,
    replicas: int,
    any_partitions: bool = False,
    sizes: Sizes | None = None,
    timeout_s: float = DECLARE_TIMEOUT_S,
    waiting: Callable[[Exception], None] = ignored,
) -> list[str]:
    """Create the streams and buckets that are missing, and check the others; return the names of the new ones.

    `waiting` is called whenever the servers do not answer for one, and it is tried again.

    KF_META is written before the first log is made, and never after. `any_partitions`: the number of `made_with` is for
    logs that nobody declared yet; others keep theirs. Raises WrongLog if the logs were made with something else, and
    what `streams.declare` raises. Safe to call from several processes at once and at every start: of two that differ
    and find no log, the one whose entry was overwritten is refused.
    """
    log = JetStreamLog(client)
    end = asyncio.get_running_loop().time() + timeout_s
    new = await declare_stream(client, bucket_spec(subjects.META_BUCKET, replicas=replicas), end=end, waiting=waiting)
    patiently = partial(retrying, backoff=BACKOFF, retry_on=LogMissing, until_s=end, failed=waiting)
    claimed = await patiently(partial(_claim, client, log, made_with, any_partitions=any_partitions))
    made = await streams.declare(
        client,
        partitions=claimed.partitions,
        replicas=replicas,
        sizes=sizes,
        timeout_s=timeout_s,
        waiting=waiting,
    )
    _check(await patiently(partial(read, log)), mine=msgspec.structs.asdict(claimed))
    return [_STREAM, *made] if new else made


async def compare(
    client: NatsClient,
    made_with: Meta,
    *,
    any_partitions: bool = False,
    timeout_s: float = DECLARE_TIMEOUT_S,
    waiting: Callable[[Exception], None] = ignored,
) -> Meta:
    """Return what `declare` would declare the logs with, and write nothing. Raises WrongLog, LogMissing."""
    end = asyncio.get_running_loop().time() + timeout_s
    claim = partial(_claim, client, JetStreamLog(client), made_with, any_partitions=any_partitions, write=_nothing)
    return await retrying(claim, backoff=BACKOFF, retry_on=LogMissing, until_s=end, failed=waiting)


async def _nothing(_client: NatsClient, _entry: Meta) -> None:
    """Leave it to `declare`."""


async def require_same(
    log: EventLog, mine: Mapping[str, int | str], waiting: Callable[[Exception], None] = ignored
) -> Meta:
    """Check a process's own values against KF_META (see `contracts.meta.difference`) and return what it says.

    Waits for a log that is not declared yet, and for servers to answer for it; `waiting` is called each time. Raises
    WrongLog, LogClosed.
    """
    return await retrying(
        partial(_compare, log, mine), backoff=BACKOFF, retry_on=LogMissing, raise_on=LogClosed, failed=waiting
    )


async def _compare(log: EventLog, mine: Mapping[str, int | str]) -> Meta:
    if not await _is_declared(log):
        raise LogMissing("the log is not declared: run `keyforge declare`")
    return _check(await read(log), mine)


def _check(found: Meta | None, mine: Mapping[str, int | str]) -> Meta:
    if found is None:
        raise WrongLog("there are logs, and KF_META does not say what they were made with")
    if (why := meta.difference(found, mine)) is not None:
        raise WrongLog(why)
    return found


async def read(log: EventLog) -> Meta | None:
    """Return the entry, None if there is none. Raises WrongLog if it cannot be read, LogMissing if nobody answers."""
    try:
        entry = await log.last(_STREAM, _SUBJECT)
    except jetstream_api.StreamNotFound:
        return None
    if entry is None or not entry.data:
        return None
    try:
        return meta.decode(entry.data)
    except meta.MetaUnreadable as error:
        raise WrongLog(str(error)) from error


async def _write(client: NatsClient, entry: Meta) -> None:
    try:
        reply = await client.request(_SUBJECT, meta.encode(entry), timeout_s=WRITE_TIMEOUT_S)
    except NatsClientError as fault:
        raise LogMissing(f"{_STREAM}: {type(fault).__name__}") from fault
    ack = msgspec.json.decode(reply.data, type=_Ack)
    if ack.error is not None or not ack.seq:
        raise LogMissing(f"{_STREAM}: {ack.error}")


async def _claim(
    client: NatsClient, log: EventLog, made_with: Meta, *, any_partitions: bool, write: Write = _write
) -> Meta:
    """Write the entry while there is no log yet; once there is any, compare, before anything else is made.

    Return what the logs are made with, whose number of partitions may be another one if any will do.
    """
    there, found = await streams.any_log(client), await read(log)
    if any_partitions and found is not None:
        made_with = msgspec.structs.replace(made_with, partitions=found.partitions)
    if there:
        _check(found, mine=msgspec.structs.asdict(made_with))
    elif found != made_with:
        await write(client, made_with)
    return made_with


async def _is_declared(log: EventLog) -> bool:
    """What a service can tell: it may read the first log that is declared, and may not list streams."""
    try:
        await log.end(subjects.log_stream(0))
    except jetstream_api.StreamNotFound:
        return False
    return True
