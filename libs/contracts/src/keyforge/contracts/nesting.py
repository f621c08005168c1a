"""How deep an event may be nested: one bound for every reader, as what a decoder itself takes depends on Python.

A frame is decoded for every request, so its text is looked at closely only where it could be too deep: where it opens
more objects and lists than the events that were decoded from it have.
"""

from collections.abc import Iterable
from typing import Final, Protocol

from keyforge.contracts.events import Event

NESTING_MAX: Final = 64
"""Levels of an event, its envelope being the first. Chosen: sixteen times the four that our events have, and as deep as
a request of an agent may be; a tenth of what the decoder takes in a Python whose recursion limit is the default."""
TOO_DEEP: Final = f"nested more than {NESTING_MAX} levels deep"

_KNOWN_LEVELS: Final = 4
"""Of an event that was decoded: its envelope, its data, a list, an object in that."""
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_OPENING: Final = frozenset(b"[{")


class _Decoded(Protocol):
    @property
    def event(self) -> Event: ...


def is_too_deep(text: bytes, around: int, known: Iterable[_Decoded]) -> bool:
    """Return whether the events of this JSON, with `around` levels around them, are nested too deeply.

    `known` are events that were decoded from it. Each of their objects and lists is opened once in the text, so what is
    opened beside them bounds what can be nested in members that no one knows.
    """
    # CPython takes a byte out of a text several times as fast as it counts it.
    opened = 2 * len(text) - len(text.replace(b"{", b"")) - len(text.replace(b"[", b""))
    return (
        opened > NESTING_MAX + around
        and opened - sum([one.event.containers() for one in known]) > NESTING_MAX - _KNOWN_LEVELS
        and _is_deeper(text, NESTING_MAX + around)
    )


def _is_deeper(text: bytes, levels_max: int) -> bool:
    """Escapes are only in strings; in a run of backslashes pairs go first, and one that is left escapes a quote."""
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    levels = 0
    for bracket in b"".join(text.split(b'"')[::2]).translate(None, _NOT_BRACKETS):
        if bracket not in _OPENING:
            levels -= 1
        elif levels == levels_max:
            return True
        else:
            levels += 1
    return False
