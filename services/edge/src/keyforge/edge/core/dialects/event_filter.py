"""Passes a stream of server-sent events on, line by line as they come, but for what a judge leaves out; without I/O.

It keeps to the standard (WHATWG HTML, 9.2.6): what comes out has the bytes that went in, and every client reads the
same events in it. What clients ignore is left out: a byte order mark in front, and fields that are not known.
"""

from typing import Final, Literal, Protocol

from keyforge.edge.core.dialects.sse import BOM, Lines, field

Verdict = Literal["pass", "drop", "wait", "stop"] | bytes
"""On an event: pass it on; leave it out; wait for the rest of it; end the stream; or the data to put in its place."""
FilterFault = Literal["event_too_large", "not_json"]

_FIELDS: Final = frozenset((b"event", b"id", b"retry"))


class EventJudge(Protocol):
    """Decides on events. `done`: the stream has said that it ends, so nothing after this event is passed on."""

    done: bool

    def judge(self, name: bytes, data: bytes, *, whole: bool) -> Verdict:
        """Decide on an event. `whole`: there is no more of it, so `wait` is no answer."""
        ...

    def late(self, data: bytes) -> None:
        """Read an event that came after the end."""
        ...

    def stray_line(self, line: bytes) -> bool:
        """Read a line of no known field; return whether it ends the stream."""
        ...


class EventFilter:
    """One stream. Feed it every piece, pass on what `feed` returns."""

    __slots__ = (
        "_bytes_max",
        "_data",
        "_decided",
        "_dropped",
        "_held",
        "_held_bytes",
        "_last",
        "_name",
        "between",
        "fault",
        "lines",
        "open",
        "stopped",
        "unread",
    )

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self.lines = Lines()
        self.between = True
        """No line, event or end is under way."""
        self.stopped = False
        """Nothing more is passed on."""
        self.unread = b""
        """What the piece had after the line that stopped it."""
        self.fault: FilterFault | None = None
        self._last: Literal["held", "out", ""] = ""  # where a line went that ended with a CR, whose LF may come yet
        # Of the event under way:
        self.open = False
        """Some of it was passed on, and not yet its end."""
        self._name = b""
        self._held: list[bytes] = []  # lines that wait for a decision
        self._held_bytes = 0
        self._data: list[bytes] = []  # data that is not decided yet, one entry per line
        self._decided = self._dropped = False

    def feed(self, piece: bytes, judge: EventJudge) -> bytes:
        """Read a piece and return what may be passed on, which may be nothing."""
        if self.stopped:
            return b""
        began_whole = self.between and not piece.startswith(BOM)
        out: list[bytes] = []
        if self.lines.after_cr and piece.startswith(b"\n"):
            piece = self._feed_lf(piece, out)
        lines = self.lines.feed(piece)
        left = iter(lines)
        for line in left:
            if not self._line(line, judge, out):
                self.unread = b"".join(left) + self.lines.end()
                break
        else:
            if self.lines.held_bytes > self._bytes_max:
                self._fail("event_too_large")
            if lines and self.lines.after_cr:
                self._last = self._place(lines[-1], out)
        under_way = self.lines.held_bytes or self.lines.after_cr or self._held or self._data or self._decided
        self.between = not (under_way or judge.done or self.stopped)
        return piece if began_whole and out == lines and not self.lines.held_bytes else b"".join(out)

    def end(self, judge: EventJudge) -> bytes:
        """The stream ended in good order: read a last line without an end, and return what may be passed on."""
        rest = self.lines.end()
        if self.stopped:
            return b""
        out: list[bytes] = []
        goes_on = self._line(rest + b"\n", judge, out) if rest else True
        if goes_on and self._data:
            self._conclude(judge, out)
        return b"".join(out)

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
        self.lines.after_cr = False
        return piece[1:]

    def _line(self, line: bytes, judge: EventJudge, out: list[bytes]) -> bool:
        """Read a line; return whether the stream goes on."""
        text = line.rstrip(b"\r\n")
        name, value = field(text)
        if len(text) > self._bytes_max:
            self._fail("event_too_large")
        elif judge.done and not self.open:
            self._late(text, name, value, judge)
        elif not text:
            self._blank(line, judge, out)
        elif name == b"data":
            self._data_line(value.strip(), line, judge, out)
        elif name in _FIELDS:
            if name == b"event":
                self._name = value
            self._hold(line)
        elif name:
            self.stopped = judge.stray_line(text)
        elif self._held:
            self._hold(line)
        else:
            out.append(line)  # a comment
        return not self.stopped

    def _data_line(self, data: bytes, line: bytes, judge: EventJudge, out: list[bytes]) -> None:
        if self._decided:
            self._fail("not_json")  # two whole documents in one event
            return
        self._hold(line)
        if self.stopped:
            return
        if not data or self._data or not self._settle(judge.judge(self._name, data, whole=False), out):
            self._data.append(data)

    def _blank(self, line: bytes, judge: EventJudge, out: list[bytes]) -> None:
        """An event ends."""
        if self._data:
            self._conclude(judge, out)
            if self.stopped:
                return
        if not self._dropped:
            out += [*self._held, line]  # fields without data, or after it
        self._name, self._held, self._data, self._held_bytes = b"", [], [], 0
        self._decided = self._dropped = self.open = False

    def _hold(self, line: bytes) -> None:
        self._held.append(line)
        self._held_bytes += len(line.rstrip(b"\r\n")) + 1
        if self._held_bytes > self._bytes_max:
            self._fail("event_too_large")

    def _late(self, text: bytes, name: bytes, value: bytes, judge: EventJudge) -> None:
        """Read what comes after the end; nothing of it is passed on."""
        if text and name == b"data":
            self._data.append(value)
            self._held_bytes += len(text)
            if self._held_bytes > self._bytes_max:
                self._fail("event_too_large")
        elif not text and self._data:
            data = b"\n".join(self._data)
            self._data, self._held_bytes = [], 0
            judge.late(data)

    def _conclude(self, judge: EventJudge, out: list[bytes]) -> None:
        """Have an event decided whose data is whole."""
        if judge.done:
            self._late(b"", b"", b"", judge)
            return
        data = b"\n".join(self._data)
        self._settle(judge.judge(self._name, data, whole=True) if data.strip() else "pass", out)

    def _settle(self, verdict: Verdict, out: list[bytes]) -> bool:
        """Do what was decided; return whether it was."""
        if verdict == "wait":
            return False
        if verdict == "stop":
            self.stopped, self._held = True, []
            return True
        if isinstance(verdict, bytes):
            fields = [line for line in self._held if field(line)[0] != b"data"]
            self._held = [*fields, b"data: " + verdict + b"\n"]
        self._decided, self._dropped, self._data = True, verdict == "drop", []
        if not self._dropped:
            self.open = True
            out += self._held
        self._held = []
        return True

    def _fail(self, fault: FilterFault) -> None:
        self.fault, self.stopped = fault, True
