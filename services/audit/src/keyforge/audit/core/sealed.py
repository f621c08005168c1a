"""What a fold produces: sealed records, one row per end of a request, rejected events; or that it must stop. Pure."""

from datetime import datetime
from typing import Final, NamedTuple

import msgspec

from keyforge.chain.seal import Record
from keyforge.contracts.events import RequestAdmitted, RequestCompleted
from keyforge.contracts.settlement import Settled


class RequestEnd(msgspec.Struct, frozen=True, gc=False):
    """How a request ended, for analytics. A late completion makes a second one, whose `version` is greater.

    `admission` is the seq of the record of the admission, `version` that of the record of this end. Times are the
    writers' own, as recorded. `completed` is None for a request that was cancelled or abandoned; `outcome` is then the
    reason of the cancel, or "abandoned".
    """

    admitted: RequestAdmitted
    admitted_at: datetime
    ended_at: datetime
    settled: Settled
    completed: RequestCompleted | None
    outcome: str
    admission: int
    version: int
    partition: int
    sequence: int
    frame_index: int


class Head(NamedTuple):
    """Seq and hash of a chain's last record, or of an earlier one."""

    seq: int
    hash: bytes


NO_HEAD: Final = Head(0, b"")
"""Of a chain that the log does not have."""


class KeySpend(NamedTuple):
    """What the ended requests of a key came to, as the rows of `requests` sum up.

    `rows` counts all, `requests` those that were not cancelled. `digest` is the sum of the rows' digests modulo
    DIGEST_MODULUS (`row_digest`).
    """

    requests: int
    rows: int
    settled_nusd: int
    tokens: int
    digest: int


NOTHING_SPENT: Final = KeySpend(0, 0, 0, 0, 0)


class RejectedEvent(NamedTuple):
    """An event that is no copy of an earlier one and yet became no record: a fault, a forgery, or a newer edge."""

    partition: int
    sequence: int
    frame_index: int
    type: str
    why: str


class UnreadableMessage(NamedTuple):
    """A message that this version must neither fold nor skip, and why: records would be missing from their chains."""

    partition: int
    sequence: int
    frame_index: int
    type: str
    why: str

    def __str__(self) -> str:
        return f"this version cannot read message {self.sequence}, event {self.frame_index} ({self.type}): {self.why}"


class Sealed(msgspec.Struct, eq=False):
    """What some messages became. `sequence` is the last of them; `events` counts their events, `repeated` copies.

    `spend`: by the chains of the keys whose requests ended, what they had spent after these messages. `made`: how many
    records of tenants and their keys the whole log has become up to here.
    """

    records: list[Record] = msgspec.field(default_factory=list)
    ends: list[RequestEnd] = msgspec.field(default_factory=list)
    spend: dict[str, KeySpend] = msgspec.field(default_factory=dict)
    rejected: list[RejectedEvent] = msgspec.field(default_factory=list)
    sequence: int = 0
    events: int = 0
    repeated: int = 0
    made: int = 0
