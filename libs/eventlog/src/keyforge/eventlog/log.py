"""The log: frames appended under a condition, and read without end, in order, each once.

A frame is opaque bytes here. Outcomes are values; an exception means that the outcome is unknown, that the log is not
the one that it was, or that the caller is wrong:

    EventLogError
    ├── AppendUnknown      stored or not: resolve it with a fence, or send the same bytes again
    ├── AppendRefused      not stored, and the same frame never will be: misuse
    │   └── FrameTooLarge
    ├── LogShrunk          the log ends before a position already handed over, or is another log: halt
    ├── LogMissing         the stream does not exist, or no server answers for it now
    └── LogClosed          the connection is closed for good
"""

from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from typing import Protocol

import msgspec


class EventLogError(Exception):
    """The root of everything this library raises."""


class AppendUnknown(EventLogError):
    """The frame may be stored, may be stored later, or never: a timeout, a lost connection, an unexpected answer.

    Neither a read nor a retry resolves this. A conditional frame is resolved by appending a fence and folding up to
    it (`append_fence`); an unconditional one may be sent again if its fold ignores the second copy.
    """


class AppendRefused(EventLogError):
    """Not stored, and sending it again will not help: misuse, a sealed stream, another stream's subject."""


class FrameTooLarge(AppendRefused):
    """The frame is over the bound and was not sent."""


class LogShrunk(EventLogError):
    """The log lost messages or is another log of the same name. Never read on: it does not contain what was folded."""


class LogMissing(EventLogError):
    """No stream of this name answers: not declared, or no leader now. A later attempt may succeed."""


class LogClosed(EventLogError):
    """The connection is closed and will not reconnect; the process should end."""


class Message(msgspec.Struct, frozen=True, gc=False):
    """One stored frame. `time` is the broker's, aware UTC, cut to microseconds."""

    seq: int
    subject: str
    time: datetime
    data: bytes


class Expect(msgspec.Struct, frozen=True, gc=False):
    """Store only if the last sequence of `subject`, in the stream that stores the frame, is `seq` (0: none yet)."""

    subject: str
    seq: int


class Appended(msgspec.Struct, frozen=True, gc=False):
    """Durably stored at `seq`. `duplicate`: an earlier frame with the same `msg_id` was, and this one was dropped."""

    seq: int
    duplicate: bool = False


class Stale(msgspec.Struct, frozen=True, gc=False):
    """This send was not stored and never will be: `last`, newer than the expected sequence, is committed (10071).

    It proves nothing about an *earlier* send of the same frame. But such a frame is stored before `last` or never:
    fold up to `last` to find out.
    """

    last: int


class Busy(msgspec.Struct, frozen=True, gc=False):
    """The server that answered did not store it: an append on the expected subject is in flight there (10164).

    Replicated streams only. The other append need not be ours: any that advances the expected subject counts. It is
    *no proof*: a leader that does not know yet that it was deposed answers this while the new one stores the frame.
    Send the same bytes with the same expectation again, until Appended or Stale (`append_known`).
    """


class Full(msgspec.Struct, frozen=True, gc=False):
    """The server that answered did not store it: the stream, the account or the server is full.

    `reason` is the server's. On a replicated stream it is no proof either, see Busy.
    """

    reason: str


class Unavailable(msgspec.Struct, frozen=True, gc=False):
    """Not sent, or no stream took it: certainly not stored, and it may be sent again later."""

    reason: str


Outcome = Appended | Stale | Busy | Full | Unavailable


class StreamState(msgspec.Struct, frozen=True, gc=False):
    """The state of a stream. `created` is an opaque text that differs for another stream of the same name.

    `first_at` is the broker's time of the oldest message, None if there is none.
    """

    created: str
    first: int
    last: int
    bytes: int
    bytes_max: int | None
    first_at: datetime | None = None

    @property
    def fill(self) -> float:
        """How full it is, from 0 to 1; 0 for a stream without a bound. Alarms are at 0.6 and 0.8."""
        return self.bytes / self.bytes_max if self.bytes_max else 0.0


class EventLog(Protocol):
    """Append and read. `JetStreamLog` is the real one, `MemoryLog` its twin; one contract suite holds both."""

    async def append(
        self, subject: str, frame: bytes, *, expect: Expect | None = None, msg_id: str | None = None
    ) -> Outcome:
        """Append one frame and wait until it is durable.

        `msg_id` lets the server drop a second copy within the stream's duplicate window. `Appended(duplicate=True)`
        then proves that a frame with this id is stored at `seq`. Its absence proves nothing: the window passes. It must
        not be combined with `expect`: one node and three nodes answer a retry of both differently (10071, duplicate).

        Raises AppendUnknown, AppendRefused, FrameTooLarge; ValueError for `msg_id` together with `expect`.
        """
        ...

    def read(
        self,
        stream: str,
        *,
        after: int = 0,
        subjects: Sequence[str] = (),
        created: str | None = None,
        forgets: bool = False,
        ticks: bool = False,
    ) -> AsyncGenerator[list[Message], None]:
        """Yield batches of the messages after `after`, without end, in order, each once; none is empty.

        `subjects` (wildcards allowed) narrows it. `ticks`: the one subject is a control clock, whose messages are each
        conditional on the one before; a missing one raises LogShrunk. `created` is the stream's as stored with the
        position `after`; a stream created at another time raises LogShrunk. `forgets`: the stream may drop messages (a
        bucket keeps the last of each subject, KF_AUDIT the newest), so a gap is no loss. The next pull waits until a
        batch is processed, so memory is bounded. Close it (`contextlib.aclosing`) when leaving early. Raises LogShrunk,
        LogClosed.
        """
        ...

    async def end(self, stream: str) -> int:
        """Return the last sequence, 0 if empty: a hint, never a proof. Raises LogMissing."""
        ...

    async def last(self, stream: str, subject: str) -> Message | None:
        """Return the last message on `subject`: a hint, never a proof. Raises LogMissing."""
        ...

    async def state(self, stream: str) -> StreamState:
        """Return size, ends and identity, as the answering server sees them. Raises LogMissing."""
        ...
