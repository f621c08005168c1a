"""What subscribers of KF_AUDIT read: the sealed records of one tenant, as CloudEvents 1.0 batch JSON, at least once.

One message contains the records that one block has of one tenant's keys (`kf.audit.<tenant>.keys`) or of the tenant's
own chain (`kf.audit.<tenant>.tenant`), in the order of the log, so each chain in order of `seq`. A reader remembers
(chain, seq) and skips what it has.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

SEALED_TYPE: Final = "keyforge.record.sealed.v1"
SOURCE: Final = "audit"
BATCH_BYTES_MAX: Final = 256 * 1024
"""Larger batches are split into several messages; one record alone may be larger. Chosen: half of what a frame has
(`frame.FRAME_BYTES_MAX`, 512 KiB)."""
RECORD_BYTES_MAX: Final = 500 * 1024
"""A larger record is published without its body, which audit's API returns: a frame has at most 512 KiB."""


class SealedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record as in docs/spec/audit-format.md: header, hash and MAC in hex; the body's own bytes."""

    chain: str
    seq: int
    header: str
    hash: str
    mac: str
    body: msgspec.Raw


class RecordSealed(msgspec.Struct, frozen=True, kw_only=True):
    """One record in its CloudEvent; `subject` is tenant/key, or the tenant for a record of its own chain."""

    specversion: str
    id: str
    source: str
    type: str
    subject: str
    data: SealedRecord


_DECODER: Final = msgspec.json.Decoder(list[RecordSealed])


def encode_one(chain: str, seq: int, header: bytes, hash_: bytes, mac: bytes, body: bytes) -> bytes:
    """Return the CloudEvent of one record. Names of chains need no escapes: audit accepts no others."""
    subject = chain.partition("/")[2]
    begin = (
        f'{{"specversion":"1.0","id":"{chain}/{seq}","source":"{SOURCE}","type":"{SEALED_TYPE}","subject":"{subject}",'
        f'"data":{{"chain":"{chain}","seq":{seq},"header":"{header.hex()}","hash":"{hash_.hex()}","mac":"{mac.hex()}",'
        '"body":'
    ).encode()
    return begin + (body if len(begin) + len(body) <= RECORD_BYTES_MAX else b"null") + b"}}"


def join(encoded: Sequence[bytes]) -> bytes:
    """Return the message of records that `encode_one` returned, at least one."""
    return b"[%b]" % b",".join(encoded)


def decode(data: bytes) -> list[RecordSealed]:
    """Return the records of a message. Raises msgspec.MsgspecError."""
    return _DECODER.decode(data)
