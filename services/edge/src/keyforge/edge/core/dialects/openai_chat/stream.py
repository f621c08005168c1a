"""Meters an OpenAI-style stream as it passes, without I/O: what was used, what was written, how it ended.

Streams are read by the standard (WHATWG HTML, 9.2.6). What comes out is what went in, byte for byte and as soon as a
line is whole, with these exceptions:

- What exists because we asked for it is taken back (`keep_usage` false): the last event, usage without choices, is
  left out; where usage stands beside choices (OpenRouter) that event is written again without it. `"usage": null` is
  left as it is, and so is a chunk of Groq's with usage in `x_groq`, which comes unasked.
- A byte order mark in front, and fields that the standard does not know, are left out; every client ignores them.
- An error of the provider's stops the stream, in whichever form it comes; its bytes are kept in `error`, for the edge
  to end the stream with, and what they say in `failure`.
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
from keyforge.edge.core.dialects.openai_chat.chunk import (
    ChatChunk,
    decode_chunk,
    failure_of,
    failure_told,
    may_hide_usage,
    read_chunk,
    without_usage,
)
from keyforge.edge.core.dialects.openai_chat.tally import Tally
from keyforge.edge.core.dialects.provider_error import ProviderError, as_json, error_in
from keyforge.edge.core.dialects.sse import BOM, Lines, field
from keyforge.edge.core.dialects.stream_bounds import EVENT_BYTES_MIN

StreamFault = Literal["not_sse", "not_json", "not_a_chunk", "event_too_large"]

_FIELDS: Final = frozenset((b"event", b"id", b"retry"))
_CHUNK_NAMES: Final = frozenset((b"", b"message"))
"""Of events that hold a chunk and nothing else."""


class StreamMeter:
    """One stream. Feed it every piece, pass on what `feed` returns; its attributes hold the result."""

    __slots__ = (
        "_between", "_data", "_decided", "_event_bytes_max", "_held", "_held_bytes", "_keep_usage", "_last", "_lines",
        "_name", "_open", "_skip", "_tally", "done", "error", "failure", "fault", "stray",
    )  # fmt: skip

    def __init__(self, *, keep_usage: bool, completions: int = 1, event_bytes_max: int = EVENT_BYTES_MIN) -> None:
        self._event_bytes_max = event_bytes_max
        self._keep_usage = keep_usage
        self._tally = Tally(completions)
        self.done = False
        """`[DONE]` has come."""
        self.fault: StreamFault | None = None
        self.error: bytes | None = None
        self.failure: ProviderError | None = None
        """What `error` says, or the text that stood where a stream should be."""
        self.stray = bytearray()
        """What came in place of a stream, while nothing had begun: perhaps a whole answer."""
        self._lines = Lines()
        self._between = True  # no line, event or end is under way
        self._last: Literal["held", "out", ""] = ""  # where a line went that ended with a CR, whose LF may come yet
        # Of the event under way:
        self._name = b""
        self._held: list[bytes] = []  # lines that wait for a decision
        self._held_bytes = 0
        self._data: list[bytes] = []  # data that is not decided yet, one entry per line
        self._decided = self._skip = self._open = False

    @property
    def begun(self) -> bool:
        """See `StreamReader`."""
        return self._tally.begun

    @property
    def usage(self) -> Usage | None:
        """See `Tally`."""
        return self._tally.usage

    @property
    def reported_cost_nusd(self) -> int | None:
        """See `StreamReader`."""
        return self._tally.reported_cost_nusd

    @property
    def output_bytes(self) -> int:
        """See `StreamReader`."""
        return self._tally.output_bytes

    @property
    def deltas(self) -> int:
        """See `StreamReader`."""
        return self._tally.deltas

    @property
    def finished(self) -> bool:
        """See `StreamReader`."""
        return self._tally.finished

    @property
    def malformed(self) -> bool:
        """Whether there was a fault."""
        return self.fault is not None

    def stopped(self) -> bool:
        """Nothing more is passed on: there was a fault or the provider's error."""
        return self.fault is not None or self.error is not None

    def feed(self, piece: bytes) -> bytes:
        """Read a piece and return what may be passed on, which may be nothing."""
        if self._between and (plain := self._plain(piece)):
            for chunk in plain:
                self._tally.read(chunk)
            self._lines.first = False
            return piece
        if self.stopped():
            return b""
        began_whole = self._between and not piece.startswith(BOM)
        out: list[bytes] = []
        if self._lines.after_cr and piece.startswith(b"\n"):
            piece = self._feed_lf(piece, out)
        lines = self._lines.feed(piece)
        for line in lines:
            self._line(line, out)
            if self.stopped():
                break
        else:
            if self._lines.held_bytes > self._event_bytes_max:
                self.fault = "event_too_large"
            if lines and self._lines.after_cr:
                self._last = self._place(lines[-1], out)
        self._between = not (
            self._lines.held_bytes or self._lines.after_cr or self._name or self._held or self._data or self._decided
            or self.done or self.stopped()
        )  # fmt: skip
        return piece if began_whole and out == lines and not self._lines.held_bytes else b"".join(out)

    def _plain(self, piece: bytes) -> list[ChatChunk] | None:
        """Return the chunks of a piece that is nothing but whole events of one line each in which the model writes, as
        nearly all are; None for any other, which is read line by line to the same effect."""
        if not piece.endswith(b"}\n\n") or b"\r" in piece or len(piece) > EVENT_BYTES_MIN:
            return None
        found: list[ChatChunk] = []
        for event in piece[:-2].split(b"\n\n"):
            if not event.startswith(b"data: {") or b"\n" in event:
                return None
            try:
                chunk = decode_chunk(event[6:])
            except UNREADABLE:
                return None
            if not chunk.choices or chunk.error or chunk.x_groq or (chunk.usage is not None and not self._keep_usage):
                return None
            for choice in chunk.choices:
                if choice.finish_reason or choice.error:
                    return None
            found.append(chunk)
        return found

    def end(self) -> bytes:
        """The upstream ended in good order: read a last line without an end, and return what may be passed on."""
        rest = self._lines.end()
        if self.stopped():
            return b""
        out: list[bytes] = []
        if rest:
            self._line(rest + b"\n", out)
        if self._data and not self.stopped():
            self._conclude(out)
        if self.stray and not (self.begun or self.done or self.stopped()):
            self.fault, self.failure = "not_sse", failure_told(bytes(self.stray), named=False)
        return b"".join(out)

    def close_event(self) -> bytes:
        """Return what must be written before an event of our own: the end of one under way, or nothing."""
        return b"\n" if self._open else b""

    def _place(self, line: bytes, out: list[bytes]) -> Literal["held", "out", ""]:
        """Return where the last line went."""
        if out and out[-1] is line:
            return "out"
        return "held" if self._held and self._held[-1] is line else ""

    def _feed_lf(self, piece: bytes, out: list[bytes]) -> bytes:
        """Take the LF that belongs to the line before, and return the rest."""
        if self._last == "out":
            out.append(b"\n")
        elif self._last == "held":
            self._held[-1] += b"\n"
        self._lines.after_cr = False
        return piece[1:]

    def _line(self, line: bytes, out: list[bytes]) -> None:
        text = line.rstrip(b"\r\n")
        name, value = field(text)
        if len(text) > self._event_bytes_max:
            self.fault = "event_too_large"
        elif self.done and not self._open:
            self._late(text, name, value)
        elif not text:
            self._blank(line, out)
        elif name == b"data":
            self._data_line(value.strip(), line, out)
        elif name in _FIELDS:
            if name == b"event":
                self._name = value
            self._hold(line)
        elif name:
            self._stray_line(text)
        elif self._held:
            self._hold(line)
        else:
            out.append(line)  # a comment

    def _data_line(self, data: bytes, line: bytes, out: list[bytes]) -> None:
        if self._decided:
            self.fault = "not_json"  # two whole documents in one event
            return
        self._hold(line)
        if self.fault is not None:
            return
        waits = not data or self._data or self._name not in _CHUNK_NAMES
        if waits or not self._decide(data, out):
            self._data.append(data)

    def _blank(self, line: bytes, out: list[bytes]) -> None:
        """An event ends."""
        if self._data:
            self._conclude(out)
            if self.stopped():
                return
        if not self._skip:
            out += [*self._held, line]  # fields without data, or after it
        self._name, self._held, self._data, self._held_bytes = b"", [], [], 0
        self._decided = self._skip = self._open = False

    def _hold(self, line: bytes) -> None:
        self._held.append(line)
        self._held_bytes += len(line.rstrip(b"\r\n")) + 1
        if self._held_bytes > self._event_bytes_max:
            self.fault = "event_too_large"

    def _late(self, text: bytes, name: bytes, value: bytes) -> None:
        """After the end nothing is passed on, and only a usage counts."""
        if text and name == b"data":
            self._data.append(value)
            self._held_bytes += len(text)
            if self._held_bytes > self._event_bytes_max:
                self.fault = "event_too_large"
        elif not text and self._data:
            chunk = read_chunk(b"\n".join(self._data))
            self._data, self._held_bytes = [], 0
            if isinstance(chunk, ChatChunk):
                self._tally.take_usage(chunk)

    def _stray_line(self, text: bytes) -> None:
        """Leave out a line that is of no event: a field that is not known, or what came in place of a stream."""
        if text.startswith((b"{", b"[")) and (failure := error_in(as_json(text))):
            self._fail(text, failure)
        elif not self.begun:
            self.stray += text + b"\n"
            if len(self.stray) > self._event_bytes_max:
                self.fault = "event_too_large"

    def _conclude(self, out: list[bytes]) -> None:
        """Decide on an event whose data is whole, and was not JSON of a chunk so far, or may be something else."""
        data = b"\n".join(self._data)
        if self.done:
            self._late(b"", b"", b"")
        elif self._name == b"error" and (failure := failure_told(data, named=True)):
            self._fail(data, failure)
        elif not data.strip():
            self._pass_on(out)
        elif self._decide(data, out):
            return
        elif self._name in _CHUNK_NAMES:
            self.fault = "not_json" if read_chunk(data) is None else "not_a_chunk"
            self.failure = failure_told(data, named=False)
        else:
            self._pass_on(out)

    def _decide(self, data: bytes, out: list[bytes]) -> bool:
        """Read an event's data and decide on it. False: it is no chunk, so far."""
        if data == b"[DONE]":
            self.done = self._tally.final = True
        else:
            chunk = read_chunk(data)
            if chunk is None:
                return False
            if failure := failure_of(chunk, data):
                if isinstance(chunk, ChatChunk):
                    self._tally.final = self._tally.take_usage(chunk)
                self._fail(data, failure)
                return True
            if not isinstance(chunk, ChatChunk):
                return False
            self._tally.read(chunk)
            if not self._keep_usage and may_hide_usage(chunk):
                self._leave_out_usage(data, choices=bool(chunk.choices))
        self._pass_on(out)
        return True

    def _pass_on(self, out: list[bytes]) -> None:
        """Let what is held of the event go on, unless it is left out."""
        self._decided, self._data = True, []
        self._open = not self._skip
        out += self._held
        self._held = []

    def _fail(self, data: bytes, failure: ProviderError) -> None:
        self.error, self.failure = data.replace(b"\n", b" "), failure
        self._held = []

    def _leave_out_usage(self, data: bytes, *, choices: bool) -> None:
        if not choices:
            self._skip, self._held = True, []
            return
        fields = [line for line in self._held if field(line)[0] != b"data"]
        self._held = [*fields, b"data: " + without_usage(data) + b"\n"]
