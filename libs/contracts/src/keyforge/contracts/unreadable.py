"""The errors of decoders for bytes that are not what they should be: a reader of foreign bytes expects all of them."""

from typing import Final

import msgspec

UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""Another shape, not UTF-8, nested too deeply."""
