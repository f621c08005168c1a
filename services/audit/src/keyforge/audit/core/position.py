"""Up to which message of each log rows are stored. Derived from the rows, of which none is trusted unchecked."""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from keyforge.audit.core.evidence import StoredEnd


class StoredState(msgspec.Struct, frozen=True):
    """By log, the last message whose rows each table holds."""

    records: Mapping[int, int]
    requests: Mapping[int, int]

    def sequence(self, partition: int) -> int:
        """Return the last message of a log whose records are stored; 0 if none is."""
        return self.records.get(partition, 0)


NOTHING_STORED: Final = StoredState({}, {})


def evidence_positions(ends: Iterable[StoredEnd]) -> dict[int, int]:
    """Return the last message of each log of which there is an authentic record: a made-up one moves nothing."""
    found: dict[int, int] = {}
    for end in ends:
        if end.authentic:
            found[end.partition] = max(found.get(end.partition, 0), end.sequence)
    return found


def stored_state(evidence: Mapping[int, int], requests: Mapping[int, int]) -> StoredState:
    """Return up to where the tables go. Records are stored before the ends of requests of the same messages.

    So an end proves that the records up to it were stored. Where they are not, they were removed, and are not written
    again: a comparison of the store with the log finds them missing.
    """
    partitions = evidence.keys() | requests.keys()
    return StoredState(
        {partition: max(evidence.get(partition, 0), requests.get(partition, 0)) for partition in partitions},
        dict(requests),
    )
