"""Keys whose outcomes are on their way: who asks again right behind an answer is not refused for its own past.

An outcome is told within milliseconds, in a frame of its partition, and frees what its request did not use. A refusal
that this may lift is asked again, twice at most and within 60 ms, if this edge told an outcome of the key lately.
"""

from typing import Final

from keyforge.contracts.ids import KeyId
from keyforge.edge.core.recent import Recent

LIFTED: Final = frozenset(("budget_exceeded", "tokens_limited", "concurrency_limited", "quota_exceeded"))
"""Refusals that a settlement can lift; a count of requests does not come back."""
SETTLING_S: Final = 0.1
PAUSES_S: Final = (0.015, 0.045)
KEYS_MAX: Final = 10_000


class Settling:
    """When the last outcome of each key was told, in monotonic seconds."""

    __slots__ = ("_told_s",)

    def __init__(self) -> None:
        self._told_s: Recent[KeyId, float] = Recent(KEYS_MAX)

    def told(self, key_id: KeyId, now_s: float) -> None:
        """Take note of an outcome."""
        self._told_s.put(key_id, now_s)

    def pause_s(self, key_id: KeyId, refused: str, tries: int, now_s: float) -> float | None:
        """Return how long to wait before asking again for the `tries`-th time; None: the refusal stands."""
        if refused not in LIFTED or tries >= len(PAUSES_S):
            return None
        told_s = self._told_s.get(key_id)
        return PAUSES_S[tries] if told_s is not None and now_s - told_s < SETTLING_S else None
