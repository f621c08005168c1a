"""Appends what became of requests to the log: framed, repeated with the same bytes until stored, never dropped.

What cannot be stored waits here, bounded; while too much waits, or the log is full or away, new requests are refused,
and refusals are not recorded, so there is always room for the outcomes of those that run.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Final

import msgspec

from keyforge.contracts import frame, subjects
from keyforge.contracts.compression import compress
from keyforge.contracts.errors import Problem, log_full, problem
from keyforge.contracts.frame import FRAME_BYTES_MAX, FRAME_EVENTS_MAX, Recorded
from keyforge.contracts.ids import EdgeId, KeyId
from keyforge.edge.application.ports import OutcomeEvent
from keyforge.edge.core.settlement.pending_outcomes import PendingOutcomes
from keyforge.eventlog.group_commit import GroupCommit
from keyforge.eventlog.log import Appended, EventLog, EventLogError, Full
from keyforge.eventlog.retry import Backoff, retrying
from keyforge.runtime import logs

TICK_S: Final = 0.01
"""Outcomes go to the log at ticks, those of all partitions together: they wait 5 ms on average. An append for each
event would cost the edge 91 us, one for all of a tick about nothing."""
WAITING_REFUSE: Final = 10_000
"""So many outcomes of a partition waiting: no new request of it. Twice what may be open at once by default."""
WAITING_MAX: Final = 100_000
"""So many are kept: room for 90,000 requests that still run when new ones are refused."""
BACKOFF: Final = Backoff(0.05, 1.0)
"""Between attempts to store a frame. Chosen: short at first, since a server that was restarted is back within a second;
at most a second, little beside the 4 to 9 s that a new leader takes (`eventlog.fence`)."""

PATIENCE_S: Final = 2.0
"""How long a log may not take outcomes before requests are refused for it. Chosen: a connection that was lost is back
in half a second, and reserves, which need the same log, wait longer than this for their owner. Halved, a slow reconnect
is an agent's trouble; doubled, more requests wait for a log that is away."""

_Item = tuple[KeyId, bytes]
"""An event, and the key that it is of."""


class _NotStored(EventLogError):
    """A frame was not stored; `full`: since the log takes nothing more."""

    def __init__(self, why: str, *, full: bool) -> None:
        super().__init__(why)
        self.full = full


class _PartitionOutcomes(msgspec.Struct):
    group: GroupCommit[_Item]
    unavailable: Problem | None = None
    refused_from: float = 0.0
    """When `unavailable` begins to count (the event loop's time)."""


class FramedOutcomeLog:
    """`OutcomeLog` over the event log: one `GroupCommit` for each partition."""

    def __init__(self, log: EventLog, edge: EdgeId, now: Callable[[], datetime], pending: PendingOutcomes) -> None:
        self._eventlog = log
        self._edge = edge
        self._source = f"edge/{edge}"
        self._now = now
        self._pending = pending
        self._partitions: dict[int, _PartitionOutcomes] = {}
        self._lost = 0
        self._logger = logs.get("outcome_log")

    def unavailable(self, partition: int) -> Problem | None:
        """See `OutcomeLog`."""
        found = self._partitions.get(partition)
        if found is None:
            return None
        if found.unavailable is not None and asyncio.get_running_loop().time() >= found.refused_from:
            return found.unavailable
        return None if self.has_room(partition) else problem("log_unavailable")

    def has_room(self, partition: int) -> bool:
        """See `OutcomeLog`."""
        found = self._partitions.get(partition)
        return found is None or len(found.group) < WAITING_REFUSE

    def append(self, partition: int, event: OutcomeEvent) -> None:
        """See `OutcomeLog`."""
        found = self._partitions.get(partition) or self._open(partition)
        verb = event.TYPE.split(".")[2]
        recorded = Recorded(f"{event.request_id}.{verb}", self._source, self._now(), event)
        if found.group.add((event.key_id, frame.encode_one(recorded))):
            self._pending.submitted(event.key_id)
        else:
            # Cannot be: requests are refused long before. The reservation then counts as spent.
            self._lost += 1
            self._logger.critical("an outcome was lost", request_id=event.request_id, type=event.TYPE)

    async def drain(self) -> None:
        """See `OutcomeLog`."""
        await asyncio.gather(*(found.group.drain() for found in self._partitions.values()))

    def waiting(self) -> int:
        """See `OutcomeLog`."""
        return sum(found.group.unsent for found in self._partitions.values())

    def give_up(self) -> int:
        """See `OutcomeLog`."""
        return self._lost + sum(found.group.give_up() for found in self._partitions.values())

    def _open(self, partition: int) -> _PartitionOutcomes:
        group: GroupCommit[_Item] = GroupCommit(
            partial(self._store, partition),
            size_of=_size,
            failed=partial(self._failed, partition),
            items_max=FRAME_EVENTS_MAX,
            bytes_max=FRAME_BYTES_MAX,
            waiting_max=WAITING_MAX,
            tick_s=TICK_S,
        )
        return self._partitions.setdefault(partition, _PartitionOutcomes(group))

    def _failed(self, partition: int, fault: BaseException) -> None:
        found = self._partitions[partition]
        found.unavailable, found.refused_from = problem("log_unavailable"), 0.0
        error = type(fault).__name__
        self._logger.critical("outcomes cannot be stored", partition=partition, error=error, exc_info=fault)

    async def _store(self, partition: int, items: list[_Item]) -> None:
        """Append one frame, with the same bytes for as long as it takes: the fold ignores a second copy."""
        found = self._partitions[partition]
        message = compress(frame.join([event for _, event in items]))
        attempt = partial(self._append, subjects.use(partition, self._edge), message)
        failed = partial(self._not_stored, partition, found)
        sequence = await retrying(attempt, backoff=BACKOFF, retry_on=EventLogError, failed=failed)
        found.unavailable = None
        self._pending.stored([key_id for key_id, _ in items], sequence)

    async def _append(self, subject: str, message: bytes) -> int:
        outcome = await self._eventlog.append(subject, message)
        if isinstance(outcome, Appended):
            return outcome.seq
        raise _NotStored(repr(outcome), full=isinstance(outcome, Full))

    def _not_stored(self, partition: int, found: _PartitionOutcomes, fault: Exception) -> None:
        full = isinstance(fault, _NotStored) and fault.full
        wrong = log_full(subjects.log_stream(partition)) if full else problem("log_unavailable")
        if found.unavailable is None or found.unavailable.kind is not wrong.kind:
            type_ = wrong.kind.type
            self._logger.warning("cannot publish to the log", partition=partition, problem=type_, error=str(fault))
        if full:
            found.refused_from = 0.0  # no time cures that
        elif found.unavailable is None:
            found.refused_from = asyncio.get_running_loop().time() + PATIENCE_S
        found.unavailable = wrong


def _size(item: _Item) -> int:
    return len(item[1])
