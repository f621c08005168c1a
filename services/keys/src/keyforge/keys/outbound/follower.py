"""The fold of one ctl subject: every message once, in order, into the facts; our own frame among them is recognised.

An append of unknown outcome is resolved without a fence, by its condition. Our frame expects sequence N, so it can only
be stored directly after N: the *first message after N* that is folded is either this frame or proof that it never will
be stored. Repeating the same bytes under the same condition makes such a message exist. So does the next frame, which
has the same condition: an append that is abandoned with its outcome unknown endangers nothing but its answer.

The fold halts at a message that it cannot read: one that is not a frame, or a frame with an event of an unknown type or
version, as a newer service writes it. To skip it would be to decide on facts that miss what it says, such as a
revocation. Nothing of that message is folded, nor anything after it, until a version that can read it starts. It halts
too where a version of an aggregate is missing: what that one said is not known. A repeated version changes nothing.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Final

import msgspec
from eventsourcing.persistence import IntegrityError

from keyforge.contracts import frame
from keyforge.contracts.frame import FrameError, Recorded, Unread
from keyforge.eventlog.log import EventLog, Message
from keyforge.keys.core.evolve import HistoryError
from keyforge.keys.outbound.event_mapper import change_of
from keyforge.keys.outbound.recorder import Facts
from keyforge.runtime import logs

HALTED_CHARS_MAX: Final = 300
"""A reason may quote what somebody else wrote."""


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
        self.halted: str | None = None
        """Why the fold halted; None while it goes on."""
        self._eventlog = log
        self._stream = stream
        self._subject = subject
        self._on_foreign = on_foreign
        self._moved = asyncio.Event()
        self._inflight: Inflight | None = None
        self._logger = logs.get("follower").bind(subject=subject)

    async def run(self) -> None:
        """Follow the subject until the fold halts. Raises what reading raises."""
        async with aclosing(self._eventlog.read(self._stream, subjects=(self._subject,), ticks=True)) as batches:
            async for messages in batches:
                for message in messages:
                    self.fold(message)
                if self.halted is not None:
                    return

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
        if message.seq <= self.folded or self.halted is not None:
            return
        self._moved.set()
        inflight = self._inflight
        if inflight is not None and inflight.landed is None:
            inflight.landed = message.data == inflight.frame
            if inflight.landed:
                self.folded = message.seq
                self.facts.commit()
                return
        self.facts.rollback()
        recorded = self._read(message)
        if recorded is not None:
            self.folded = message.seq
            self._accept(message.seq, recorded)

    async def advanced(self, timeout_s: float) -> None:
        """Wait until another message is folded; no longer than `timeout_s`."""
        self._moved.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._moved.wait()
        except TimeoutError:
            return

    def _read(self, message: Message) -> list[Recorded] | None:
        """Return the events of a frame; None, and halt, if any of it cannot be read or one before it is missing."""
        try:
            events = frame.decode(message.data, message.subject)
        except FrameError as error:
            self._halt(message.seq, f"not a frame: {error}")
            return None
        recorded: list[Recorded] = []
        for event in events:
            if isinstance(event, Unread) and event.fault == "wrong_subject":
                self._logger.warning("event rejected", seq=message.seq, type=event.type, reason=event.why)
                continue
            if isinstance(event, Unread):
                self._halt(message.seq, f"{event.type}: {event.why}")
                return None
            recorded.append(event)
        if gap := self._gap(recorded):
            self._halt(message.seq, gap)
            return None
        return recorded

    def _gap(self, events: Sequence[Recorded]) -> str | None:
        """Return what is missing before one of these events; None if nothing is."""
        versions: dict[str, int] = {}
        for recorded in events:
            try:
                change = change_of(recorded)
            except HistoryError:  # reported when it is folded
                continue
            if change is None:
                continue
            id_, version = change.originator_id, change.originator_version
            known = self.facts.cache.committed(id_)
            last = versions.get(id_, known.version if known is not None else 0)
            if version > last + 1:
                return f"{id_}: version {version} after {last}"
            versions[id_] = max(last, version)
        return None

    def _halt(self, seq: int, why: str) -> None:
        self.halted = f"{self._subject} at {seq}: {why}"[:HALTED_CHARS_MAX]
        self._logger.error("fold halted, changes are refused", seq=seq, reason=why[:HALTED_CHARS_MAX])

    def _accept(self, seq: int, events: Sequence[Recorded]) -> None:
        """Fold another writer's events. One that changes nothing it could follow is reported and skipped."""
        changed: list[str] = []
        for recorded in events:
            try:
                change = change_of(recorded)
                if change is not None:
                    changed.append(self.facts.accept(change).id)
            except (HistoryError, IntegrityError) as error:
                self._report(seq, recorded, error)
        if changed:
            self._on_foreign(changed)

    def _report(self, seq: int, recorded: Recorded, error: Exception) -> None:
        self._logger.error("event does not follow", seq=seq, id=recorded.id, error=str(error))
