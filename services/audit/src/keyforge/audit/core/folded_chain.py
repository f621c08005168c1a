"""What the records of each chain come to in a fold, for comparing with what a store holds of it. Pure."""

from collections.abc import Iterable
from hashlib import sha256
from typing import NamedTuple

from keyforge.audit.core.sealed import Head
from keyforge.chain.seal import Record


class FoldedChain(NamedTuple):
    """A chain as a fold gave it: its last record, and the sum of the digests of all records.

    The digest of a record is SHA-256(hash || MAC) as a little-endian number: it binds a MAC to its record, which sums
    of hashes and of MACs would not.
    """

    seq: int
    hash: bytes
    digests: int

    @property
    def head(self) -> Head:
        """Its last record."""
        return Head(self.seq, self.hash)


def sum_up(chains: dict[str, FoldedChain], records: Iterable[Record]) -> None:
    """Add records, in the order in which they were sealed, to what is known of their chains."""
    for record in records:
        name = record.chain.name
        digests = int.from_bytes(sha256(record.hash + record.mac).digest(), "little")
        if (before := chains.get(name)) is not None:
            digests += before.digests
        chains[name] = FoldedChain(record.seq, record.hash, digests)
