"""Tells the log what became of requests: framed, repeated with the same bytes until stored, never dropped.

What cannot be stored waits here, bounded; while too much waits, or the log is full or away, new requests are refused,
and refusals are not told, so there is always room for the ends of those that run.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Final

import msgspec

from keyforge.contracts import frame, subjects
from keyforge.contracts.errors import Problem, problem
from keyforge.contracts.events import RequestCancelled, RequestCompleted, RequestRefused
from keyforge.contracts.frame import FRAME_BYTES_MAX, FRAME_EVENTS_MAX, Recorded
from keyforge.contracts.ids import EdgeId, KeyId
from keyforge.edge.core.settlement.pending_outcomes import Settling
from keyforge.eventlog.group_commit import GroupCommit
from keyforge.eventlog.log import Appended, AppendUnknown, EventLog, EventLogError, Full
from keyforge.runtime import logs

TICK_S: Final = 0.01
"""Outcomes go to the log at ticks, those of all partitions together: they wait 5 ms on average."""
WAITING_REFUSE: Final = 10_000
"""So many outcomes of a partition waiting: no new request of it."""
WAITING_MAX: Final = 100_000
PAUSE_S: Final = 0.05
PAUSE_S_MAX: Final = 1.0

_Item = tuple[KeyId, bytes]
"""An event, and the key that it is of."""
Told = RequestCompleted | RequestCancelled | RequestRefused


class _Partition(msgspec.Struct):
    group: GroupCommit[_Item]
    trouble: Problem | None = None


class Outcomes:
    """The edge's own subject in every partition."""

    def __init__(self, log: EventLog, edge: EdgeId, now: Callable[[], datetime]) -> None:
        self.settling = Settling()
        self._eventlog = log
        self._edge = edge
        self._source = f"edge/{edge}"
        self._now = now
        self._partitions: dict[int, _Partition] = {}
        self._log = logs.get("outcomes")

    def trouble(self, partition: int) -> Problem | None:
        """Return why no request of this partition may begin: its end could not be told."""
        found = self._partitions.get(partition)
        if found is None:
            return None
        return found.trouble or (None if self.room(partition) else problem("log_unavailable"))

    def room(self, partition: int) -> bool:
        """Say whether more may be told than the ends of requests that run."""
        found = self._partitions.get(partition)
        return found is None or len(found.group) < WAITING_REFUSE

    def tell(self, partition: int, event: Told) -> None:
        """Hand an event over; it is stored sooner or later, if this process lives."""
        found = self._partitions.get(partition) or self._open(partition)
        verb = event.TYPE.split(".")[2]
        recorded = Recorded(f"{event.request_id}.{verb}", self._source, self._now(), event)
        if found.group.add((event.key_id, frame.encode_one(recorded))):
            self.settling.told(event.key_id)
        else:
            # Cannot be: requests are refused long before. The reservation then counts as spent.
            self._log.critical("an outcome was lost", request_id=event.request_id, type=event.TYPE)

    async def drain(self) -> None:
        """Wait until all is stored. The caller bounds the time."""
        await asyncio.gather(*(found.group.drain() for found in self._partitions.values()))

    def waiting(self) -> int:
        """Return how many outcomes wait."""
        return sum(len(found.group) for found in self._partitions.values())

    def _open(self, partition: int) -> _Partition:
        group: GroupCommit[_Item] = GroupCommit(
            partial(self._store, partition),
            size_of=_size,
            failed=partial(self._failed, partition),
            items_max=FRAME_EVENTS_MAX,
            bytes_max=FRAME_BYTES_MAX,
            waiting_max=WAITING_MAX,
            tick_s=TICK_S,
        )
        return self._partitions.setdefault(partition, _Partition(group))

    def _failed(self, partition: int, fault: BaseException) -> None:
        self._partitions[partition].trouble = problem("log_unavailable")
        self._log.critical("outcomes cannot be told", partition=partition, error=type(fault).__name__, exc_info=fault)

    async def _store(self, partition: int, items: list[_Item]) -> None:
        """Append one frame, with the same bytes for as long as it takes: the fold ignores a second copy."""
        message = frame.join([event for _, event in items])
        subject = subjects.use(partition, self._edge)
        found = self._partitions[partition]
        pause_s = PAUSE_S
        while True:
            try:
                outcome = await self._eventlog.append(subject, message)
            except AppendUnknown as fault:
                self._trouble(found, partition, "log_unavailable", str(fault))
            except EventLogError as fault:
                self._trouble(found, partition, "log_unavailable", str(fault))
                pause_s = PAUSE_S_MAX
            else:
                if isinstance(outcome, Appended):
                    found.trouble = None
                    self.settling.stored([key_id for key_id, _ in items], outcome.seq)
                    return
                name = "log_full" if isinstance(outcome, Full) else "log_unavailable"
                self._trouble(found, partition, name, repr(outcome))
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, PAUSE_S_MAX)

    def _trouble(self, found: _Partition, partition: int, name: str, why: str) -> None:
        if found.trouble is None or found.trouble.kind.type != name:
            self._log.warning("the log does not take outcomes", partition=partition, trouble=name, why=why)
        found.trouble = problem(name)


def _size(item: _Item) -> int:
    return len(item[1])
