"""What each user of NATS may publish and subscribe to: rendered from the table of members into the server's
configuration.

What is not granted is refused by the server. Replies to a service arrive at `_INBOX.<user>.>` only, and no other user
receives what arrives there. Subscribers connect with clients as they are, whose inboxes are anywhere below `_INBOX`:
their user may have those, and is denied each other user's own by name, which the server also holds against wildcards
(ADR 30). No user but `admin` may create, change, purge or delete a stream or its messages.

Known limit of the server (a test watches it): it sends what a reader requests to whatever reply or delivery subject the
request names, without checking whether the reader may publish there. What a consumer delivers into another stream keeps
its own subject, so no fold accepts it as another writer's; a direct read puts an entry's bytes anywhere. Code that runs
*as* a service can therefore write rubbish, and copy directory entries, but not sign a frame as another service. So can
who has the password of `tail`, but for the copies: rubbish on a control subject stops its partition.
Production closes this with an account for each service, whose imports map replies back into that account alone.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from keyforge.contracts import subjects
from keyforge.contracts.members import MEMBERS, USERS, Access

_API: Final = "$JS.API"


class Grant(msgspec.Struct, frozen=True):
    """What one user may publish and subscribe to, beside its own inbox.

    `not_received`: what it does not receive whatever it subscribes to. `answers`: it may also publish to the reply
    subject of a message that it received, for a while.
    """

    user: str
    publish: tuple[str, ...]
    subscribe: tuple[str, ...] = ()
    not_received: tuple[str, ...] = ()
    answers: bool = False


def grants(partitions: int) -> tuple[Grant, ...]:
    """Return the grant of every user of a system with so many partitions."""
    return tuple(
        Grant(
            member.name,
            publish=tuple(_published(member.access, partitions)),
            subscribe=member.access.subscribes + ((inbox(""),) if member.access.default_inbox else ()),
            not_received=inboxes_of_others(member.name) if member.access.default_inbox else (),
            answers=member.access.replies,
        )
        for member in MEMBERS
        if member.access is not None
    )


def inbox(user: str) -> str:
    """Return the pattern of a user's own inbox; without a user, of those that clients choose by themselves."""
    return f"{subjects.inbox_prefix(user)}.>"


def inboxes_of_others(name: str) -> tuple[str, ...]:
    """Return the patterns of every user's own inbox but that of this one."""
    return tuple(inbox(other) for other in USERS if other != name)


def _published(access: Access, partitions: int) -> Iterable[str]:
    for subject in access.publishes_each:
        yield from (subject(partition) for partition in range(partitions))
    yield from access.publishes
    if access.reads_logs:
        yield from _reads(subjects.log_stream(partition) for partition in range(partitions))
    yield from _reads(access.reads)
    yield from _reads_buckets(access.reads_buckets)
    yield from _writes_buckets(access.writes_buckets)
    yield from (f"{_API}.STREAM.INFO.{stream}" for stream in access.states)
    yield from _consumes(access.consumes)


def _reads(streams: Iterable[str]) -> Iterable[str]:
    """Yield what it takes to read whole streams: their state, single messages, pull consumers of one's own."""
    for stream in streams:
        yield f"{_API}.STREAM.INFO.{stream}"
        yield f"{_API}.STREAM.MSG.GET.{stream}"
        yield f"{_API}.CONSUMER.CREATE.{stream}.>"
        yield f"{_API}.CONSUMER.DELETE.{stream}.*"
        yield f"{_API}.CONSUMER.MSG.NEXT.{stream}.*"


def _consumes(streams: Iterable[str]) -> Iterable[str]:
    """Yield what clients send, beside what reading takes, in what their documentation shows: nats-py, FastStream and
    Node's. The first two are of no stream: their replies have the names and the totals of all."""
    if streams:
        yield f"{_API}.INFO"
        yield f"{_API}.STREAM.NAMES"
    for stream in streams:
        yield f"{_API}.CONSUMER.CREATE.{stream}"
        yield f"{_API}.CONSUMER.DURABLE.CREATE.{stream}.>"
        yield f"{_API}.CONSUMER.INFO.{stream}.*"
        yield f"{_API}.CONSUMER.NAMES.{stream}"
        yield f"{_API}.CONSUMER.LIST.{stream}"
        yield f"$JS.ACK.{stream}.>"
        yield f"$JS.FC.{stream}.>"


def _reads_buckets(buckets: Iterable[str]) -> Iterable[str]:
    """Yield what it takes to read buckets: as for streams, and look-ups that any replica may answer."""
    streams = [subjects.bucket_stream(bucket) for bucket in buckets]
    yield from _reads(streams)
    for stream in streams:
        yield f"{_API}.DIRECT.GET.{stream}"
        yield f"{_API}.DIRECT.GET.{stream}.>"


def _writes_buckets(buckets: Iterable[str]) -> Iterable[str]:
    """Yield what it takes to put and delete entries; opening a bucket asks for its state first."""
    for bucket in buckets:
        yield subjects.bucket_subject(bucket, ">")
        yield f"{_API}.STREAM.INFO.{subjects.bucket_stream(bucket)}"
