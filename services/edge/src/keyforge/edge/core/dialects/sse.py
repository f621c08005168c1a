"""Splits a stream of server-sent events into lines as they become complete, within a bound."""

from typing import Final

EVENT_BYTES_MAX: Final = 1024 * 1024
"""One line, and all lines of one event together."""


class Lines:
    """Pieces in, whole lines out, without their LF. A line ends with LF or CRLF.

    The standard also lets a lone CR end a line, which no provider sends: the caller refuses such a line, so that no
    client sees other lines than we did.
    """

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = bytearray()

    @property
    def held_bytes(self) -> int:
        """How much of an unfinished line is held; the caller bounds it."""
        return len(self._rest)

    def feed(self, piece: bytes) -> list[bytes]:
        """Return the lines that this piece completes."""
        *lines, rest = piece.split(b"\n")
        if lines and self._rest:
            lines[0] = bytes(self._rest + lines[0])
            self._rest = bytearray()
        if rest:
            self._rest += rest
        return lines

    def end(self) -> bytes:
        """Return the last line, if it had no end."""
        rest, self._rest = bytes(self._rest), bytearray()
        return rest
