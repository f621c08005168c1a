"""Who may say and hear what on NATS, as data: one grant per user, rendered into the server's configuration.

What is not granted is refused by the server. Replies come to `_INBOX.<user>.>` only, so nobody hears another's. No user
but `admin` may create, change, purge or delete a stream or its messages.

Known limit of the server (a test watches it): it sends what a reader asks for to whatever reply or delivery subject the
request names, without asking whether the reader may publish there. What a consumer delivers into another stream keeps
its own subject, so no fold believes it as another writer's; a direct read puts an entry's bytes anywhere. Code that
runs *as* a service can therefore litter, and copy directory entries about, but not sign a frame as another. Production
closes this with an account for each service, whose imports map replies back into that account alone.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from keyforge.contracts import subjects

ADMIN: Final = "admin"
KEYS: Final = "keys"
BUDGET: Final = "budget"
AUDIT: Final = "audit"
EDGE: Final = "edge"
TAIL: Final = "tail"

USERS: Final = (ADMIN, KEYS, BUDGET, AUDIT, EDGE, TAIL)

_API: Final = "$JS.API"


@dataclass(frozen=True, slots=True)
class Grant:
    """What one user may publish and subscribe to, beside its own inbox.

    `answers`: it may also publish to the reply subject of a message that it received, for a while.
    """

    user: str
    publish: tuple[str, ...]
    subscribe: tuple[str, ...] = ()
    answers: bool = False


def grants(partitions: int) -> tuple[Grant, ...]:
    """Return the grant of every user of a system with so many partitions."""
    logs = [subjects.log_stream(partition) for partition in range(partitions)]
    everything = [*logs, subjects.PLATFORM_STREAM]
    return (
        Grant(ADMIN, (">",), (">",)),
        Grant(
            KEYS,
            (
                *_says(partitions, subjects.ctl),
                subjects.PLATFORM_CTL,
                *_reads(everything),
                *_reads_buckets(subjects.DIRECTORY_BUCKET, subjects.TOKENS_BUCKET, subjects.PROVIDERS_BUCKET),
                *_reads_buckets(subjects.PRICES_BUCKET, subjects.CREDENTIALS_BUCKET),
                *_reads_buckets(subjects.TENANT_SECRETS_BUCKET, subjects.META_BUCKET),
                *_writes_buckets(subjects.DIRECTORY_BUCKET, subjects.TOKENS_BUCKET, subjects.PROVIDERS_BUCKET),
                *_writes_buckets(subjects.PRICES_BUCKET, subjects.CREDENTIALS_BUCKET),
                *_writes_buckets(subjects.TENANT_SECRETS_BUCKET),
            ),
        ),
        Grant(
            BUDGET,
            (
                *_says(partitions, subjects.adm),
                *_says(partitions, subjects.ctl),  # fences
                *_reads(logs),
                *_reads_buckets(subjects.LEASES_BUCKET, subjects.TOKENS_BUCKET, subjects.META_BUCKET),
                *_writes_buckets(subjects.LEASES_BUCKET),
            ),
            (subjects.RESERVE_ALL,),
            answers=True,
        ),
        Grant(
            AUDIT,
            (
                subjects.AUDIT_ALL,
                *_reads([*everything, subjects.AUDIT_STREAM]),
                *_reads_buckets(subjects.TOKENS_BUCKET, subjects.TENANT_SECRETS_BUCKET, subjects.META_BUCKET),
            ),
        ),
        Grant(
            EDGE,
            (
                *_says(partitions, subjects.use_all),
                subjects.RESERVE_ALL,
                *_reads(logs),
                *_reads_buckets(subjects.DIRECTORY_BUCKET, subjects.PROVIDERS_BUCKET, subjects.PRICES_BUCKET),
                *_reads_buckets(subjects.CREDENTIALS_BUCKET, subjects.LEASES_BUCKET),
                *_reads_buckets(subjects.TENANT_SECRETS_BUCKET, subjects.META_BUCKET),
            ),
        ),
        Grant(
            TAIL,
            (
                *_reads([subjects.AUDIT_STREAM]),
                f"{_API}.CONSUMER.DURABLE.CREATE.{subjects.AUDIT_STREAM}.>",
                f"$JS.ACK.{subjects.AUDIT_STREAM}.>",
            ),
            (subjects.AUDIT_ALL,),
        ),
    )


def inbox(user: str) -> str:
    """Return the pattern of the only inbox that `user` may listen to; connect with the prefix `_INBOX.<user>`."""
    return f"_INBOX.{user}.>"


def _says(partitions: int, subject: Callable[[int], str]) -> tuple[str, ...]:
    return tuple(subject(partition) for partition in range(partitions))


def _reads(streams: Iterable[str]) -> tuple[str, ...]:
    """Return what reading whole streams takes: their state, single messages, pull consumers of one's own."""
    return tuple(
        f"{_API}.{request}"
        for stream in streams
        for request in (
            f"STREAM.INFO.{stream}",
            f"STREAM.MSG.GET.{stream}",
            f"CONSUMER.CREATE.{stream}.>",
            f"CONSUMER.DELETE.{stream}.*",
            f"CONSUMER.MSG.NEXT.{stream}.*",
        )
    )


def _reads_buckets(*buckets: str) -> tuple[str, ...]:
    """Return what reading buckets takes: as for streams, and look-ups that any replica may answer."""
    streams = [subjects.bucket_stream(bucket) for bucket in buckets]
    direct = (f"{_API}.DIRECT.GET.{stream}{rest}" for stream in streams for rest in ("", ".>"))
    return (*_reads(streams), *direct)


def _writes_buckets(*buckets: str) -> tuple[str, ...]:
    """Return what putting and deleting entries takes; opening a bucket asks for its state first."""
    return tuple(
        subject
        for bucket in buckets
        for subject in (subjects.bucket_subject(bucket, ">"), f"{_API}.STREAM.INFO.{subjects.bucket_stream(bucket)}")
    )
