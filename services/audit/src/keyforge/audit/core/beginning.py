"""Whether a log is the one that the store was made from: its first records are among those that are stored. Pure."""

from collections.abc import Iterable
from typing import Final

from keyforge.audit.core.sealed import Sealed

BEGINNING_RECORDS: Final = 16
"""Stored records that a log's beginning is compared with. Chosen: one would do; with 16, up to 15 may be altered
without the log being taken for another one."""


class Beginning:
    """The first authentic records that are stored of a log, until the fold has passed them.

    A log that does not have one of them is another log. Nothing is known of a log of which none is stored.
    """

    def __init__(self, records: Iterable[tuple[int, bytes]]) -> None:
        """`records`: of each the message of the log that it is of, and its hash."""
        found = list(records)
        self._hashes = {hash_ for _, hash_ in found}
        self._last = max((sequence for sequence, _ in found), default=0)
        self._same = not found

    def differs_after(self, sealed: Sealed) -> bool:
        """Compare the records of whole messages, in order; return whether this log is another one."""
        if self._same:
            return False
        self._same = any(record.hash in self._hashes for record in sealed.records)
        return not self._same and sealed.sequence >= self._last
