"""What subscribers of KF_AUDIT read: the sealed records of one key, as CloudEvents 1.0 batch JSON, at least once.

One message contains the records that one block has of one key, in order of `seq`; a reader remembers (chain, seq) and
skips what it has. The last event of a message states in `published` how far each log was published completely when it
was sent ("<partition>:<sequence>", joined by commas): there audit continues after a crash.
"""

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
    """One record in its CloudEvent; `subject` is tenant/key."""

    specversion: str
    id: str
    source: str
    type: str
    subject: str
    data: SealedRecord
    published: str = ""


_DECODER: Final = msgspec.json.Decoder(list[RecordSealed])


def encode_one(chain: str, subject: str, seq: int, header: bytes, hash_: bytes, mac: bytes, body: bytes) -> bytes:
    """Return the CloudEvent of one record. Names of chains and keys need no escapes: audit accepts no others."""
    begin = (
        f'{{"specversion":"1.0","id":"{chain}/{seq}","source":"{SOURCE}","type":"{SEALED_TYPE}","subject":"{subject}",'
        f'"data":{{"chain":"{chain}","seq":{seq},"header":"{header.hex()}","hash":"{hash_.hex()}","mac":"{mac.hex()}",'
        '"body":'
    ).encode()
    return begin + (body if len(begin) + len(body) <= RECORD_BYTES_MAX else b"null") + b"}}"


def join(encoded: list[bytes], published: dict[int, int]) -> bytes:
    """Return the message of records that `encode_one` returned, at least one."""
    places = ",".join(f"{partition}:{sequence}" for partition, sequence in sorted(published.items()))
    return b'[%b,"published":"%b"}]' % (b",".join(encoded)[:-1], places.encode())


def decode(data: bytes) -> list[RecordSealed]:
    """Return the records of a message. Raises msgspec.MsgspecError."""
    return _DECODER.decode(data)


def published(data: bytes) -> dict[int, int]:
    """Return how far each log was published when this message was sent. Raises msgspec.MsgspecError, ValueError."""
    pairs = (place.split(":") for place in decode(data)[-1].published.split(",") if place)
    return {int(partition): int(sequence) for partition, sequence in pairs}
