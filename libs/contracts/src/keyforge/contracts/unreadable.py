"""Foreign bytes that are not what they should be: the errors of decoders for them, and what decoders do not look at."""

from typing import Final

import msgspec

UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""Another shape, not UTF-8, nested too deeply."""


def is_utf8(data: bytes) -> bool:
    """Return whether this is UTF-8, as JSON must be. A decoder does not look at what it skips."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
