"""The chain of ticks: each message of a control clock was stored on a condition that names the one before it.

A reader of a whole stream notices a hole by the sequences. A reader of one subject does not: over what was trimmed it
would go on in silence. The stored condition (`Nats-Expected-Last-Subject-Sequence`) is what it checks.
"""

from collections.abc import Iterable, Mapping

from keyforge.eventlog.log import LogShrunk, Message

EXPECT_SEQ = "Nats-Expected-Last-Subject-Sequence"
EXPECT_SUBJECT = "Nats-Expected-Last-Subject-Sequence-Subject"

_NAME = f"\r\n{EXPECT_SEQ.lower()}:".encode()


class TickChain:
    """What was read of one subject whose messages are all conditional on it."""

    __slots__ = ("_exact", "_last", "_stream")

    def __init__(self, stream: str, after: int) -> None:
        """`after` is the position that the reading begins at: a tick, the end of the stream at that time, or 0."""
        self._stream = stream
        self._last = after
        self._exact = after == 0

    def follow(self, seq: int, expected: int | None) -> None:
        """Take the next tick, whose stored condition names `expected`. Raises LogShrunk if that is not the one before
        it, or it has none."""
        if expected is None:
            raise LogShrunk(f"{self._stream}: {seq} is no tick, it was stored without a condition")
        if expected != self._last and (self._exact or expected > self._last):
            raise LogShrunk(f"{self._stream}: {seq} follows {expected}, read up to {self._last}: ticks are missing")
        self._last, self._exact = seq, True

    def follow_all(self, messages: Iterable[Message], expected: Mapping[int, int]) -> None:
        """Take ticks in their order; `expected` is what each one's condition names, by sequence."""
        for message in messages:
            self.follow(message.seq, expected.get(message.seq))


def expected_of(head: bytes) -> int | None:
    """Return the sequence that the header block of a stored message names as the last of its subject, if it does."""
    at = head.lower().find(_NAME)
    if at < 0:
        return None
    value = head[at + len(_NAME) : head.find(b"\r\n", at + len(_NAME))].strip()
    return int(value) if value.isdigit() and len(value) <= 20 else None
