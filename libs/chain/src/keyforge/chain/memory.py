"""What the fold of a log remembers for a while, as one of its chains shows it.

The fold forgets by the broker time of all messages of its log, of which a chain shows its own. So one chain can prove
that the fold still remembered something only where no other message can have come between; and it cannot prove that it
had forgotten it, since broker time may have been further ahead before. What is possible is right. What takes a log
whose time went back, or more cancels than the fold remembers, is right and counted: `Memory.unproven`.
"""

from typing import Final

import msgspec

from keyforge.contracts.timing_wheel import BUCKET_S

COPIES_S: Final = 600
"""How long, in log time, an event's id and a request's end are remembered, so that a second copy is recognised.

Part of the record format (docs/spec/audit-format.md). Chosen: a copy comes from an append that is sent again, within
seconds; ten minutes leave room for a writer that was paused.
"""
TOMBSTONES_MAX: Final = 100_000
"""With more, the oldest are forgotten early, exactly as budget does: what it then admits is open here as well. Part of
the record format. Chosen: budget's (`ledger.TOMBSTONES_MAX`); it bounds the memory that edges can take with cancels
alone."""
NS_PER_S: Final = 1_000_000_000
"""Broker times are in nanoseconds, what is to be forgotten is kept by the second."""

Message = tuple[int, int]
"""Generation and sequence of a message of the log."""


class Remembered(msgspec.Struct, eq=False, gc=False):
    """Something that the fold forgets: when it is due (None: not known), and which message may be the first after
    that."""

    due_s: int | None
    gone_from: Message


class Memory:
    """The clock of one chain. `unproven` counts what is right only if the log's time went back, or was full of
    cancels."""

    __slots__ = ("_bucket", "_message", "_message_bucket", "now_s", "unproven")

    def __init__(self) -> None:
        self.now_s = 0
        self.unproven = 0
        self._message: Message = (0, 0)
        self._message_bucket = -1
        self._bucket = -1

    def begin(self, message: Message, time_ns: int) -> None:
        """Go on to a record of `message`; the times of the messages before are the clock."""
        if message != self._message:
            self._bucket = max(self._bucket, self._message_bucket)
            self._message = message
            self.now_s = time_ns // NS_PER_S
            self._message_bucket = self.now_s // BUCKET_S

    def until(self, due_s: int | None, *, at_once: bool = False) -> Remembered:
        """Return what is remembered from the present message on. The fold may forget it after this very message if
        it is due by then, or is `at_once`; else after the next one."""
        generation, sequence = self._message
        soon = at_once or due_s is None or due_s // BUCKET_S < self._message_bucket
        return Remembered(due_s, (generation, sequence + (1 if soon else 2)))

    def past(self, due_s: int | None) -> bool:
        """Return whether the chain's earlier messages show that this is forgotten, if their log's time never went
        back."""
        return due_s is not None and due_s // BUCKET_S < self._bucket

    def gone(self, entry: Remembered, due_s: int) -> bool:
        """Return whether nothing is proven by it any more: `due_s`, the last time at which it is due, is past, and so
        is the message up to which the fold remembers it, whatever its time."""
        return self._message >= entry.gone_from and self.past(due_s)

    def is_early(self, entry: Remembered) -> bool:
        """Return whether it is not due by any time that the chain shows so far."""
        return entry.due_s is not None and entry.due_s // BUCKET_S >= max(self._bucket, self._message_bucket)

    def may_be_gone(self, entry: Remembered) -> bool:
        """Return whether the fold may have forgotten it before this message; count it if time alone does not explain
        it."""
        if self._message < entry.gone_from:
            return False
        self.unproven += self.is_early(entry)
        return True

    def kept(self, due_s: int | None) -> None:
        """Count that the fold must still have remembered it, if the chain shows that it was due."""
        self.unproven += self.past(due_s)
