"""Every stream and KV bucket of the system, and `declare`, which creates what is missing and checks what is there.

Nothing here deletes, and nothing is updated but what KF_AUDIT keeps, where a setting says so: a stream that differs in
what the log relies on is refused by name, for a person to look at. Sizes are not compared; `eventlog.sizes` raises.

| stream | full | age | why |
|---|---|---|---|
| KF_LOG_<p>, KF_PLATFORM | refuses the new (`discard new`) | none | a log is kept whole until it is exported |
| KF_AUDIT | drops the old | by setting | a copy for subscribers; how far audit came is in KF_AUDIT_POSITION |
| KV_… | refuses the new | none, leases 5 s | the last entry of each key |

No log allows direct reads: any replica answers those, also one that lags. `deny_purge` stays false: the server never
takes true back, and an update with `max_msgs: 1` trims such a stream all the same. What protects a log is that no
service may update, purge or delete a stream (`contracts.permissions`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, TypeVar

import msgspec

from keyforge.contracts import subjects
from keyforge.eventlog import jetstream_api, stream_api
from keyforge.eventlog.log import EventLogError, LogMissing
from keyforge.eventlog.nats.client import NatsClient
from keyforge.eventlog.retry import Backoff, ignored, retrying
from keyforge.eventlog.stream_api import DeclareFailed

T = TypeVar("T")

DUPLICATE_WINDOW_S = 120
LEASE_TTL_S = 5
DECLARE_TIMEOUT_S = 20.0
BACKOFF = Backoff(0.2, 0.2)
"""Between two questions to a server that does not answer for a stream. Chosen: a new leader takes 4 to 9 s
(`eventlog.fence`), and a server that has just started less than half a second."""

_NANOSECONDS = 1_000_000_000
_DAY_S = 86_400
_GIB = 1024**3
AUDIT_BYTES_MAX = _GIB
"""What KF_AUDIT keeps unless a setting says otherwise. Chosen: as much as a partition's log; 1,000,000 records at
1.1 KB each (measured)."""
AUDIT_CONSUMERS_MAX = 256
"""Consumers of KF_AUDIT, subscribers' durable ones and those of readers that left. Chosen: a subscriber each for 64
programs, four times over, since a client that reconnects leaves its ordered consumer behind for minutes; without a
bound, one that makes a new durable at each start fills the server's memory."""

BUCKETS = (
    subjects.DIRECTORY_BUCKET,
    subjects.TOKENS_BUCKET,
    subjects.PROVIDERS_BUCKET,
    subjects.PRICES_BUCKET,
    subjects.CREDENTIALS_BUCKET,
    subjects.TENANT_SECRETS_BUCKET,
    subjects.META_BUCKET,
)


class StreamDiffers(EventLogError):
    """A stream exists and is not what the log relies on; the text names each property. Never changed by us."""


class Sizes(msgspec.Struct, frozen=True):
    """Bounds of one copy of each stream. The server sets them aside against its own `max_file_store`."""

    log_bytes_max: int = _GIB
    platform_bytes_max: int = _GIB // 4
    audit_bytes_max: int | None = None
    """Of KF_AUDIT, also of one that exists. None: as it is, and a new one `audit_new_bytes_max`."""
    audit_new_bytes_max: int = AUDIT_BYTES_MAX
    audit_days_max: int | None = None
    """How long KF_AUDIT keeps a message, also one that exists; 0 for any age. None: as it is, and a new one any age."""

    @classmethod
    def of_total(
        cls,
        total_bytes: int,
        partitions: int,
        *,
        audit_bytes_max: int | None = None,
        audit_days_max: int | None = None,
    ) -> "Sizes":
        """Return the shares of a total for all streams (ADR 27): four fifths are the partitions', in equal parts, a
        tenth is KF_AUDIT's, a twentieth KF_PLATFORM's. The last twentieth is set aside for no stream: it is the room of
        the buckets, which have no bound of their own."""
        return cls(
            log_bytes_max=total_bytes * 4 // 5 // partitions,
            platform_bytes_max=total_bytes // 20,
            audit_bytes_max=audit_bytes_max,
            audit_new_bytes_max=total_bytes // 10,
            audit_days_max=audit_days_max,
        )


