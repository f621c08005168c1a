"""What the records of each chain come to in a fold, for comparing with what a store holds of it. Pure."""

from collections.abc import Iterable
from typing import NamedTuple

from keyforge.audit.core.sealed import Head
from keyforge.chain.seal import Record


class FoldedChain(NamedTuple):
    """A chain as a fold gave it: its last record, and the sums of all hashes and all MACs as little-endian numbers."""

    seq: int
    hash: bytes
    hashes: int
    macs: int

    @property
    def head(self) -> Head:
        """Its last record."""
        return Head(self.seq, self.hash)


def sum_up(chains: dict[str, FoldedChain], records: Iterable[Record]) -> None:
    """Add records, in the order in which they were sealed, to what is known of their chains."""
    for record in records:
        name = record.chain.name
        hashes, macs = int.from_bytes(record.hash, "little"), int.from_bytes(record.mac, "little")
        if (before := chains.get(name)) is not None:
            hashes, macs = before.hashes + hashes, before.macs + macs
        chains[name] = FoldedChain(record.seq, record.hash, hashes, macs)
