"""The fold of one ctl subject: every message once, in order, into the facts; our own frame among them is recognised.

An append of unknown outcome is resolved without a fence, by its condition. Our frame expects sequence N, so it can only
be stored directly after N: the *first message after N* that is folded is either this frame or proof that it never will
be stored. Repeating the same bytes under the same condition makes such a message exist. So does the next frame, which
has the same condition: an append that is abandoned with its outcome unknown endangers nothing but its answer.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager

import msgspec
from eventsourcing.persistence import IntegrityError

from keyforge.contracts import frame
from keyforge.contracts.frame import FrameError, Recorded
from keyforge.eventlog.log import EventLog, Message
from keyforge.keys.core.evolve import HistoryError
from keyforge.keys.outbound.event_mapper import change_of
from keyforge.keys.outbound.recorder import Facts
from keyforge.runtime import logs


class Inflight(msgspec.Struct):
    """A frame that is being appended. `landed` is None until the first message after `after` is folded."""

    after: int
    frame: bytes
    landed: bool | None = None


class Follower:
    """Facts that follow one subject. `on_foreign` is called with the ids of aggregates that other writers changed."""

    def __init__(
        self, log: EventLog, stream: str, subject: str, *, on_foreign: Callable[[Sequence[str]], None]
    ) -> None:
        self.facts = Facts(subject)
        self.folded = 0
        """The last sequence of the subject that the facts contain."""
        self._eventlog = log
        self._stream = stream
        self._subject = subject
        self._on_foreign = on_foreign
        self._moved = asyncio.Event()
        self._inflight: Inflight | None = None
        self._logger = logs.get("follower").bind(subject=subject)

    async def run(self) -> None:
        """Follow the subject. Never returns; raises what reading raises."""
        async with aclosing(self._eventlog.read(self._stream, subjects=(self._subject,))) as batches:
            async for messages in batches:
                for message in messages:
                    self.fold(message)

    @contextmanager
    def expecting(self, data: bytes) -> Iterator[Inflight]:
        """Watch for a frame that is about to be appended after what is folded now."""
        self._inflight = Inflight(self.folded, data)
        try:
            yield self._inflight
        finally:
            self._inflight = None

    def fold(self, message: Message) -> None:
        """Fold one message of the subject, our own or another writer's, unless it is folded already."""
        if message.seq <= self.folded:
            return
        self.folded = message.seq
        self._moved.set()
        inflight = self._inflight
        if inflight is not None and inflight.landed is None:
            inflight.landed = message.data == inflight.frame
            if inflight.landed:
                self.facts.commit()
                return
        self.facts.rollback()
        self._accept(message)

    async def advanced(self, timeout_s: float) -> None:
        """Wait until another message is folded; no longer than `timeout_s`."""
        self._moved.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._moved.wait()
        except TimeoutError:
            return

    def _accept(self, message: Message) -> None:
        """Fold another writer's frame. What cannot be folded is reported and skipped: no message may stop the fold."""
        try:
            events = frame.decode(message.data, message.subject)
        except FrameError as error:
            self._report("not a frame", message, error)
            return
        changed: list[str] = []
        for recorded in events:
            try:
                change = change_of(recorded) if isinstance(recorded, Recorded) else None
                if change is not None:
                    changed.append(self.facts.accept(change).id)
            except (HistoryError, IntegrityError) as error:
                self._report("event does not follow", message, error, id=recorded.id)
        if changed:
            self._on_foreign(changed)

    def _report(self, what: str, message: Message, error: Exception, **fields: str) -> None:
        self._logger.error(what, seq=message.seq, error=str(error), **fields)
