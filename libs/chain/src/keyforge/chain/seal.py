"""A chain and its fold step: the body of an event in, a sealed record out. Every byte of it follows from the log.

There is a chain for each virtual key, for each tenant (what operators did to it and its keys), for each partition (the
fences of its owners) and for the platform.
"""

import hashlib
from typing import Final, NamedTuple

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from keyforge.chain import record as rec
from keyforge.chain.record import HEADER, MAGIC, NO_REQUEST, VERSION, RecordType

MASTER_BYTES_MIN: Final = 32
KEY_BYTES: Final = 32
"""256 bits, the output of SHA-256: a shorter key weakens HMAC, a longer one adds nothing (RFC 2104 section 3)."""
PLATFORM_CHAIN: Final = "platform"

_BLOCK_BYTES: Final = 64
"""Of SHA-256 (FIPS 180-4)."""
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))


def key_chain(tenant: str, key_id: str) -> str:
    """Return the name of a virtual key's chain. Neither part may contain a slash: no id does."""
    return f"key/{tenant}/{key_id}"


def tenant_chain(tenant: str) -> str:
    """Return the name of the chain of what operators did to a tenant and its keys."""
    return f"tenant/{tenant}"


def partition_chain(partition: int) -> str:
    """Return the name of the chain of what belongs to a partition alone."""
    return f"partition/{partition}"


class MasterKey(NamedTuple):
    """The secret from which the MAC keys of all chains are derived, and its number in the headers."""

    version: int
    secret: bytes

    def chain_key(self, chain: bytes) -> bytes:
        """Return the MAC key of the chain with this id: HKDF-SHA256(secret, no salt, KEY_DOMAIN || chain id)."""
        if len(self.secret) < MASTER_BYTES_MIN:
            raise ValueError(f"the master key must be at least {MASTER_BYTES_MIN} bytes")
        return HKDF(hashes.SHA256(), KEY_BYTES, salt=None, info=rec.KEY_DOMAIN + chain).derive(self.secret)


class Mac:
    """HMAC-SHA256 under one key, over MAC_DOMAIN and a hash. Keeps both padded states, which halves its cost."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        padded = key.ljust(_BLOCK_BYTES, b"\0")
        self._inner = hashlib.sha256(padded.translate(_INNER))
        self._inner.update(rec.MAC_DOMAIN)
        self._outer = hashlib.sha256(padded.translate(_OUTER))

    def of(self, hash_: bytes) -> bytes:
        """Return the MAC of a record's hash."""
        inner = self._inner.copy()
        inner.update(hash_)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()


class Record(msgspec.Struct, frozen=True, gc=False):
    """A sealed record: 184 bytes of header, its hash, its MAC, and the canonical body whose hash the header holds."""

    chain: "Chain"
    seq: int
    header: bytes
    hash: bytes
    mac: bytes
    body: bytes


class Chain:
    """The head of one chain. Only `seal` advances it."""

    __slots__ = (
        "_generation",
        "_key_version",
        "_mac",
        "_partition",
        "head",
        "id",
        "key_id",
        "name",
        "reserved_nusd",
        "seq",
        "settled_nusd",
        "tenant",
    )

    def __init__(
        self, name: str, master: MasterKey, *, partition: int, generation: int = 1, tenant: str = "", key_id: str = ""
    ) -> None:
        self.name = name
        self.tenant = tenant
        self.key_id = key_id
        self.id = rec.chain_id(name)
        self.seq = 0
        self.head = rec.genesis(self.id)
        self.settled_nusd = 0
        self.reserved_nusd = 0
        self._key_version = master.version
        self._mac = Mac(master.chain_key(self.id))
        self._partition = partition
        self._generation = generation

    def seal(
        self,
        kind: RecordType,
        body: bytes,
        *,
        sequence: int,
        index: int,
        time_ns: int,
        request: bytes = NO_REQUEST,
        amount_nusd: int = 0,
        settled_nusd: int = 0,
        reserved_nusd: int = 0,
    ) -> Record:
        """Append one record. Its header shows `amount_nusd`; the other two amounts add to the totals of the chain.

        The bodies of one event on two chains are the same bytes.
        """
        self.seq = seq = self.seq + 1
        self.settled_nusd = settled = self.settled_nusd + settled_nusd
        self.reserved_nusd = reserved = self.reserved_nusd + reserved_nusd
        fields = (
            MAGIC,
            VERSION,
            kind,
            self.id,
            seq,
            self._key_version,
            self._partition,
            self._generation,
            sequence,
            index,
            time_ns,
            request,
        )
        amounts = (rec.held(amount_nusd), rec.held(settled), rec.held(reserved))
        header = HEADER.pack(*fields, *amounts, rec.body_hash(body), self.head)
        self.head = head = rec.record_hash(header)
        return Record(self, seq, header, head, self._mac.of(head), body)
