"""In which encoding a JSON body is, where it is not UTF-8 as RFC 8259 section 8.1 has it: said in words."""

import codecs
from typing import Final

BOM: Final = codecs.BOM_UTF8
"""A byte order mark, which some clients put before a body."""
_WIDE: Final = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_NOT_ZERO: Final = {
    (True, False, False, False): "UTF-32",
    (False, False, False, True): "UTF-32",
    (True, False): "UTF-16",
    (False, True): "UTF-16",
}
"""Which of the first bytes are not zero, without a mark: JSON begins with a character of ASCII (RFC 4627 section 3)."""


def wide_encoding(body: bytes) -> str:
    """Return the name of the encoding of a body that has two or four bytes for each character; empty: it has not."""
    for mark, name in _WIDE:
        if body.startswith(mark):
            return name
    return next((name for length in (4, 2) if (name := _NOT_ZERO.get(tuple(map(bool, body[:length])), ""))), "")


def not_utf8_at(body: bytes) -> int:
    """Return the first byte, from 0, that belongs to no character in UTF-8; -1: there is none."""
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return error.start
    return -1


def encoding_fault(body: bytes, where: str = "") -> str:
    """Return what is wrong with the encoding of a body, as a sentence; empty: it is UTF-8. `where`: put after the
    place."""
    if name := wide_encoding(body):
        return f"The request body is in {name}: it must be in UTF-8."
    at = not_utf8_at(body)
    return f"The request body is not UTF-8 at byte {at} (0x{body[at]:02x}){where}." if at >= 0 else ""
