"""One stream of `MemoryLog`: messages in a list, the conditions of appends, and NATS' patterns of subjects."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from keyforge.eventlog.log import Appended, AppendUnknown, Expect, Full, Message, Stale

MESSAGE_OVERHEAD_BYTES = 30
"""What the server counts for a message beside its subject and payload."""


class MemoryStream:
    """Its messages, and what the conditions of appends are checked against."""

    def __init__(self, name: str, patterns: Sequence[str], bytes_max: int | None, created: str) -> None:
        self.name = name
        self.patterns = tuple(patterns)
        self.bytes_max = bytes_max
        self.created = created
        self.messages: list[Message] = []
        self.expected: dict[int, int] = {}
        """By sequence: what a message's condition on its own subject named."""
        self.trimmed = 0
        self.last_of: dict[str, int] = {}
        self.ids: dict[str, int] = {}
        self.bytes = 0
        self.conditions: set[str] = set()
        self.writing: Counter[str] = Counter()

    def takes(self, subject: str) -> bool:
        """Return whether one of its patterns matches."""
        return any(matches(pattern, subject) for pattern in self.patterns)

    def stale(self, expect: Expect | None) -> Stale | None:
        """Return Stale if the condition does not hold. Raises AppendUnknown for a sequence that is still to come."""
        last = self.last_of.get(expect.subject, 0) if expect else 0
        if expect is None or last == expect.seq:
            return None
        if last < expect.seq:
            raise AppendUnknown(f"wrong last sequence: {last}")
        return Stale(last)

    @contextmanager
    def in_flight(self, subject: str, expect: Expect | None) -> Iterator[None]:
        """Mark an append as being stored: others on the same condition or subject are Busy meanwhile."""
        if expect:
            self.conditions.add(expect.subject)
        self.writing[subject] += 1
        try:
            yield
        finally:
            if expect:
                self.conditions.discard(expect.subject)
            self.writing[subject] -= 1

    def store(
        self, subject: str, frame: bytes, expect: Expect | None, msg_id: str | None, at: datetime
    ) -> Appended | Stale | Full:
        """Store a frame if its condition holds and there is room."""
        if msg_id is not None and msg_id in self.ids:
            return Appended(self.ids[msg_id], duplicate=True)
        if stale := self.stale(expect):
            return stale
        size = len(subject) + len(frame) + MESSAGE_OVERHEAD_BYTES
        if self.bytes_max is not None and self.bytes + size > self.bytes_max:
            return Full("maximum bytes exceeded")
        seq = len(self.messages) + 1
        self.messages.append(Message(seq, subject, at, frame))
        if expect is not None and expect.subject == subject:
            self.expected[seq] = expect.seq
        self.last_of[subject] = seq
        self.bytes += size
        if msg_id is not None:
            self.ids[msg_id] = seq
        return Appended(seq)


def matches(pattern: str, subject: str) -> bool:
    """Return whether a subject matches a NATS pattern: `*` is one token, a final `>` one or more."""
    wanted, given = pattern.split("."), subject.split(".")
    for i, each in enumerate(wanted):
        if each == ">":
            return len(given) > i
        if i >= len(given) or each not in {"*", given[i]}:
            return False
    return len(wanted) == len(given)
