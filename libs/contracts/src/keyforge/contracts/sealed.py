"""What subscribers of KF_AUDIT read: the sealed records of one key, as CloudEvents 1.0 batch JSON, at least once.

One message holds what one block brought of one key, in order of `seq`; a reader keeps (chain, seq) and skips what it
has. The last event of a message says in `published` how far each log was published in full when it was sent
("<partition>:<sequence>", joined by commas): that is where audit goes on after a crash.
"""

from typing import Final

import msgspec

SEALED_TYPE: Final = "keyforge.record.sealed.v1"
SOURCE: Final = "audit"
BATCH_BYTES_MAX: Final = 256 * 1024
"""More of one key goes into several messages; one record alone may be larger."""
RECORD_BYTES_MAX: Final = 500 * 1024
"""A record past it comes without its body; audit's API has it."""


class SealedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record as docs/spec/audit-format.md has it: header, hash and MAC in hex; the body's own bytes."""

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
    """Write one record's CloudEvent. Names of chains and keys need no escapes: audit lets in no others."""
    begin = (
        f'{{"specversion":"1.0","id":"{chain}/{seq}","source":"{SOURCE}","type":"{SEALED_TYPE}","subject":"{subject}",'
        f'"data":{{"chain":"{chain}","seq":{seq},"header":"{header.hex()}","hash":"{hash_.hex()}","mac":"{mac.hex()}",'
        '"body":'
    ).encode()
    return begin + (body if len(begin) + len(body) <= RECORD_BYTES_MAX else b"null") + b"}}"


def join(encoded: list[bytes], published: dict[int, int]) -> bytes:
    """Make a message of records that `encode_one` wrote; there is at least one."""
    places = ",".join(f"{partition}:{sequence}" for partition, sequence in sorted(published.items()))
    return b'[%b,"published":"%b"}]' % (b",".join(encoded)[:-1], places.encode())


def decode(data: bytes) -> list[RecordSealed]:
    """Read a message. Raises msgspec.MsgspecError."""
    return _DECODER.decode(data)


def published(data: bytes) -> dict[int, int]:
    """Return how far each log was published when this message was sent. Raises msgspec.MsgspecError, ValueError."""
    pairs = (place.split(":") for place in decode(data)[-1].published.split(",") if place)
    return {int(partition): int(sequence) for partition, sequence in pairs}
