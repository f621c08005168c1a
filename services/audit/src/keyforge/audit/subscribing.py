"""How a program subscribes to KF_AUDIT with FastStream, as NATS user `tail`. docs/spec/asyncapi.json says what comes.

Audit itself never imports this; it needs the extra `subscribing`.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from fast_depends.msgspec import MsgSpecSerializer
from faststream import AckPolicy
from faststream.nats import JStream, NatsBroker, NatsMessage
from faststream.security import SASLPlaintext
from nats.js.api import AckPolicy as Acknowledged
from nats.js.api import ConsumerConfig, DeliverPolicy

from keyforge.contracts import sealed, subjects
from keyforge.contracts.sealed import RecordSealed

IDLE_S: Final = 300.0
"""The server forgets a subscriber that it has not seen for so long."""


def broker(
    url: str,
    handle: Callable[[list[RecordSealed]], Awaitable[None]],
    *,
    name: str,
    subject: str = subjects.AUDIT_ALL,
    after: int = 0,
    user: str = "",
    password: str = "",
) -> NatsBroker:
    """Return a broker that hands every message behind `after` (a sequence of KF_AUDIT) to `handle`; start it.

    `name` is this subscriber's own. Position is the subscriber's to keep, so nothing is acknowledged to the server, and
    the stream is never declared or changed from here. Without `MsgSpecSerializer` FastStream delivers no msgspec type.
    """
    found = NatsBroker(
        url,
        security=SASLPlaintext(username=user, password=password) if user else None,
        inbox_prefix=f"_INBOX.{user}" if user else "_INBOX",
        serializer=MsgSpecSerializer(),
        logger=logging.getLogger(__name__),
    )
    consumer = ConsumerConfig(
        name=name,
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=after + 1,
        ack_policy=Acknowledged.NONE,
        inactive_threshold=IDLE_S,
        mem_storage=True,
        num_replicas=1,
    )
    found.subscriber(
        subject,
        stream=JStream(subjects.AUDIT_STREAM, declare=False),
        config=consumer,
        ack_policy=AckPolicy.MANUAL,
        decoder=_decode,
    )(handle)
    return found


async def _decode(message: NatsMessage) -> list[RecordSealed]:
    """Decode in one pass: by way of dicts, as FastStream would, the body's own bytes are lost."""
    return sealed.decode(message.body)