class StreamSpec(msgspec.Struct, frozen=True):
    """`fixed` must hold of a stream that exists, `initial` only counts when it is created, and what differs from
    `adjusted` is changed."""

    name: str
    fixed: dict[str, Any]
    initial: dict[str, Any]
    adjusted: dict[str, Any] = {}

    @property
    def bytes_max(self) -> int:
        """Its bound at creation in bytes; 0 for a bucket, which has none."""
        return int(self.initial.get("max_bytes", 0))

    @property
    def keeps_all(self) -> bool:
        """Whether it is a log: full, it refuses the new."""
        return self.bytes_max > 0 and self.fixed["discard"] == "new"

    def differences(self, found: dict[str, Any]) -> list[str]:
        """What of `fixed` does not hold of the configuration `found`, in words."""
        return [
            f"{name} is {found.get(name)!r}, not {wanted!r}"
            for name, wanted in self.fixed.items()
            if (found.get(name) or None) != (wanted or None)
        ]


def log_spec(partition: int, *, replicas: int, sizes: Sizes | None = None) -> StreamSpec:
    """The log of one partition."""
    bytes_max = (sizes or Sizes()).log_bytes_max
    return _log(subjects.log_stream(partition), subjects.log_all(partition), replicas, bytes_max)


def specs(partitions: Iterable[int], *, replicas: int, sizes: Sizes | None = None) -> list[StreamSpec]:
    """Everything: logs, platform, audit, buckets, leases."""
    sizes = sizes or Sizes()
    return [
        *(log_spec(partition, replicas=replicas, sizes=sizes) for partition in partitions),
        _log(subjects.PLATFORM_STREAM, subjects.PLATFORM_ALL, replicas, sizes.platform_bytes_max),
        _audit(replicas, sizes),
        *(bucket_spec(bucket, replicas=replicas) for bucket in BUCKETS),
        bucket_spec(subjects.LEASES_BUCKET, replicas=replicas, ttl_s=LEASE_TTL_S, direct=False),
        bucket_spec(subjects.AUDIT_POSITION_BUCKET, replicas=replicas, direct=False),
    ]


def bucket_spec(bucket: str, *, replicas: int, ttl_s: int = 0, direct: bool = True) -> StreamSpec:
    """A KV bucket that keeps the last entry of each key.

    Direct reads spread over replicas and keep look-ups out of the bounded queue of the JetStream API; a replica may
    lag, which the directory's policy revisions make harmless. Leases are read from the leader, and kept in a file so
    that revisions never start over.
    """
    window_s = min(ttl_s, DUPLICATE_WINDOW_S) if ttl_s else DUPLICATE_WINDOW_S
    fixed = _fixed([subjects.bucket_subject(bucket, ">")], replicas) | {
        "max_msgs_per_subject": 1,
        "max_age": ttl_s * _NANOSECONDS,
        "allow_rollup_hdrs": True,
        "allow_direct": direct,
    }
    return StreamSpec(subjects.bucket_stream(bucket), fixed, {"duplicate_window": window_s * _NANOSECONDS})


async def declare(
    client: NatsClient,
    *,
    partitions: int | Iterable[int],
    replicas: int,
    sizes: Sizes | None = None,
    timeout_s: float = DECLARE_TIMEOUT_S,
    waiting: Callable[[Exception], None] = ignored,
) -> list[str]:
    """Create the streams and buckets that are missing, check the others; returns the names of the new ones.

    Safe to call from several processes at once and at every start. With a number of partitions, a log of a partition
    past it is refused as well: tenants live there. `waiting` is called whenever a stream has to be tried again, as no
    server answers for it, or too few to create it. Raises StreamDiffers, DeclareFailed (of those after `timeout_s`).
    """
    end = asyncio.get_running_loop().time() + timeout_s
    if isinstance(partitions, int):
        count = partitions
        beyond = subjects.log_stream(count)
        partitions = range(count)
        if await answered(beyond, partial(stream_api.config_of, client, beyond), end, waiting) is not None:
            raise StreamDiffers(f"{beyond} exists, but only {count} partitions are declared: tenants may live there")
    wanted = specs(partitions, replicas=replicas, sizes=sizes)
    return [spec.name for spec in wanted if await declare_stream(client, spec, end=end, waiting=waiting)]


