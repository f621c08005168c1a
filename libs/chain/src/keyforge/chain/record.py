"""The header of a record, byte by byte, and the input of its hash and its MAC (docs/spec/audit-format.md).

Everything is big-endian and of fixed length:

    0   magic           4   "KFAR"
    4   version         2   1
    6   type            2   RecordType
    8   chain id       32   SHA-256(CHAIN_DOMAIN || chain name)
    40  seq             8   1 for the first record of a chain
    48  key version     4   which master key the MAC is under
    52  partition       4   0xFFFFFFFF for the platform's log
    56  generation      4   \\
    60  sequence        8    > position of the event in that log
    68  index           4   /
    72  broker time     8   nanoseconds since 1970, signed, in whole microseconds
    80  request id     16   UUID; zero where the event is of no request
    96  amount          8   nano-dollars that this record moves, signed
    104 settled         8   nano-dollars settled on the chain, this record included, signed
    112 reserved        8   nano-dollars open on the chain, this record included, signed
    120 body hash      32   SHA-256(BODY_DOMAIN || body)
    152 previous hash  32   hash of record seq - 1, or SHA-256(GENESIS_DOMAIN || chain id)
"""

import hashlib
import re
from enum import IntEnum, unique
from struct import Struct
from typing import Final, NamedTuple

MAGIC: Final = b"KFAR"
VERSION: Final = 1
HEADER: Final = Struct(">4sHH32sQIIIQIq16sqqq32s32s")
HEADER_BYTES: Final = 184
PLATFORM_PARTITION: Final = 0xFFFF_FFFF
AMOUNT_MAX: Final = 2**63 - 1
"""Of the signed 64 bits that the header has."""
NO_REQUEST: Final = bytes(16)

CHAIN_DOMAIN: Final = b"keyforge/audit/chain/v1\0"
GENESIS_DOMAIN: Final = b"keyforge/audit/genesis/v1\0"
BODY_DOMAIN: Final = b"keyforge/audit/body/v1\0"
RECORD_DOMAIN: Final = b"keyforge/audit/record/v1\0"
MAC_DOMAIN: Final = b"keyforge/audit/mac/v1\0"
KEY_DOMAIN: Final = b"keyforge/audit/key/v1\0"
REQUEST_DOMAIN: Final = b"keyforge/audit/request/v1\0"

_BODY: Final = hashlib.sha256(BODY_DOMAIN)
"""Already fed with the domain: copying it costs less than joining domain and body."""

_UUID_CHARS: Final = 36


@unique
class RecordType(IntEnum):
    """What a record is about. A number belongs to one event in all of its versions, and is never reused."""

    REQUEST_ADMITTED = 1
    REQUEST_COMPLETED = 2
    REQUEST_CANCELLED = 3
    REQUEST_ABANDONED = 4
    REQUEST_REFUSED = 5
    REQUEST_OVERRAN = 6
    KEY_CREATED = 16
    KEY_UPDATED = 17
    KEY_REVOKED = 18
    TENANT_CREATED = 32
    TENANT_UPDATED = 33
    MODEL_RESUMED = 34
    PROVIDER_REGISTERED = 48
    CREDENTIAL_ADDED = 49
    PRICE_SET = 50
    OPERATOR_CREATED = 51
    CREDENTIAL_REVOKED = 52
    OPERATOR_REVOKED = 53
    TENANT_PLACED = 54
    PARTITION_FENCED = 64


_NAMES: Final = {f"keyforge.{kind.name.lower().replace('_', '.')}": kind for kind in RecordType}
RECORD_TYPES: Final[dict[str, RecordType]] = {f"{name}.v1": kind for name, kind in _NAMES.items()}
"""The type of the record that the first version of each event becomes; `record_type` knows the later ones."""
_EVENT_TYPE: Final = re.compile(r"(.+)\.v[1-9][0-9]*")


def record_type(event_type: str) -> RecordType | None:
    """Return the type of the record that an event becomes, None for an unknown one.

    A number belongs to the event's name, and all of its versions have it: what is recorded of a log stays the same
    bytes, whichever version a reader holds in force.
    """
    match = _EVENT_TYPE.fullmatch(event_type)
    return _NAMES.get(match[1]) if match else None


class Header(NamedTuple):
    """The fields of a header, in the order of its bytes."""

    magic: bytes
    version: int
    type: int
    chain_id: bytes
    seq: int
    key_version: int
    partition: int
    generation: int
    sequence: int
    frame_index: int
    time_ns: int
    request_id: bytes
    amount_nusd: int
    settled_nusd: int
    reserved_nusd: int
    body_hash: bytes
    previous: bytes

    @property
    def position(self) -> tuple[int, int, int]:
        """The position of the event in its log: generation, sequence, index."""
        return self.generation, self.sequence, self.frame_index


def unpack(header: bytes) -> Header:
    """Return the fields of a header. Raises struct.error if it is not HEADER_BYTES long."""
    return Header._make(HEADER.unpack(header))


def sequence_of(header: bytes) -> int:
    """Return the sequence of the message that a record's event was in."""
    return int.from_bytes(header[60:68], "big")


def chain_id(name: str) -> bytes:
    """Return the id of the chain of that name (see `chain.key_chain` and its like)."""
    return hashlib.sha256(CHAIN_DOMAIN + name.encode()).digest()


def genesis(chain: bytes) -> bytes:
    """Return the previous hash of the first record of a chain."""
    return hashlib.sha256(GENESIS_DOMAIN + chain).digest()


def body_hash(body: bytes) -> bytes:
    """Return what a header contains in place of its body."""
    hashed = _BODY.copy()
    hashed.update(body)
    return hashed.digest()


def record_hash(header: bytes) -> bytes:
    """Return the hash of a record, which its successor contains."""
    return hashlib.sha256(RECORD_DOMAIN + header).digest()


def request_bytes(request_id: str) -> bytes:
    """Return the 16 bytes of a request id: those of a UUID, or the first 16 of the digest of any other text."""
    if len(request_id) == _UUID_CHARS and request_id[8] == request_id[13] == request_id[18] == request_id[23] == "-":
        try:
            found = bytes.fromhex(request_id.replace("-", ""))
        except ValueError:
            found = b""
        if len(found) == len(NO_REQUEST):
            return found
    return hashlib.sha256(REQUEST_DOMAIN + request_id.encode()).digest()[:16]


def request_text(request: bytes) -> str:
    """Return the 16 bytes of a request id as a UUID; empty where the record is of no request."""
    if request == NO_REQUEST:
        return ""
    text = request.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def held(amount_nusd: int) -> int:
    """Return an amount as a header stores it: one beyond ±AMOUNT_MAX becomes the nearest of the two."""
    if -AMOUNT_MAX <= amount_nusd <= AMOUNT_MAX:
        return amount_nusd
    return AMOUNT_MAX if amount_nusd > 0 else -AMOUNT_MAX
