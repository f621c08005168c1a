"""When a log is so full that an operator must act: at 60 % a warning, at 80 % an error, and what to do in words."""

from typing import Final

from keyforge.eventlog.log import StreamState

WARN_PERCENT: Final = 60
"""Chosen: at a steady rate the log took three times as long to fill this far as it takes from here to the second
alarm, so there is time to order a disk."""
ACT_PERCENT: Final = 80
"""Chosen: a quarter of the time that has passed is left, and `declare` takes minutes."""
WHAT_TO_DO: Final = "raise KEYFORGE_LOG_BYTES_MAX (docs/operations.md)"


def alarm(state: StreamState) -> int:
    """Return the alarm that a log has reached: 0, WARN_PERCENT or ACT_PERCENT."""
    percent = state.fill * 100
    return ACT_PERCENT if percent >= ACT_PERCENT else WARN_PERCENT if percent >= WARN_PERCENT else 0


def in_words(state: StreamState) -> str:
    """Return how full a log is, such as `83 % full, 890 of 1073 bytes`."""
    return f"{int(state.fill * 100)} % full, {state.bytes} of {state.bytes_max} bytes"
