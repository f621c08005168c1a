"""One build of the tables: the folds of all logs, and the writer that stores what they become.

The folds testify; the tables are what is examined. A build also knows where the two were found to disagree.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Final, NamedTuple

from keyforge.audit.application.follow import FollowedLog, follow
from keyforge.audit.application.ports import RecordWriter
from keyforge.audit.core.beginning import Beginning
from keyforge.audit.core.evidence import Disagreement, Table
from keyforge.audit.core.fold import Fold
from keyforge.audit.core.position import StoredState
from keyforge.audit.core.sealed import NO_HEAD, Head, Sealed
from keyforge.audit.errors import DivergedError
from keyforge.chain.record import PLATFORM_PARTITION
from keyforge.chain.seal import MasterKey
from keyforge.contracts import subjects
from keyforge.eventlog.log import EventLog, LogMissing, LogShrunk
from keyforge.runtime import logs

LOGGED_MAX: Final = 100
"""With more disagreements, further ones are not logged one by one; the gauge counts them. Chosen: 30 ms at 0.3 ms a
line (measured: 200,000 lines took a minute, in which nothing was answered)."""


class Opened(NamedTuple):
    """What the store holds at the start: up to where, and message and hash of the first records of each log."""

    stored: StoredState
    beginnings: Mapping[int, Sequence[tuple[int, bytes]]]


def streams_of(partitions: int) -> list[tuple[int, str]]:
    """Return partition and stream of every log, the platform's last."""
    return [
        *((partition, subjects.log_stream(partition)) for partition in range(partitions)),
        (PLATFORM_PARTITION, subjects.PLATFORM_STREAM),
    ]


