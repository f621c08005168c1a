"""Hears every partition's control subject: keys changed and revoked, tenants suspended; and knows when it is deaf.

An edge that cannot show that it has heard all there is for `deaf_s` counts as cut off from the log.
"""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Final

import msgspec

from keyforge.contracts import frame, subjects
from keyforge.contracts.events import Event
from keyforge.contracts.frame import FrameError, Recorded
from keyforge.eventlog.log import EventLog, EventLogError, LogClosed, LogShrunk, Message
from keyforge.runtime import logs

LOOK_S: Final = 0.5
"""How often the end of each control subject is asked for."""
DEAF_S: Final = 3.0
RECOVERED_S: Final = 1.5
"""Nearer than this to its end, a partition is heard again: not at the edge of being deaf once more."""
WATCH_S: Final = 0.2
PAUSE_S: Final = 0.3


class _Partition(msgspec.Struct):
    heard: int
    current_at: float
    """The last moment (monotonic) up to which it is certain that all was heard."""
    deaf: bool = False
    mark: int = 0
    mark_at: float = 0.0
    """The end of the control subject as it was asked for at `mark_at`."""

    def advance(self, sequence: int) -> None:
        """Everything up to `sequence` was heard."""
        self.heard = max(self.heard, sequence)
        if self.heard >= self.mark:
            self.current_at = max(self.current_at, self.mark_at)


class Hearing:
    """One reader for each partition, from its end at the start on."""

    def __init__(
        self,
        log: EventLog,
        partitions: int,
        monotonic: Callable[[], float],
        on_event: Callable[[int, Event], None],
        on_deaf: Callable[[int], None],
    ) -> None:
        self._eventlog = log
        self._monotonic = monotonic
        self._on_event = on_event
        self._on_deaf = on_deaf
        self._count = partitions
        self._partitions: dict[int, _Partition] = {}
        self._log = logs.get("hearing")

    def deaf(self, partition: int) -> bool:
        """Say whether a partition was not heard to its end for too long, or never yet."""
        found = self._partitions.get(partition)
        return found is None or found.deaf

    def well(self) -> bool:
        """Say whether every partition is heard."""
        return not any(self.deaf(partition) for partition in range(self._count))

    async def run(self) -> None:
        """Hear for ever. Raises LogClosed, LogShrunk."""
        async with asyncio.TaskGroup() as tasks:
            for partition in range(self._count):
                tasks.create_task(self._hear(partition))
                tasks.create_task(self._look(partition))
            tasks.create_task(self._watch())

    async def _hear(self, partition: int) -> None:
        stream = subjects.log_stream(partition)
        state = self._partitions[partition] = _Partition(await self._end(stream), self._monotonic())
        while True:
            try:
                batches = self._eventlog.read(stream, after=state.heard, subjects=[subjects.ctl(partition)], ticks=True)
                async with aclosing(batches):
                    async for messages in batches:
                        for message in messages:
                            self._take(partition, message)
                            state.advance(message.seq)
            except (LogClosed, LogShrunk):
                raise
            except EventLogError as fault:
                self._log.warning("the log cannot be read", partition=partition, error=str(fault))
            await asyncio.sleep(PAUSE_S)

    async def _end(self, stream: str) -> int:
        while True:
            try:
                return await self._eventlog.end(stream)
            except LogClosed:
                raise
            except EventLogError as fault:
                self._log.warning("the log does not answer", stream=stream, error=str(fault))
            await asyncio.sleep(PAUSE_S)

    def _take(self, partition: int, message: Message) -> None:
        try:
            events = frame.decode(message.data, message.subject)
        except FrameError as fault:
            self._log.error("no frame", partition=partition, sequence=message.seq, error=str(fault))
            return
        for recorded in events:
            if isinstance(recorded, Recorded):
                self._on_event(partition, recorded.event)

    async def _look(self, partition: int) -> None:
        """Ask for the last control message again and again: once heard up to it, nothing was missed until then."""
        while True:
            asked_at = self._monotonic()
            state = self._partitions.get(partition)
            if state is not None and state.heard >= state.mark:
                try:
                    last = await self._eventlog.last(subjects.log_stream(partition), subjects.ctl(partition))
                except LogClosed:
                    raise
                except EventLogError:
                    pass
                else:
                    state.mark, state.mark_at = (last.seq if last else 0), asked_at
                    state.advance(state.heard)
            await asyncio.sleep(LOOK_S)

    async def _watch(self) -> None:
        while True:
            now = self._monotonic()
            for partition, state in self._partitions.items():
                was, late_s = state.deaf, now - state.current_at
                state.deaf = late_s > (RECOVERED_S if was else DEAF_S)
                if state.deaf != was:
                    self._log.warning("cut off from the log" if state.deaf else "hearing again", partition=partition)
                if state.deaf:
                    self._on_deaf(partition)
            await asyncio.sleep(WATCH_S)
