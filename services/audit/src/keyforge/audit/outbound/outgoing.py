"""What goes out to subscribers of a block that was stored, encoded once, while its records are at hand."""

from typing import NamedTuple

from keyforge.chain.record import sequence_of
from keyforge.chain.seal import Record
from keyforge.contracts import sealed, subjects
from keyforge.contracts.ids import TenantId


class Outgoing(NamedTuple):
    """Records of whole messages of one log, encoded for KF_AUDIT, by subject, each with the sequence of its message.

    `sequence` is the last message, `size` the bytes of all. `made`: how many records of tenants and keys the fold had
    made of the log up to it; None: not known.
    """

    partition: int
    sequence: int
    records: dict[str, list[tuple[int, bytes]]]
    size: int
    made: int | None = None


def outgoing(partition: int, sequence: int, records: list[Record], *, made: int) -> Outgoing:
    """Encode the records of tenants' chains and their keys' for KF_AUDIT; those of no tenant are not published."""
    found: dict[str, list[tuple[int, bytes]]] = {}
    size = 0
    for record in records:
        chain = record.chain
        if chain.tenant:
            event = sealed.encode_one(chain.name, record.seq, record.header, record.hash, record.mac, record.body)
            size += len(event)
            tenant = TenantId(chain.tenant)
            subject = subjects.audit_keys(tenant) if chain.key_id else subjects.audit_tenant(tenant)
            found.setdefault(subject, []).append((sequence_of(record.header), event))
    return Outgoing(partition, sequence, found, size, made)
