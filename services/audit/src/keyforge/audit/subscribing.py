"""A client with FastStream, as NATS user `tail`, that keeps the bytes of bodies (docs/subscribe.md has plainer ones).

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
"""After this time without a subscriber the server deletes its consumer. Chosen: longer than a new version of a client
takes to be deployed; the server's default, 5 s, is over before a process has started again."""


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
    """Return a broker that passes every message after `after` (a sequence of KF_AUDIT) to `handle`; start it.

    `name` must be unique to this subscriber. The subscriber keeps its position, so nothing is acknowledged to the
    server, and the stream is never declared or changed here. FastStream needs `MsgSpecSerializer` for msgspec types.
    """
    found = NatsBroker(
        url,
        security=SASLPlaintext(username=user, password=password) if user else None,
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
    """Decode in one pass: FastStream's own way through dicts loses the body's bytes."""
    return sealed.decode(message.body)
