"""Splits a stream of server-sent events into lines as they become complete, by the standard (WHATWG HTML, 9.2.6)."""

from collections.abc import Iterator
from typing import Final

BOM: Final = b"\xef\xbb\xbf"


class Lines:
    """Pieces in, whole lines out, each with its end: LF, CRLF or a lone CR.

    A CR that a piece ends with ends its line at once, as no client waits for more; an LF that follows it in the next
    piece belongs to that line (`after_cr`). A byte order mark in front of the first line is dropped.
    """

    __slots__ = ("_rest", "after_cr", "first")

    def __init__(self) -> None:
        self._rest = bytearray()
        self.after_cr = False
        """The last line ended with the CR that its piece ended with."""
        self.first = True
        """No line has come yet."""

    @property
    def held_bytes(self) -> int:
        """How much of an unfinished line is held; the caller bounds it."""
        return len(self._rest)

    def feed(self, piece: bytes) -> list[bytes]:
        """Return the lines that this piece completes; it does not begin with an LF of the line before."""
        lines = piece.splitlines(keepends=True)  # of bytes: at LF, CRLF and CR alone
        if not lines:
            return lines
        rest = b"" if lines[-1].endswith((b"\n", b"\r")) else lines.pop()
        if lines:
            if self._rest:
                lines[0] = bytes(self._rest + lines[0])
                self._rest = bytearray()
            if self.first:
                lines[0] = lines[0].removeprefix(BOM)
                self.first = False
        self.after_cr = piece.endswith(b"\r")
        self._rest += rest
        return lines

    def end(self) -> bytes:
        """Return the last line, if it had no end."""
        rest, self._rest = bytes(self._rest), bytearray()
        return rest.removeprefix(BOM) if self.first else rest


def field(line: bytes) -> tuple[bytes, bytes]:
    """Return the name and the value of a line without its end. A name alone has an empty value."""
    name, _, value = line.partition(b":")
    return name, value.removeprefix(b" ")


def events(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield each event of a whole stream: its name, empty where it has none, and its data."""
    name, data = b"", list[bytes]()
    for line in body.removeprefix(BOM).splitlines():
        if line:
            of, value = field(line)
            if of == b"event":
                name = value
            elif of == b"data":
                data.append(value)
        else:
            if data:
                yield name, b"\n".join(data)
            name, data = b"", []
