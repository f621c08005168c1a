"""Up to which position of each log records are stored, and how that compares with a fold of the log."""

from typing import Final, NamedTuple

import msgspec

from keyforge.contracts.frame import Position

BEGINNING: Final = Position(0, 0, 0)
"""Before the first message of a log."""


class Head(NamedTuple):
    """The end of one stored chain. `rows` counts its rows; fewer than `seq` means that some are missing."""

    partition: int
    seq: int
    hash: bytes
    rows: int


class StoredState(msgspec.Struct, frozen=True):
    """What the store holds: by log, the last position in each table; by name, the end of every chain."""

    records: dict[int, Position]
    requests: dict[int, Position]
    heads: dict[str, Head]

    def sequence(self, partition: int) -> int:
        """Return the last message of a log that has evidence in the store; 0 if none has."""
        return self.records.get(partition, BEGINNING).sequence


NOTHING_STORED: Final = StoredState({}, {}, {})


def evidence_lost(stored: StoredState, partition: int) -> bool:
    """Return whether analytics go further than the evidence, which is stored first: evidence was removed."""
    return stored.requests.get(partition, BEGINNING) > stored.records.get(partition, BEGINNING)


def differences(stored: StoredState, partition: int, folded: dict[str, tuple[int, bytes]]) -> list[str]:
    """Compare what is stored of a log with the fold at the same position; return what differs, chain by chain."""
    found: list[str] = []
    heads = {name: head for name, head in stored.heads.items() if head.partition == partition}
    for name in sorted(heads.keys() | folded.keys()):
        head, expected = heads.get(name), folded.get(name)
        if head is None:
            found.append(f"chain {name} is not stored")
        elif expected is None:
            found.append(f"chain {name} is not in the log")
        elif head.rows < head.seq:
            found.append(f"chain {name}: {head.seq - head.rows} records are missing")
        elif (head.seq, head.hash) != expected:
            found.append(f"chain {name}: seq {head.seq} is stored, seq {expected[0]} or another hash is in the log")
    return found
