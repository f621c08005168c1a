"""Keys whose outcomes are on their way: who asks again right behind an answer is not refused for its own past.

An outcome is told within milliseconds, in a frame of its partition, and frees what its request did not use. A refusal
says up to which message of the log its owner had folded. Where an outcome that this edge told before is stored behind
that, or not yet, the refusal may be out of date, and the owner is asked again: for about a second at most.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from keyforge.contracts.ids import KeyId
from keyforge.edge.core.lru import Recent

LIFTED: Final = frozenset(("budget_exceeded", "tokens_limited", "concurrency_limited", "quota_exceeded"))
"""Refusals that a settlement can lift; a count of requests does not come back."""
PAUSES_S: Final = (0.015, 0.03, 0.06, 0.12, 0.24, 0.48)
KEYS_MAX: Final = 10_000


class _Outcomes(msgspec.Struct, eq=False):
    """How many outcomes of a key were told and how many of them are stored, the last in message `sequence`."""

    told: int = 0
    stored: int = 0
    sequence: int = 0


class Settling:
    """What became of the outcomes of the keys that were used last."""

    __slots__ = ("_keys",)

    def __init__(self) -> None:
        self._keys: Recent[KeyId, _Outcomes] = Recent(KEYS_MAX)

    def told(self, key_id: KeyId) -> None:
        """Take note that an outcome was handed to the log. Those of one key are stored in the order of being told."""
        found = self._keys.get(key_id)
        if found is None:
            self._keys.put(key_id, found := _Outcomes())
        found.told += 1

    def stored(self, key_ids: Iterable[KeyId], sequence: int) -> None:
        """Take note of outcomes that the log stored in message `sequence`: the key of each."""
        for key_id in key_ids:
            found = self._keys.get(key_id)
            if found is not None:
                found.stored += 1
                found.sequence = sequence

    def appeal(self, key_id: KeyId) -> "Appeal":
        """Begin to ask again for a request of this key that was refused."""
        return Appeal(self._keys.get(key_id) or _Outcomes())


class Appeal:
    """One refused request, until its owner has seen what this edge had told of its key by then."""

    __slots__ = ("_outcomes", "_sequence", "_told", "_tries")

    def __init__(self, outcomes: _Outcomes) -> None:
        self._outcomes = outcomes
        self._told = outcomes.told
        self._sequence: int | None = None
        self._tries = 0

    def pause_s(self, refused: str, seen: int) -> float | None:
        """Return how long to wait before asking again; None: the refusal, given with message `seen` folded, stands."""
        if self._sequence is None and self._outcomes.stored >= self._told:
            self._sequence = self._outcomes.sequence
        up_to_date = self._sequence is not None and seen >= self._sequence
        if refused not in LIFTED or up_to_date or self._tries >= len(PAUSES_S):
            return None
        self._tries += 1
        return PAUSES_S[self._tries - 1]
