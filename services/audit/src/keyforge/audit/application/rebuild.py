"""A rebuild: the tables are emptied, every log is folded again, and the result is compared with what was stored."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec

from keyforge.audit.application.follow import FollowedLog
from keyforge.audit.application.ports import RecordWriter
from keyforge.runtime import logs

WATCH_S: Final = 0.1
"""Chosen: shorter than the 0.25 s between two questions of the command line (`reports.REBUILD_POLL_S`)."""


class Rebuild(msgspec.Struct, eq=False):
    """Progress of a rebuild. `identical` is None until every stored chain was compared, and if none could be."""

    state: Literal["none", "running", "done", "failed"] = "none"
    folded: int = 0
    messages: int = 0
    records: int = 0
    identical: bool | None = None
    differences: list[str] = msgspec.field(default_factory=list)
    error: str = ""
    comparable: bool = True
    """Whether the tables were of this version, so that the result can be compared with them."""

    @property
    def running(self) -> bool:
        """Whether it is going on."""
        return self.state == "running"

    def fail(self, why: str) -> None:
        """End it as failed."""
        self.state, self.error = "failed", why

    async def watch(self, ends: Mapping[int, int], writer: RecordWriter, followed: Sequence[FollowedLog]) -> None:
        """Follow it until what the logs held when it began, up to their `ends`, is stored.

        It fails if one of them cannot be read so far.
        """
        self.messages = sum(ends.values())
        storing = asyncio.ensure_future(writer.until(ends))
        try:
            while not storing.done():
                await asyncio.wait([storing], timeout=WATCH_S)
                self.folded = sum(min(writer.done.get(partition, 0), end) for partition, end in ends.items())
        finally:
            storing.cancel()
        self.records = sum(seq for seq, _ in writer.heads.values())
        for log in followed:
            if log.unreadable is not None and log.unreadable.sequence <= ends.get(log.partition, 0):
                self.fail(f"{log.stream}: {log.unreadable}")
                return
        self.identical = not self.differences if self.comparable else None
        self.state = "done"
        logs.get("projection").info("rebuilt", identical=self.identical, differences=self.differences[:5])
