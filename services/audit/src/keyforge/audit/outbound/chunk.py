"""What waits to be stored: the rows of whole messages of one log, encoded."""

from collections.abc import Iterable

import msgspec

from keyforge.audit.core.sealed import Head, KeySpend
from keyforge.audit.outbound.outgoing import Outgoing


class Chunk(msgspec.Struct, eq=False, gc=False):
    """Rows of whole messages of one log, encoded at once: what waits is bytes, and not many objects.

    `sequence` is the last of the messages, `heads` has the ends of the chains that they extend, `spend` what their keys
    had spent then, `outgoing` is for subscribers.
    """

    partition: int
    sequence: int
    records: int
    ends: int
    evidence: bytes
    analytics: bytes
    heads: dict[str, Head]
    spend: dict[str, KeySpend]
    outgoing: Outgoing

    @property
    def rows(self) -> int:
        """How many rows these are; a chunk without rows counts as one."""
        return self.records + self.ends or 1

    @property
    def size(self) -> int:
        """How many bytes these are."""
        return len(self.evidence) + len(self.analytics)


def heads_of(block: Iterable[Chunk]) -> list[tuple[str, Head]]:
    """Return chain and end of every chain of which these chunks have evidence."""
    found: dict[str, Head] = {}
    for chunk in block:
        if chunk.evidence:
            found |= chunk.heads
    return list(found.items())
