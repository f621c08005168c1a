"""Whether a sequence of records is one complete chain: VALID to seq N, or INVALID at seq N and why."""

import hmac
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from keyforge.chain import record as rec
from keyforge.chain.record import Header, RecordType
from keyforge.chain.seal import Mac, MasterKey

_TYPES: Final = frozenset(RecordType)


class Stored(NamedTuple):
    """A record as a store returns it, not trusted in any part. `body` None: erased; its hash is still checked."""

    header: bytes
    hash: bytes
    mac: bytes
    body: bytes | None


class Verdict(NamedTuple):
    """The result of a verification. `seq`: the last valid record, or the first invalid one; `head`: the last valid
    hash."""

    valid: bool
    seq: int
    why: str
    head: bytes
    redacted: int = 0

    def __str__(self) -> str:
        return f"VALID to seq {self.seq}" if self.valid else f"INVALID at seq {self.seq}: {self.why}"


class Verifier:
    """Checks the records of one chain, in order, a few at a time; the first error is final."""

    def __init__(self, name: str, key_of: Callable[[int], MasterKey | None]) -> None:
        """`key_of` returns the master key of a version, None for an unknown one."""
        self._id = rec.chain_id(name)
        self._key_of = key_of
        self._macs: dict[int, Mac] = {}
        self._seq = 0
        self._head = rec.genesis(self._id)
        self._position = (0, 0, -1)
        self._place: tuple[int, int] | None = None
        self._redacted = 0
        self._wrong: Verdict | None = None

    def check(self, records: Iterable[Stored]) -> Verdict:
        """Check the records that follow those checked before; return the verdict on all of them."""
        for record in records:
            if self._wrong is not None:
                break
            if why := self._why_not(record):
                self._wrong = self._invalid(self._seq + 1, why)
        return self.verdict()

    def verdict(self, head: tuple[int, bytes] | None = None) -> Verdict:
        """Return the verdict; `head`, the end of the chain known from elsewhere, reveals missing or added records."""
        if self._wrong is not None:
            return self._wrong
        if head is not None and head != (self._seq, self._head):
            if head[0] == self._seq:
                return self._invalid(self._seq, "the last hash is not the expected head")
            return self._invalid(min(self._seq, head[0]) + 1, f"the chain ends at seq {self._seq}, expected {head[0]}")
        return Verdict(valid=True, seq=self._seq, why="", head=self._head, redacted=self._redacted)

    def _invalid(self, seq: int, why: str) -> Verdict:
        return Verdict(valid=False, seq=seq, why=why, head=self._head, redacted=self._redacted)

    def _why_not(self, stored: Stored) -> str:
        """Return the error of the next record; empty if it is valid, and it then counts as checked."""
        if len(stored.header) != rec.HEADER_BYTES:
            return "the header has the wrong length"
        header = rec.unpack(stored.header)
        if why := self._misplaced(header):
            return why
        hash_ = rec.record_hash(stored.header)
        if not hmac.compare_digest(hash_, stored.hash):
            return "the hash is not that of the header"
        mac = self._mac(header.key_version)
        if mac is None:
            return f"the master key of version {header.key_version} is unknown"
        if not hmac.compare_digest(mac.of(hash_), stored.mac):
            return "the MAC is wrong"
        if stored.body is None:
            self._redacted += 1
        elif not hmac.compare_digest(rec.body_hash(stored.body), header.body_hash):
            return "the body does not match its hash"
        self._seq, self._head, self._position = header.seq, hash_, header.position
        return ""

    def _misplaced(self, header: Header) -> str:
        if header.magic != rec.MAGIC or header.version != rec.VERSION:
            return "not a record of this format"
        if header.type not in _TYPES:
            return f"unknown record type {header.type}"
        if header.chain_id != self._id:
            return "a record of another chain"
        if header.seq != self._seq + 1:
            return f"seq {header.seq} follows {self._seq}"
        if header.previous != self._head:
            return "does not contain the hash of the record before it"
        if header.position <= self._position:
            return "its position is not after that of the record before it"
        return ""

    def _mac(self, version: int) -> Mac | None:
        if version not in self._macs:
            key = self._key_of(version)
            if key is None:
                return None
            self._macs[version] = Mac(key.chain_key(self._id))
        return self._macs[version]


def verify(
    name: str, records: Iterable[Stored], master: MasterKey, *, head: tuple[int, bytes] | None = None
) -> Verdict:
    """Verify a whole chain under one master key."""
    verifier = Verifier(name, lambda version: master if version == master.version else None)
    verifier.check(records)
    return verifier.verdict(head)