class Build:
    """The folds, the writer, and the disagreements that were found."""

    def __init__(
        self,
        eventlog: EventLog,
        master: MasterKey,
        streams: Sequence[tuple[int, str]],
        opened: Opened,
        writer: RecordWriter,
    ) -> None:
        self.writer = writer
        self.stored = opened.stored
        self.beginnings = opened.beginnings
        self.followed = [
            FollowedLog(partition, stream, Fold(partition, master), Beginning(opened.beginnings.get(partition, ())))
            for partition, stream in streams
        ]
        self.disagreements: dict[tuple[str, Table], Disagreement] = {}
        """By chain and table."""
        self.disagreeing: Counter[str] = Counter()
        """By log how many of them there are; "" where no log has the chain."""
        self.checked = asyncio.Event()
        """Set once all that was stored at the start has been compared with the logs."""
        self.checked_at = float("-inf")
        """The event loop's time at which the last comparison of everything began."""
        self.check_failed = False
        """Whether the last comparison of everything failed."""
        self.left_out: dict[Table, int] = {"records": 0, "requests": 0}
        """By table how many more chains that no log has are stored than were looked at."""
        self.unproven: set[str] = set()
        """Chains of keys whose stored spend goes further than their log, which has stopped, was folded."""
        self._began: Mapping[int, int] | None = None
        """The last message of each log when it began to follow them."""
        self._eventlog = eventlog
        self._logger = logs.get("projection")

    # --- what the folds say -------------------------------------------------------------------------------------------

    def log_of(self, chain: str) -> FollowedLog | None:
        """Return the log that a chain is of; None if no log has it so far."""
        return next((followed for followed in self.followed if followed.fold.head(chain) is not None), None)

    def log(self, partition: int) -> FollowedLog | None:
        """Return the log of a partition; None if there is no such partition."""
        return next((followed for followed in self.followed if followed.partition == partition), None)

    def head(self, chain: str) -> Head:
        """Return the head of a chain at what is stored of its log; NO_HEAD if it has none."""
        return self.writer.heads.get(chain, NO_HEAD)

    def anchor(self, chain: str, after: int) -> Head:
        """Return the first record of a chain, from seq `after` to its head, whose hash is known for certain."""
        head = self.head(chain)
        followed = self.log_of(chain)
        found = followed.fold.anchor(chain, after) if followed is not None else None
        return found if found is not None and found.seq < head.seq else head

    # --- how far they are ---------------------------------------------------------------------------------------------

    def lag(self) -> dict[str, int]:
        """Return how many messages of each log are not stored yet."""
        return {followed.stream: self.lag_of(followed) for followed in self.followed}

    def lag_of(self, followed: FollowedLog) -> int:
        """Return how many messages of a log are not stored yet."""
        return max(0, followed.end - self.writer.done.get(followed.partition, 0))

    def caught_up(self) -> bool:
        """Return whether all is stored that the logs had when they began to be followed, but for logs that stopped."""
        began, done = self._began, self.writer.done
        return began is not None and all(
            followed.stopped or done.get(followed.partition, 0) >= began[followed.partition]
            for followed in self.followed
        )

    def oldest_unstored(self) -> datetime | None:
        """Return the broker time of the oldest message that was seen and is not stored; None if there is none."""
        done = self.writer.done
        found = [followed.oldest_unstored(done.get(followed.partition, 0)) for followed in self.followed]
        return min((at for at in found if at is not None), default=None)

    def ends(self) -> dict[int, int]:
        """Return the last message that each log is known to have."""
        return {followed.partition: followed.end for followed in self.followed}

    async def refresh_ends(self, followed: Sequence[FollowedLog] | None = None) -> None:
        """Ask for the last sequence of these logs, or all. One that no server answers for keeps what was known."""
        await asyncio.gather(*[self._refresh_end(one) for one in followed or self.followed])

    async def _refresh_end(self, followed: FollowedLog) -> None:
        with suppress(LogMissing):
            followed.end = max(followed.end, await self._eventlog.end(followed.stream))

    async def begin(self) -> None:
        """Ask for the ends that `lag` and `caught_up` count from."""
        await self.refresh_ends()
        self._began = self.ends()

    # --- following ----------------------------------------------------------------------------------------------------

    async def follow(self, followed: FollowedLog, *, gather_s: float, on_folded: Callable[[Sealed], None]) -> None:
        """Follow a log until it must stop: `followed` then says why. The others go on."""
        try:
            await follow(self._eventlog, followed, self.stored, self.writer, gather_s=gather_s, on_folded=on_folded)
        except (DivergedError, LogShrunk) as error:
            followed.halted = str(error)
        self.writer.end_at(followed.partition, followed.folded)
        if followed.halted:
            self._logger.error(
                "log halted: it is not the one that was stored", log=followed.stream, why=followed.halted
            )
        elif (unreadable := followed.unreadable) is not None:
            self._logger.error(
                "log stopped at a message that this version cannot read; it continues with one that can",
                log=followed.stream,
                sequence=unreadable.sequence,
                index=unreadable.frame_index,
                type=unreadable.type[:100],
                why=unreadable.why[:200],
            )

    # --- where the store disagrees ------------------------------------------------------------------------------------

    def disagrees(self, found: Disagreement) -> None:
        """Keep a disagreement until a later comparison of the same chain and table finds none."""
        before = self.disagreements.get((found.chain, found.table))
        self.disagreements[found.chain, found.table] = found
        self.disagreeing[found.log] += 1
        if before is not None:
            self.disagreeing[before.log] -= 1
        if before != found and len(self.disagreements) <= LOGGED_MAX:
            self._logger.error(
                "the store disagrees with the log; rebuild the tables",
                table=found.table,
                log=found.log,
                chain=found.chain,
                seq=found.seq,
                why=found.why[:300],
            )

    def known(self, table: Table) -> list[str]:
        """Return the chains that disagree in a table, those that were examined longest ago first."""
        return [chain for chain, of in self.disagreements if of == table]

    def examined(self, chain: str) -> None:
        """A chain whose records disagree was examined just now."""
        if (found := self.disagreements.pop((chain, "records"), None)) is not None:
            self.disagreements[chain, "records"] = found

    def agrees(self, chain: str, table: Table) -> None:
        """Forget a disagreement: store and log agree on this chain again."""
        if (known := self.disagreements.pop((chain, table), None)) is not None:
            self.disagreeing[known.log] -= 1
