"""Meters an OpenAI-style stream as it passes, without I/O: what was used, what was written, how it ended.

What comes out is what went in, byte for byte and as soon as a line is whole, with these exceptions:

- What exists because we asked for it is taken back (`keep_usage` false): the last event, usage without choices, is
  left out; where usage stands beside choices that event is written again without it, unless it comes there unasked
  (`keep_beside_choices`). `"usage": null` is left as it is, and so is a chunk of Groq's with usage in `x_groq`, which
  comes unasked.
- What every client ignores is left out (`event_filter`).
- An error of the provider's stops the stream, in whichever form it comes; its bytes are kept in `error`, for the edge
  to end the stream with, and what they say in `failure`. A usage that comes after it counts (`after_error`).
- At the first event that is neither a chunk nor named otherwise, the stream stops (`fault`); nothing of that event is
  passed on. So whatever has been passed on is well-formed, and `close_event` makes an error event of our own readable.
- Nothing is passed on after `[DONE]`, but a usage in it counts. A last line without an end gets one.

Until `begun` nothing was written, used or finished, so what `feed` returned may be held back, and an error in its place
be an ordinary answer. If a stream is `done` without usage, `output_bytes` bounds the tokens that were shown (a token
has at least one byte); reasoning that a provider does not show is not in it. If it was cut, by either side, the
provider may have written, and billed, more than came through here: then only the reservation is a bound.
"""

from typing import Final, Literal

from keyforge.contracts.unreadable import UNREADABLE
from keyforge.contracts.usage import Usage
from keyforge.edge.core.dialects.event_filter import EventFilter, Verdict
from keyforge.edge.core.dialects.openai_chat.after_error import AfterError
from keyforge.edge.core.dialects.openai_chat.chunk import (
    ChatChunk,
    decode_chunk,
    failure_in_place,
    failure_of,
    may_bill,
    may_hide_usage,
    read_chunk,
    without_usage,
)
from keyforge.edge.core.dialects.openai_chat.tally import Tally
from keyforge.edge.core.dialects.provider_error import ProviderError, as_json, error_in
from keyforge.edge.core.dialects.stream_bounds import EVENT_BYTES_MIN

StreamFault = Literal["not_sse", "not_json", "not_a_chunk", "event_too_large"]

_CHUNK_NAMES: Final = frozenset((b"", b"message"))
"""Of events that hold a chunk and nothing else."""
_CR: Final = ord("\r")
_LF: Final = ord("\n")
"""Numbers, since CPython raises and catches a TypeError before it looks for bytes in bytes (3.11: 0.2 us)."""


