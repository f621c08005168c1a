"""Meters an OpenAI-style stream as it passes, without I/O: what was used, what was written, how it ended.

What comes out is what went in, byte for byte and as soon as a line is whole, with these exceptions:

- A client that did not ask for usage does not get it: the last event, usage without choices, is left out; where usage
  stands beside choices (OpenRouter, Groq) that event is written again without it. `"usage": null` is left as it is.
- At the first thing that is no event, or not JSON, the stream stops (`fault`); nothing of that event is passed on. So
  whatever has been passed on is well-formed, and `close_event` makes an error event of our own readable after it.
- An error event of the provider's stops the stream as well; it is kept in `error`, for the edge to end the stream with.
- Nothing is passed on after `[DONE]`, and a last line without an end gets one.

If a stream is `done` without usage, `output_bytes` bounds the tokens that were shown (a token has at least one byte)
and `deltas` is their least number; reasoning that a provider does not show is in neither. If it was cut,
by either side, the provider may have written, and billed, more than came through here: then only the reservation
is a bound.
"""

from typing import Final, Literal

from keyforge.contracts.unreadable import UNREADABLE
from keyforge.contracts.usage import Usage
from keyforge.edge.core.dialects.openai_chat.chunk import (
    ChatChunk,
    decode_chunk,
    read_chunk,
    without_usage,
    written_bytes,
)
from keyforge.edge.core.dialects.openai_chat.usage import later, read_cost_nusd
from keyforge.edge.core.dialects.sse import EVENT_BYTES_MAX, Lines

StreamFault = Literal["not_sse", "not_json", "not_a_chunk", "event_too_large"]

_FIELDS: Final = frozenset((b"event", b"id", b"retry"))


