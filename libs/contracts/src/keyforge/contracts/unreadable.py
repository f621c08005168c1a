"""What a decoder says of bytes that are not what they should be: whoever reads what others wrote expects all of it."""

from typing import Final

import msgspec

UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""Of another shape, no UTF-8, nested past all bounds."""