class StreamMeter:
    """One stream. Feed it every piece, pass on what `feed` returns; its attributes hold the result."""

    __slots__ = (
        "_after",
        "_bytes_max",
        "_events",
        "_fault",
        "_keep_beside",
        "_keep_usage",
        "_tally",
        "done",
        "error",
        "failure",
        "malformed",
        "output_bytes",
        "stray",
    )

    def __init__(
        self,
        *,
        keep_usage: bool,
        keep_beside_choices: bool = False,
        completions: int = 1,
        cache_1h: bool = False,
        event_bytes_max: int = EVENT_BYTES_MIN,
    ) -> None:
        self._keep_usage = keep_usage
        self._keep_beside = keep_usage or keep_beside_choices
        self._bytes_max = event_bytes_max
        self._tally = Tally(completions, cache_1h=cache_1h)
        self._events = EventFilter(event_bytes_max)
        self._after: AfterError | None = None
        self._fault: StreamFault | None = None
        self.done = False
        """`[DONE]` has come."""
        self.error: bytes | None = None
        self.failure: ProviderError | None = None
        """What `error` says, or the text that stood where a stream should be."""
        self.malformed = False
        self.output_bytes = 0
        self.stray = bytearray()
        """What came in place of a stream, while nothing had begun: perhaps a whole answer."""

    @property
    def begun(self) -> bool:
        """See `StreamReader`."""
        return self._tally.begun or self.done

    @property
    def usage(self) -> Usage | None:
        """See `Tally`."""
        return self._tally.usage

    @property
    def reported_cost_nusd(self) -> int | None:
        """See `StreamReader`."""
        return self._tally.reported_cost_nusd

    @property
    def deltas(self) -> int:
        """See `StreamReader`."""
        return self._tally.deltas

    @property
    def finished(self) -> bool:
        """See `StreamReader`."""
        return self._tally.finished

    @property
    def fault(self) -> StreamFault | None:
        """Why it is no stream of the dialect; None: it is one so far."""
        return self._fault or self._events.fault

    def feed(self, piece: bytes) -> bytes:
        """Read a piece and return what may be passed on, which may be nothing."""
        events, tally = self._events, self._tally
        if events.between and (plain := self._plain(piece)):
            for chunk in plain:
                tally.read(chunk)
            events.lines.first = False
            self.output_bytes = tally.output_bytes
            return piece
        if self._after is not None:
            self._after.feed(piece)
            return b""
        shown = events.feed(piece, self)
        if self.error is not None:
            self._after = AfterError(tally, self._bytes_max)
            self._after.feed(events.unread)
        self._note()
        return shown

    def _note(self) -> None:
        """Note what came of reading line by line."""
        self.output_bytes, self.malformed = self._tally.output_bytes, self.fault is not None

    def _plain(self, piece: bytes) -> list[ChatChunk] | None:
        """Return the chunks of a piece that is nothing but whole events of one line each in which the model writes, as
        nearly all are; None for any other, which is read line by line to the same effect."""
        if not piece.endswith(b"}\n\n") or _CR in piece or len(piece) > EVENT_BYTES_MIN:
            return None
        found: list[ChatChunk] = []
        for event in piece[:-2].split(b"\n\n"):
            if not event.startswith(b"data: {") or _LF in event:
                return None
            try:
                chunk = decode_chunk(event[6:])
            except UNREADABLE:
                return None
            if (
                not chunk.choices
                or chunk.error
                or chunk.x_groq is not None
                or (chunk.usage is not None and not self._keep_beside)
            ):
                return None
            for choice in chunk.choices:
                if choice.error or choice.finish_reason == "error":
                    return None
            found.append(chunk)
        return found

    def end(self) -> bytes:
        """The upstream ended in good order: read a last line without an end, and return what may be passed on."""
        out = self._events.end(self)
        if self.stray and not (self.begun or self._events.stopped):
            self._fault, self.failure = "not_sse", failure_in_place(bytes(self.stray), named=False)
        self._note()
        return out

    def close_event(self) -> bytes:
        """Return what must be written before an event of our own: the end of one under way, or nothing."""
        return b"\n" if self._events.open else b""

    def judge(self, name: bytes, data: bytes, *, whole: bool) -> Verdict:
        """See `EventJudge`. A name may say that the data is no chunk, so such an event is read when it is whole."""
        if not whole and name not in _CHUNK_NAMES:
            return "wait"
        if name == b"error" and (failure := failure_in_place(data, named=True)):
            return self._stop(data, failure)
        if data == b"[DONE]":
            self.done = self._tally.final = True
            return "pass"
        chunk = read_chunk(data)
        if chunk is not None and (failure := failure_of(chunk, data)):
            return self._stop(data, failure)
        if isinstance(chunk, ChatChunk):
            return self._metered(chunk, data)
        if not whole:
            return "wait"
        if name not in _CHUNK_NAMES:
            return "pass"
        self._fault = "not_json" if chunk is None else "not_a_chunk"
        self.failure = failure_in_place(data, named=False)
        return "stop"

    def late(self, data: bytes) -> None:
        """See `EventJudge`. Of what comes after the end only a usage counts."""
        chunk = read_chunk(data)
        if isinstance(chunk, ChatChunk):
            self._tally.take_usage(chunk)

    def stray_line(self, line: bytes) -> bool:
        """See `EventJudge`. An error may be a line of its own; where nothing has begun, a whole answer may come."""
        if line.startswith((b"{", b"[")) and (failure := error_in(as_json(line))):
            self._stop(line, failure)
            return True
        if self.begun:
            return False
        self.stray += line + b"\n"
        if len(self.stray) > self._bytes_max:
            self._fault = "event_too_large"
        return self._fault is not None

    def _metered(self, chunk: ChatChunk, data: bytes) -> Verdict:
        self._tally.read(chunk)
        if self._keep_usage or not may_hide_usage(chunk):
            return "pass"
        if not chunk.choices:
            return "drop"
        return "pass" if self._keep_beside else without_usage(data)

    def _stop(self, data: bytes, failure: ProviderError) -> Verdict:
        """The provider's error ends the stream. What it reports to have been used counts; text in it was billed."""
        chunk = read_chunk(data)
        if isinstance(chunk, ChatChunk) and self._tally.take_usage(chunk):
            self._tally.final = True
        if chunk and may_bill(data):
            self._tally.begun = True
        self.error, self.failure = data.replace(b"\n", b" "), failure
        return "stop"