class StreamMeter:
    """One stream. Feed it every piece, pass on what `feed` returns; its attributes hold the result."""

    __slots__ = (
        "_cache_1h",
        "_completions",
        "_data",
        "_decided",
        "_ended",
        "_held",
        "_held_bytes",
        "_keep_usage",
        "_lines",
        "_open",
        "_skip",
        "_usage",
        "deltas",
        "done",
        "error",
        "fault",
        "finished",
        "output_bytes",
        "reported_cost_nusd",
    )

    def __init__(self, *, keep_usage: bool, completions: int = 1, cache_1h: bool = False) -> None:
        self._cache_1h = cache_1h  # the request asked for caches of an hour
        self._completions = completions
        self._ended: set[str] = set()  # completions with a `finish_reason`
        self._usage: Usage | None = None
        self.reported_cost_nusd: int | None = None
        self.output_bytes = 0
        self.deltas = 0
        self.finished = False
        """Every completion has had its `finish_reason`."""
        self.done = False
        """`[DONE]` has come."""
        self.fault: StreamFault | None = None
        self.error: bytes | None = None
        self._keep_usage = keep_usage
        self._lines = Lines()
        # Of the event under way:
        self._held: list[bytes] = []  # lines that wait for a decision
        self._held_bytes = 0
        self._data: list[bytes] = []  # data that is no JSON yet, one entry per line
        self._decided = self._skip = self._open = False

    @property
    def usage(self) -> Usage | None:
        """The last usage that was reported; None if it makes no sense, or the model wrote more after it, or had not
        finished: some providers report with every chunk what was used so far, which is not what they bill."""
        return self._usage if self.finished or self.done else None

    @property
    def begun(self) -> bool:
        """Whether the model has written something, or ended."""
        return self.deltas > 0 or self.finished or self.done

    @property
    def malformed(self) -> bool:
        """Whether there was a fault."""
        return self.fault is not None

    def stopped(self) -> bool:
        """Nothing more is passed on: there was a fault or the provider's error."""
        return self.fault is not None or self.error is not None

    def feed(self, piece: bytes) -> bytes:
        """Read a piece and return what may be passed on, which may be nothing."""
        if self.stopped():
            return b""
        if plain := self._plain(piece):
            for chunk in plain:
                self._read(chunk)
            return piece
        began_whole = not self._lines.held_bytes and not self._held
        out: list[bytes] = []
        lines = self._lines.feed(piece)
        for line in lines:
            self._line(line, out)
            if self.stopped():
                break
        else:
            if self._lines.held_bytes > EVENT_BYTES_MAX:
                self.fault = "event_too_large"
            if began_whole and not self._lines.held_bytes and not self._held and out == lines:
                return piece
        return b"".join([line + b"\n" for line in out])

    def _plain(self, piece: bytes) -> list[ChatChunk] | None:
        """Return the chunks of a piece that is nothing but whole events of one line each with nothing to leave out, as
        nearly all are; None for any other, which is read line by line to the same effect."""
        if self._lines.held_bytes or self._held or self._data or self._decided or self._open or self.done:
            return None
        if not piece.endswith(b"}\n\n") or b"\r" in piece or len(piece) > EVENT_BYTES_MAX:
            return None
        found: list[ChatChunk] = []
        for event in piece[:-2].split(b"\n\n"):
            if not event.startswith(b"data: {") or b"\n" in event:
                return None
            try:
                chunk = decode_chunk(event[6:])
            except UNREADABLE:
                return None
            if chunk.error is not None or (chunk.usage is not None and not self._keep_usage):
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
            self._line(rest, out)
        if self._data and not self.stopped():
            self._decide(b"\n".join(self._data), out, last=True)
        return b"".join([line + b"\n" for line in out])

    def close_event(self) -> bytes:
        """Return what must be written before an event of our own: the end of one under way, or nothing."""
        return b"\n" if self._open else b""

    def _line(self, line: bytes, out: list[bytes]) -> None:
        text = line[:-1] if line.endswith(b"\r") else line
        if b"\r" in text:
            self.fault = "not_sse"
        elif text.startswith(b"data:"):
            self._data_line(text[5:].strip(), line, out)
        elif not text:
            self._blank(line, out)
        elif text.startswith(b":"):
            if self._held:
                self._hold(line)
            elif not self.done:
                out.append(line)
        elif text.partition(b":")[0] in _FIELDS:
            self._hold(line)
        else:
            self.fault = "not_sse"

    def _data_line(self, data: bytes, line: bytes, out: list[bytes]) -> None:
        if self.done and not self._open:
            return
        if self._decided:
            self.fault = "not_json"  # two whole documents in one event
            return
        self._hold(line)
        if self._data or not self._decide(data, out, last=False):
            self._data.append(data)

    def _blank(self, line: bytes, out: list[bytes]) -> None:
        """An event ends."""
        if self._data and not self._decide(b"\n".join(self._data), out, last=True):
            return
        if self._held:  # fields without data
            out.extend(self._held)
        if not self._skip and not (self.done and not self._open):
            out.append(line)
        self._held, self._data, self._held_bytes = [], [], 0
        self._decided = self._skip = self._open = False

    def _hold(self, line: bytes) -> None:
        if self.done and not self._open:
            return
        self._held.append(line)
        self._held_bytes += len(line) + 1
        if self._held_bytes > EVENT_BYTES_MAX:
            self.fault = "event_too_large"

    def _decide(self, data: bytes, out: list[bytes], *, last: bool) -> bool:
        """Read an event's data and decide on it. False: it is not JSON (and a fault, if there is no more to come)."""
        if data and data != b"[DONE]":
            chunk = self._chunk(data)
            if chunk is None:
                if last:
                    self.fault = "not_json"
                return False
            self._read(chunk)
            if chunk.error is not None:
                self.error = data
                return False
            if chunk.usage is not None and not self._keep_usage:
                self._without_usage(data, choices=bool(chunk.choices))
        elif data:
            self.done = True
        self._decided, self._data = True, []
        self._open = not self._skip
        out.extend(self._held)
        self._held = []
        return True

    def _chunk(self, data: bytes) -> ChatChunk | None:
        found = read_chunk(data)
        if found == "not_a_chunk":
            self.fault = "not_a_chunk"
            return None
        return found

    def _read(self, chunk: ChatChunk) -> None:
        """Take in one chunk."""
        for choice in chunk.choices or ():
            if written := written_bytes(choice):
                self.deltas += 1
                self.output_bytes += written
                self._usage = None
            if choice.finish_reason is not None and not self.finished:
                self._ended.add(str(choice.index))
                self.finished = len(self._ended) >= self._completions
        usage = chunk.usage
        if usage is None and isinstance(chunk.x_groq, dict):
            usage = chunk.x_groq.get("usage")
        if usage is not None:
            self._usage = later(self._usage, usage, hour=self._cache_1h)
            self.reported_cost_nusd = read_cost_nusd(usage)

    def _without_usage(self, data: bytes, *, choices: bool) -> None:
        if not choices:
            self._skip, self._held = True, []
            return
        fields = [line for line in self._held if not line.startswith(b"data:")]
        self._held = [*fields, b"data: " + without_usage(data)]
