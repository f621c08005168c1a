"""Keys whose outcomes are not folded yet: an agent that asks again at once is not refused for its own last request.

An outcome is stored within milliseconds, in a frame of its partition, and frees what its request did not use. A refusal
names the last message of the log that its owner had folded. Where an outcome that this edge submitted before is stored
after that message, or not stored yet, the refusal may be out of date, and the owner is asked again: for about a second
at most.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from keyforge.contracts.ids import KeyId
from keyforge.edge.core.lru import Lru

LIFTED: Final = frozenset(("budget_exceeded", "tokens_limited", "concurrency_limited", "quota_exceeded"))
"""Refusals that a settlement can lift; a count of requests does not come back."""
PAUSES_S: Final = (0.015, 0.03, 0.06, 0.12, 0.24, 0.48)
"""Before each retry. An outcome waits 5 ms for its frame on average, and is folded some milliseconds later. Chosen: the
first pause covers that; each is twice the one before, and all together are 0.95 s."""
KEYS_MAX: Final = 10_000
"""Keys that were used last, as many as `refusal_counter.KEYS_MAX`. Of any other key no outcome is known to wait, so a
refusal of it is not asked again."""


class _Outcomes(msgspec.Struct, eq=False):
    """How many outcomes of a key were submitted and how many of them are stored, the last in message `sequence`."""

    submitted: int = 0
    stored: int = 0
    sequence: int = 0


class PendingOutcomes:
    """The outcomes of the keys that were used last."""

    __slots__ = ("_keys",)

    def __init__(self) -> None:
        self._keys: Lru[KeyId, _Outcomes] = Lru(KEYS_MAX)

    def submitted(self, key_id: KeyId) -> None:
        """Note that an outcome waits to be stored. Those of one key are stored in the order of this."""
        found = self._keys.get(key_id)
        if found is None:
            self._keys.put(key_id, found := _Outcomes())
        found.submitted += 1

    def stored(self, key_ids: Iterable[KeyId], sequence: int) -> None:
        """Note outcomes that the log stored in message `sequence`: the key of each."""
        for key_id in key_ids:
            found = self._keys.get(key_id)
            if found is not None:
                found.stored += 1
                found.sequence = sequence

    def retry(self, key_id: KeyId) -> "RefusalRetry":
        """Begin to ask again for a request of this key that was refused."""
        return RefusalRetry(self._keys.get(key_id) or _Outcomes())


class RefusalRetry:
    """One refused request, until its owner has folded what this edge had submitted of its key by then."""

    __slots__ = ("_outcomes", "_sequence", "_submitted", "_tries")

    def __init__(self, outcomes: _Outcomes) -> None:
        self._outcomes = outcomes
        self._submitted = outcomes.submitted
        self._sequence: int | None = None
        self._tries = 0

    def pause_s(self, type_: str, folded: int) -> float | None:
        """Return how long to wait before asking again; None: the refusal, of `type_` and given with message `folded`
        folded, stands."""
        if self._sequence is None and self._outcomes.stored >= self._submitted:
            self._sequence = self._outcomes.sequence
        up_to_date = self._sequence is not None and folded >= self._sequence
        if type_ not in LIFTED or up_to_date or self._tries >= len(PAUSES_S):
            return None
        self._tries += 1
        return PAUSES_S[self._tries - 1]