async def declare_stream(
    client: NatsClient,
    spec: StreamSpec,
    *,
    end: float | None = None,
    waiting: Callable[[Exception], None] = ignored,
) -> bool:
    """Create or check one stream, until the loop time `end`; True if it is new. Raises as `declare`."""
    end = end or asyncio.get_running_loop().time() + DECLARE_TIMEOUT_S
    return await answered(spec.name, partial(_create_or_check, client, spec), end, waiting)


async def any_log(client: NatsClient) -> bool:
    """Return whether there is a log at all, of whichever partition. Raises LogMissing while that cannot be known."""
    for taken in (subjects.LOGS_ALL, subjects.PLATFORM_ALL):
        reply = _names.decode(await jetstream_api.call(client, "STREAM.NAMES", {"subject": taken}))
        if reply.error is not None:
            raise LogMissing(f"STREAM.NAMES: {reply.error}")
        if reply.streams:
            return True
    return False


async def _create_or_check(client: NatsClient, spec: StreamSpec) -> bool:
    found = await stream_api.config_of(client, spec.name)
    if found is None:
        return await _create(client, spec)
    if differences := spec.differences(found):
        raise StreamDiffers(f"{spec.name}: {'; '.join(differences)}")
    if any(found.get(name) != wanted for name, wanted in spec.adjusted.items()):
        await stream_api.change(client, "UPDATE", spec.name, found | spec.adjusted)
    return False


async def answered(
    stream: str,
    question: Callable[[], Awaitable[T]],
    end: float,
    waiting: Callable[[Exception], None] = ignored,
) -> T:
    """Ask until a server answers for the stream, or the loop time is `end`. Raises DeclareFailed, and what is asked."""
    try:
        return await retrying(question, backoff=BACKOFF, retry_on=LogMissing, until_s=end, failed=waiting)
    except LogMissing as fault:
        raise DeclareFailed(f"{stream}: {fault}") from fault


def _log(name: str, subject: str, replicas: int, bytes_max: int) -> StreamSpec:
    initial = {"max_bytes": bytes_max, "duplicate_window": DUPLICATE_WINDOW_S * _NANOSECONDS}
    return StreamSpec(name, _fixed([subject], replicas), initial)


def _audit(replicas: int, sizes: Sizes) -> StreamSpec:
    fixed = _fixed([subjects.AUDIT_ALL], replicas) | {"discard": "old"}
    del fixed["max_age"]
    initial = {
        "max_bytes": sizes.audit_new_bytes_max,
        "max_age": 0,
        "max_consumers": AUDIT_CONSUMERS_MAX,
        "duplicate_window": DUPLICATE_WINDOW_S * _NANOSECONDS,
    }
    adjusted = {}
    if sizes.audit_bytes_max is not None:
        adjusted["max_bytes"] = sizes.audit_bytes_max
    if sizes.audit_days_max is not None:
        adjusted["max_age"] = sizes.audit_days_max * _DAY_S * _NANOSECONDS
    return StreamSpec(subjects.AUDIT_STREAM, fixed, initial | adjusted, adjusted)


def _fixed(taken: list[str], replicas: int) -> dict[str, Any]:
    """What a log relies on; mirrors, sources and transforms would let in what no writer's permission covers."""
    return {
        "subjects": taken,
        "retention": "limits",
        "storage": "file",
        "num_replicas": replicas,
        "discard": "new",
        "deny_delete": True,
        "deny_purge": False,
        "allow_direct": False,
        "allow_rollup_hdrs": False,
        "allow_msg_ttl": False,
        "max_age": 0,
        "max_msgs": -1,
        "max_msgs_per_subject": -1,
        "sealed": False,
        "no_ack": False,
        "mirror": None,
        "sources": None,
        "subject_transform": None,
    }


class _Names(msgspec.Struct):
    streams: list[str] | None = None
    error: jetstream_api.ApiError | None = None


_names = msgspec.json.Decoder(_Names)


async def _create(client: NatsClient, spec: StreamSpec) -> bool:
    config = {"name": spec.name, **{k: v for k, v in spec.fixed.items() if v is not None}, **spec.initial}
    await stream_api.change(client, "CREATE", spec.name, config)
    return True
