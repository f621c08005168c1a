"""Whether records are one complete chain, in form and in meaning: VALID to seq N, or INVALID at seq N and why.

The form of a record is checked first, here: only who holds the master key can have written what `chain.meaning` sees.
"""

import hmac
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from keyforge.chain import record as rec
from keyforge.chain.meaning import Meaning
from keyforge.chain.record import Header, RecordType
from keyforge.chain.rules import Broken, RecordRule
from keyforge.chain.seal import Mac, MasterKey

_TYPES: Final = frozenset(RecordType)


class Stored(NamedTuple):
    """A record as a store returns it, not trusted in any part. `body` None: erased, or not at hand."""

    header: bytes
    hash: bytes
    mac: bytes
    body: bytes | None


class Verdict(NamedTuple):
    """The result of a verification. `seq`: the last valid record, or the first invalid one; `head`: the last valid
    hash; `redacted`: how many bodies were erased, so that their meaning was checked by their headers alone.

    `open`: admissions without a terminal so far. `unproven`: records that can be right only if the broker's time went
    back in the log, or if it was full of cancels, both of which other chains of the log would have to show. `rule`: the
    number of the rule that is broken (docs/spec/audit-format.md), empty if none is.
    """

    valid: bool
    seq: int
    why: str
    head: bytes
    redacted: int = 0
    open: int = 0
    unproven: int = 0
    rule: str = ""

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
        self._redacted = 0
        self._meaning = Meaning(name)
        self._wrong: Verdict | None = None

    def check(self, records: Iterable[Stored]) -> Verdict:
        """Check the records that follow those checked before; return the verdict on all of them."""
        for record in records:
            if self._wrong is not None:
                break
            if (broken := self._broken(record)) is not None:
                self._wrong = self._invalid(self._seq + 1, broken)
        return self.verdict()

    def verdict(self, head: tuple[int, bytes] | None = None) -> Verdict:
        """Return the verdict; `head`, the end of the chain known from elsewhere, reveals missing or added records."""
        if self._wrong is not None:
            return self._wrong
        if head is not None and head != (self._seq, self._head):
            if head[0] == self._seq:
                return self._invalid(self._seq, Broken(RecordRule.HEAD, "the last hash is not the expected head"))
            why = f"the chain ends at seq {self._seq}, expected {head[0]}"
            return self._invalid(min(self._seq, head[0]) + 1, Broken(RecordRule.HEAD, why))
        return self._verdict(self._seq, None)

    def _invalid(self, seq: int, broken: Broken) -> Verdict:
        return self._verdict(seq, broken)

    def _verdict(self, seq: int, broken: Broken | None) -> Verdict:
        rule, why = ("", "") if broken is None else (broken.rule.value, broken.why)
        meaning = self._meaning
        return Verdict(broken is None, seq, why, self._head, self._redacted, meaning.open, meaning.unproven, rule)

    def _broken(self, stored: Stored) -> Broken | None:
        """Return what is wrong with the next record; None if it is valid, and it then counts as checked."""
        if len(stored.header) != rec.HEADER_BYTES:
            return Broken(RecordRule.LENGTH, "the header has the wrong length")
        header = rec.unpack(stored.header)
        if (broken := self._misplaced(header)) is not None:
            return broken
        hash_ = rec.record_hash(stored.header)
        if not hmac.compare_digest(hash_, stored.hash):
            return Broken(RecordRule.HASH, "the hash is not that of the header")
        mac = self._mac(header.key_version)
        if mac is None:
            return Broken(RecordRule.KEY_VERSION, f"the master key of version {header.key_version} is unknown")
        if not hmac.compare_digest(mac.of(hash_), stored.mac):
            return Broken(RecordRule.MAC, "the MAC is wrong")
        if stored.body is not None and not hmac.compare_digest(rec.body_hash(stored.body), header.body_hash):
            return Broken(RecordRule.BODY_HASH, "the body does not match its hash")
        if (broken := self._meaning.check(header, stored.body)) is not None:
            return broken
        self._redacted += stored.body is None
        self._seq, self._head, self._position = header.seq, hash_, header.position
        return None

    def _misplaced(self, header: Header) -> Broken | None:
        if header.magic != rec.MAGIC or header.version != rec.VERSION:
            return Broken(RecordRule.FORMAT, "not a record of this format")
        if header.type not in _TYPES:
            return Broken(RecordRule.KNOWN_TYPE, f"unknown record type {header.type}")
        if header.chain_id != self._id:
            return Broken(RecordRule.CHAIN_ID, "a record of another chain")
        if header.seq != self._seq + 1:
            return Broken(RecordRule.SEQ, f"seq {header.seq} follows {self._seq}")
        if header.previous != self._head:
            return Broken(RecordRule.PREVIOUS, "does not contain the hash of the record before it")
        if header.position <= self._position:
            return Broken(RecordRule.POSITION, "its position is not after that of the record before it")
        return None

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
