"""Compares what is stored with what the fold of the log gives: the fold testifies, the store is examined. Pure."""

import hmac
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal, NamedTuple

from keyforge.audit.core.sealed import NOTHING_SPENT, Head, KeySpend
from keyforge.chain import record as rec
from keyforge.chain.seal import Mac, MasterKey
from keyforge.chain.verify import Stored

Table = Literal["records", "requests"]
MACS_MAX: Final = 10_000
"""Chains whose key is kept; with more, it begins again. Chosen: 10 MB at 1 KB a chain (two states of SHA-256)."""


class Disagreement(NamedTuple):
    """Where the store and the log disagree. `seq`: the first record of `chain` that is missing, altered or surplus."""

    table: Table
    log: str
    chain: str
    seq: int | None
    why: str

    def __str__(self) -> str:
        place = [self.log, f"chain {self.chain}" if self.chain else "", "" if self.seq is None else f"seq {self.seq}"]
        return f"{self.table}, {', '.join(filter(None, place))}: {self.why}"


class StoredEnd(NamedTuple):
    """What is stored of a chain: its last row, and how many different seqs there are.

    `authentic`: hash and MAC of the last row were found right; `partition` and `sequence` are where it is in the log.
    """

    chain: str
    seq: int
    hash: bytes
    distinct: int
    authentic: bool
    partition: int
    sequence: int


class StoredSpend(NamedTuple):
    """What is stored of a key's requests. `sequence` is the last message of its log of which there is a row."""

    tenant: str
    key_id: str
    spend: KeySpend
    partition: int
    sequence: int


def is_authentic(chain: str, stored: Stored, master: MasterKey) -> bool:
    """Return whether hash and MAC of a stored record are right under this master key, on this chain, and its body.

    A body of None is not looked at.
    """
    return _is_sealed(chain, stored, lambda id_: Mac(master.chain_key(id_)))


class AuthenticityCheck:
    """Finds out of many records which are authentic; keeps the keys of MACs by the id of the chain."""

    def __init__(self, master: MasterKey) -> None:
        self._master = master
        self._macs: dict[bytes, Mac] = {}

    def is_authentic(self, chain: str, stored: Stored) -> bool:
        """Return what the function `is_authentic` does."""
        return _is_sealed(chain, stored, self._mac)

    def _mac(self, chain_id: bytes) -> Mac:
        mac = self._macs.get(chain_id)
        if mac is None:
            if len(self._macs) >= MACS_MAX:
                self._macs.clear()
            mac = self._macs[chain_id] = Mac(self._master.chain_key(chain_id))
        return mac


def _is_sealed(chain: str, stored: Stored, mac_of: Callable[[bytes], Mac]) -> bool:
    """`mac_of` derives the key of a chain's MACs from its id. That comes last: it costs ten times the rest, and rows
    without it are made up in great numbers."""
    if len(stored.header) != rec.HEADER_BYTES:
        return False
    header, hash_ = rec.unpack(stored.header), rec.record_hash(stored.header)
    return (
        header.chain_id == rec.chain_id(chain)
        and hmac.compare_digest(hash_, stored.hash)
        and (stored.body is None or hmac.compare_digest(rec.body_hash(stored.body), header.body_hash))
        and hmac.compare_digest(mac_of(header.chain_id).of(hash_), stored.mac)
    )


def stored_end(chain: str, seq: int, distinct: int, last: Stored, master: MasterKey | None) -> StoredEnd:
    """Return the end of a chain from its last row and the columns of numbers beside it; see `StoredEnd.authentic`."""
    authentic = master is not None and is_authentic(chain, last, master) and rec.unpack(last.header).seq == seq
    if not authentic:
        return StoredEnd(chain, seq, last.hash, distinct, authentic=False, partition=0, sequence=0)
    header = rec.unpack(last.header)
    return StoredEnd(
        chain, seq, last.hash, distinct, authentic=True, partition=header.partition, sequence=header.sequence
    )


def end_differs(stored: StoredEnd | None, head: Head) -> str:
    """Return in what the stored end of a chain differs from its head in the log; empty if in nothing."""
    seq, hash_ = head
    if stored is None:
        return "nothing is stored of it" if seq else ""
    if not seq:
        return "it is not in the log"
    if stored.seq != seq:
        return f"it is stored up to seq {stored.seq}, in the log it ends at {seq}"
    if not hmac.compare_digest(stored.hash, hash_):
        return "its last record is another one in the log"
    if stored.distinct > seq:
        return "a record of seq 0 is stored"
    return gap_in(stored)


def gap_in(stored: StoredEnd) -> str:
    """Return how many records are missing before the stored end of a chain; empty if none are."""
    return f"{stored.seq - stored.distinct} records are missing" if stored.distinct < stored.seq else ""


def spend_differs(stored: KeySpend | None, folded: KeySpend | None) -> str:
    """Return in what the stored spend of a key differs from the log's; empty if in nothing."""
    found, expected = stored or NOTHING_SPENT, folded or NOTHING_SPENT
    if found == expected:
        return ""
    differing = [
        f"{name} {getattr(found, name)}, in the log {getattr(expected, name)}"
        for name in KeySpend._fields
        if name != "digest" and getattr(found, name) != getattr(expected, name)
    ]
    return "; ".join(differing) or "its rows are not those of the log"


def page_fault(
    rows: Sequence[Stored], after: int, anchor: Head, mac_of: Callable[[bytes], bytes], chain_id: bytes
) -> int | None:
    """Return the seq of a stored record that is not the log's, None if all rows from seq `after` + 1 to the anchor are.

    `anchor` is the last of them as the fold has it. Every record contains the hash of the one before it, so its hash
    proves them all; `mac_of` returns the MAC of a hash.
    """
    expected = anchor.hash
    if len(rows) != anchor.seq - after:
        return _first_gap(rows, after)
    for seq, row in zip(range(anchor.seq, after, -1), reversed(rows), strict=True):
        if len(row.header) != rec.HEADER_BYTES or not hmac.compare_digest(rec.record_hash(row.header), expected):
            return seq
        header = rec.unpack(row.header)
        same = hmac.compare_digest(row.hash, expected) and hmac.compare_digest(row.mac, mac_of(expected))
        body = row.body is not None and hmac.compare_digest(rec.body_hash(row.body), header.body_hash)
        if not (same and body and header.chain_id == chain_id):
            return seq
        expected = header.previous
    return None


def _first_gap(rows: Iterable[Stored], after: int) -> int:
    """Return the first seq that is missing, or is stored twice and differently."""
    expected = after + 1
    for row in rows:
        if len(row.header) != rec.HEADER_BYTES or rec.unpack(row.header).seq != expected:
            return expected
        expected += 1
    return expected
