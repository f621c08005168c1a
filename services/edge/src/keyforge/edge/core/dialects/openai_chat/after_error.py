"""Reads what a stream has after the error that ended it: nothing of it is passed on, and of it only a usage counts."""

from keyforge.edge.core.dialects.event_filter import EventFilter, Verdict
from keyforge.edge.core.dialects.openai_chat.chunk import ChatChunk, read_chunk
from keyforge.edge.core.dialects.openai_chat.tally import Tally


class AfterError:
    """See `EventJudge`: all that comes is late."""

    __slots__ = ("_events", "_tally")

    done = True

    def __init__(self, tally: Tally, bytes_max: int) -> None:
        self._tally = tally
        self._events = EventFilter(bytes_max)

    def feed(self, piece: bytes) -> None:
        """Read a piece."""
        self._events.feed(piece, self)

    def judge(self, _name: bytes, _data: bytes, *, whole: bool) -> Verdict:
        """See `EventJudge`. Nothing is passed on."""
        return "drop" if whole else "wait"

    def late(self, data: bytes) -> None:
        """See `EventJudge`."""
        chunk = read_chunk(data)
        if isinstance(chunk, ChatChunk) and self._tally.take_usage(chunk):
            self._tally.final = True

    def stray_line(self, _line: bytes) -> bool:
        """See `EventJudge`."""
        return False
