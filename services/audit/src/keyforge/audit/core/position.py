"""Where the store stands in each log, and what it must then hold."""

from typing import NamedTuple

import msgspec


class Place(NamedTuple):
    """A position in one log, ordered: generation, sequence of the message, place of the event in its frame."""

    generation: int
    sequence: int
    frame_index: int


BEGINNING = Place(0, 0, 0)


class Head(NamedTuple):
    """The end of one stored chain. `rows` counts its rows; fewer than `seq` means that some are missing."""

    partition: int
    seq: int
    hash: bytes
    rows: int


class Held(msgspec.Struct, frozen=True):
    """What the store held when it was asked: how far each table goes in each log, and the end of every chain."""

    records: dict[int, Place]
    requests: dict[int, Place]
    heads: dict[str, Head]

    def sequence(self, partition: int) -> int:
        """Return the last message of a log that the evidence goes up to; 0: none."""
        return self.records.get(partition, BEGINNING).sequence


NOTHING = Held({}, {}, {})


def evidence_lost(held: Held, partition: int) -> bool:
    """Say whether analytics go further than the evidence, which is stored first: some of it was taken away."""
    return held.requests.get(partition, BEGINNING) > held.records.get(partition, BEGINNING)


def differences(held: Held, partition: int, folded: dict[str, tuple[int, bytes]]) -> list[str]:
    """Compare what is stored of a log with the fold at the same position; say what differs, chain by chain."""
    found: list[str] = []
    stored = {name: head for name, head in held.heads.items() if head.partition == partition}
    for name in sorted(stored.keys() | folded.keys()):
        head, expected = stored.get(name), folded.get(name)
        if head is None:
            found.append(f"chain {name} is not stored")
        elif expected is None:
            found.append(f"chain {name} is not in the log")
        elif head.rows < head.seq:
            found.append(f"chain {name}: {head.seq - head.rows} records are missing")
        elif (head.seq, head.hash) != expected:
            found.append(f"chain {name}: seq {head.seq} is stored, seq {expected[0]} or another hash is in the log")
    return found
