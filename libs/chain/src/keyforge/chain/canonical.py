"""Canonical JSON (RFC 8785) of an event: the same bytes for the same event, in any implementation.

The body of a record is the event as a CloudEvent, members sorted, no white space, strings as in RFC 8785. An integer
that a double cannot represent (beyond 2^53 - 1) is written as a string of its digits, as RFC 7493 section 2.2 requires.
Events contain no floating point numbers. For them `msgspec` writes exactly what the library `rfc8785` writes, at a
thirtieth of its cost; a property test compares the two, and everything else is written by the library.
"""

import re
from datetime import datetime
from typing import Any, Final

import msgspec
import rfc8785

from keyforge.contracts.events import Event
from keyforge.contracts.frame import SPEC_VERSION, Recorded, subject_of

SAFE_INTEGER_MAX: Final = 2**53 - 1
"""The largest integer up to which a double represents all (RFC 7493 section 2.2)."""

_ENCODER: Final = msgspec.json.Encoder(order="sorted")
_DIGITS: Final = bytes(ord("0") if chr(byte).isdigit() else byte for byte in range(128)) + bytes(range(128, 256))
_LONG: Final = b"0" * len(str(SAFE_INTEGER_MAX))
_LONG_INTEGER: Final = re.compile(rb"[:,\[]-?[0-9]{16}")
"""The beginning of an integer of sixteen digits; matching it in a string as well does no harm."""


class _CloudEvent(msgspec.Struct, frozen=True, gc=False):
    data: Event
    id: str
    source: str
    specversion: str
    subject: str
    time: datetime
    type: str


def body(recorded: Recorded) -> bytes:
    """Return the canonical JSON of an event as it was recorded: the body of its record."""
    event = recorded.event
    return canonical(
        _CloudEvent(event, recorded.id, recorded.source, SPEC_VERSION, subject_of(event), recorded.at, event.TYPE)
    )


def canonical(value: Any) -> bytes:
    """Return the canonical JSON of a value of msgspec structs, mappings, sequences, strings, integers, booleans, None.

    Mappings must have ASCII keys: their order by bytes and by UTF-16 units is then the same.
    """
    try:
        written = _ENCODER.encode(value)
    except OverflowError:  # an integer past 64 bits
        return _by_the_library(value)
    # A run of sixteen digits may be an integer that needs quotes. Most are parts of digests: one in forty has one.
    if _LONG in written.translate(_DIGITS) and _LONG_INTEGER.search(written):
        return _by_the_library(value)
    return written


def _by_the_library(value: Any) -> bytes:
    return rfc8785.dumps(_quoted(msgspec.to_builtins(value)))


def _quoted(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _quoted(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_quoted(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > SAFE_INTEGER_MAX:
        return str(value)
    return value
