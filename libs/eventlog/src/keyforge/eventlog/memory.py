"""The event log in memory: the twin of `JetStreamLog`, which passes the same contract suite, with faults on demand.

It behaves as three nodes do where one node and three differ: while an append is in flight, another one that is
conditional on the subject that it advances, or on the same subject, is Busy. Its times come from a clock that is
passed in. An append takes at least one turn of the event loop, so appends that overlap in a test overlap here.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import UTC, datetime
from enum import Enum, auto
from functools import partial

from keyforge.contracts import subjects as names
from keyforge.contracts.frame import FRAME_BYTES_MAX
from keyforge.eventlog.log import (
    Appended,
    AppendRefused,
    AppendUnknown,
    Busy,
    Expect,
    FrameTooLarge,
    Full,
    LogMissing,
    LogShrunk,
    Message,
    Outcome,
    Stale,
    StreamState,
    Unavailable,
)
from keyforge.eventlog.memory_stream import MemoryStream, matches
from keyforge.eventlog.ticks import TickChain

READ_MESSAGES_MAX = 1000
"""In one batch, as the reader of JetStream pulls."""


class Fault(Enum):
    """What may happen to an append."""

    ACK_LOST = auto()
    """Stored, and the acknowledgement is lost: AppendUnknown."""
    LOST = auto()
    """Never stored, and no answer: AppendUnknown."""
    LATE = auto()
    """AppendUnknown; `deliver_late` brings it to the stream, where its condition is checked only then."""
    LAGGING = auto()
    """Stored, and a deposed leader that lags answered first: AppendUnknown."""
    BUSY_YET_STORED = auto()
    """Stored, and a deposed leader answered first: Busy."""
    FULL = auto()
    UNAVAILABLE = auto()


class MemoryLog:
    """`EventLog` in a list. One event loop; what it stored lives as long as the object."""

    def __init__(self, *, clock: Callable[[], datetime] | None = None, frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self.delay_s = 0.0
        """How long every append takes."""
        self._clock = clock or (lambda: datetime.now(UTC))
        self._frame_bytes_max = frame_bytes_max
        self._streams: dict[str, MemoryStream] = {}
        self._made = 0
        self._changed = asyncio.Event()
        self._open = asyncio.Event()
        self._open.set()
        self._faults: deque[tuple[Fault, str]] = deque()
        self._late: list[Callable[[datetime], Appended | Stale | Full]] = []

    @classmethod
    def of_partitions(cls, partitions: int, *, clock: Callable[[], datetime] | None = None) -> "MemoryLog":
        """Return a log with the streams of `partitions` partitions, the platform's and audit's."""
        log = cls(clock=clock)
        for partition in range(partitions):
            log.declare(names.log_stream(partition), [names.log_all(partition)])
        log.declare(names.PLATFORM_STREAM, [names.PLATFORM_ALL])
        log.declare(names.AUDIT_STREAM, [names.AUDIT_ALL])
        log.declare(
            names.bucket_stream(names.AUDIT_POSITION_BUCKET), [names.bucket_subject(names.AUDIT_POSITION_BUCKET, ">")]
        )
        return log

    def declare(self, stream: str, patterns: Sequence[str], *, bytes_max: int | None = None) -> None:
        """Create a stream; one of that name is dropped first: another stream of the same name."""
        self._made += 1
        self._streams[stream] = MemoryStream(stream, patterns, bytes_max, f"memory-{self._made}")
        self._wake()

    # For tests

    def fail_next(self, fault: Fault, *, subject: str = ">") -> None:
        """Let the next append whose subject matches meet this fault; several calls queue up."""
        self._faults.append((fault, subject))

    def deliver_late(self) -> list[Outcome]:
        """Bring the LATE frames to the streams, in order; return the outcome of each."""
        late, self._late = self._late, []
        outcomes: list[Outcome] = [store(self._clock()) for store in late]
        self._wake()
        return outcomes

    def pause(self) -> None:
        """Let appends wait, in flight, until `resume`."""
        self._open.clear()

    def resume(self) -> None:
        """Let them go on."""
        self._open.set()

    def shrink(self, stream: str, last: int) -> None:
        """Lose everything after `last`, as a server does that acknowledged before it synced."""
        found = self._stream(stream)
        del found.messages[last:]
        found.last_of = {message.subject: message.seq for message in found.messages}
        self._wake()

    def trim(self, stream: str, last: int) -> None:
        """Purge everything up to `last`, as an operator may. Sequences and conditions go on as they were."""
        found = self._stream(stream)
        found.trimmed = last
        found.last_of = {subject: seq for subject, seq in found.last_of.items() if seq > last}

    # EventLog

    async def append(
        self, subject: str, frame: bytes, *, expect: Expect | None = None, msg_id: str | None = None
    ) -> Outcome:
        """See `EventLog.append`."""
        if len(frame) > self._frame_bytes_max:
            raise FrameTooLarge(f"{len(frame)} bytes for {subject}, at most {self._frame_bytes_max}")
        if expect is not None and msg_id is not None:
            raise ValueError("a frame has an expectation or a message id, not both")
        if not subject or any(token in {"", "*", ">"} or " " in token for token in subject.split(".")):
            raise AppendRefused(f"not a subject: {subject!r}")
        stream = next((stream for stream in self._streams.values() if stream.takes(subject)), None)
        if stream is None:
            return Unavailable(f"no stream takes {subject}")
        fault = self._fault(subject)
        if fault in {Fault.FULL, Fault.UNAVAILABLE}:
            return Full("injected") if fault is Fault.FULL else Unavailable("injected")
        if fault in {Fault.LATE, Fault.LOST}:
            if fault is Fault.LATE:
                self._late.append(partial(stream.store, subject, frame, expect, msg_id))
            await asyncio.sleep(self.delay_s)
            raise AppendUnknown(f"{subject}: {fault}")
        if expect and (expect.subject in stream.conditions or stream.writing[expect.subject]):
            return Busy()
        if stale := stream.stale(expect):
            return stale
        with stream.in_flight(subject, expect):
            await asyncio.sleep(self.delay_s)
            await self._open.wait()
            outcome = stream.store(subject, frame, expect, msg_id, self._clock())
        self._wake()
        if fault in {Fault.ACK_LOST, Fault.LAGGING}:
            raise AppendUnknown(f"{subject}: {fault}")
        return Busy() if fault is Fault.BUSY_YET_STORED else outcome

    async def read(
        self,
        stream: str,
        *,
        after: int = 0,
        subjects: Sequence[str] = (),
        created: str | None = None,
        forgets: bool = False,
        ticks: bool = False,
    ) -> AsyncGenerator[list[Message], None]:
        """See `EventLog.read`."""
        chain = TickChain(stream, after) if ticks else None
        looked = 0
        while True:
            changed = self._changed
            found = self._streams.get(stream)
            if found is not None:
                created = created or found.created
                if created != found.created:
                    raise LogShrunk(f"{stream} was created {created}, now {found.created}: another stream")
                if len(found.messages) < after:
                    raise LogShrunk(f"{stream}: read up to {after}, it ends at {len(found.messages)}")
                if found.trimmed > after and not forgets and (not ticks or after == 0):
                    raise LogShrunk(f"{stream}: read up to {after}, it now begins at {found.trimmed + 1}")
                looked = max(looked, after, found.trimmed)
                new = found.messages[looked : looked + READ_MESSAGES_MAX]
                looked += len(new)
                batch = [m for m in new if not subjects or any(matches(each, m.subject) for each in subjects)]
                if batch:
                    if chain is not None:
                        chain.follow_all(batch, found.expected)
                    after = batch[-1].seq
                    yield batch
                if new:
                    continue
            await changed.wait()

    async def end(self, stream: str) -> int:
        """See `EventLog.end`."""
        return len(self._stream(stream).messages)

    async def last(self, stream: str, subject: str) -> Message | None:
        """See `EventLog.last`."""
        found = self._stream(stream)
        kept = found.messages[found.trimmed :]
        return next((m for m in reversed(kept) if matches(subject, m.subject)), None)

    async def state(self, stream: str) -> StreamState:
        """See `EventLog.state`."""
        found = self._stream(stream)
        last = len(found.messages)
        first_at = found.messages[found.trimmed].time if last > found.trimmed else None
        first = found.trimmed + 1 if last else 0
        return StreamState(found.created, first, last, found.bytes, found.bytes_max, first_at)

    def _stream(self, stream: str) -> MemoryStream:
        if stream not in self._streams:
            raise LogMissing(f"{stream}: not declared")
        return self._streams[stream]

    def _fault(self, subject: str) -> Fault | None:
        for i, (fault, pattern) in enumerate(self._faults):
            if matches(pattern, subject):
                del self._faults[i]
                return fault
        return None

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
