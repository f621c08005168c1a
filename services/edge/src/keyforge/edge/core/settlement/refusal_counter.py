"""Counts refusals, so that a looping agent cannot flood the log: at most one event for each key in a second."""

from collections.abc import Callable
from typing import Final

import msgspec

from keyforge.contracts.directory import KeyEntry
from keyforge.contracts.events import RequestRefused
from keyforge.contracts.ids import EdgeId, KeyId, RequestId

KEYS_MAX: Final = 10_000
"""Keys with refusals that are not recorded yet."""


class _Counted(msgspec.Struct):
    first: RequestId
    count: int


class _Waiting(msgspec.Struct):
    key: KeyEntry
    reasons: dict[str, _Counted]


class DueRefusal(msgspec.Struct, frozen=True):
    """An event to be recorded now, and its partition."""

    partition: int
    event: RequestRefused


class RefusalCounter:
    """What was refused and is not recorded yet. Reasons are types of the catalogue, so there are few."""

    def __init__(self, edge: EdgeId) -> None:
        self._edge = edge
        self._waiting: dict[KeyId, _Waiting] = {}

    def count(self, key: KeyEntry, request_id: RequestId, reason: str) -> bool:
        """Count one; False, and it is not counted, if too many keys wait."""
        waiting = self._waiting.get(key.key_id)
        if waiting is None:
            if len(self._waiting) >= KEYS_MAX:
                return False
            waiting = self._waiting[key.key_id] = _Waiting(key, {})
        counted = waiting.reasons.get(reason)
        if counted is None:
            waiting.reasons[reason] = _Counted(request_id, 1)
        else:
            counted.count += 1
        return True

    def due(self, has_room: Callable[[int], bool] = lambda _: True) -> list[DueRefusal]:
        """Return one event for each key that has refusals: its oldest reason. To be called once a second.

        `has_room` tells whether a partition takes them now; if not, counting goes on and needs no more room.
        """
        due: list[DueRefusal] = []
        for key_id in list(self._waiting):
            waiting = self._waiting[key_id]
            if not has_room(waiting.key.partition):
                continue
            reason = next(iter(waiting.reasons))
            counted = waiting.reasons.pop(reason)
            if not waiting.reasons:
                del self._waiting[key_id]
            event = RequestRefused(
                request_id=counted.first,
                tenant=waiting.key.tenant,
                key_id=key_id,
                edge=self._edge,
                reason=reason,
                count=counted.count,
            )
            due.append(DueRefusal(waiting.key.partition, event))
        return due

    def rest(self) -> list[DueRefusal]:
        """Return all that is left, for the end of the service."""
        due: list[DueRefusal] = []
        while self._waiting:
            due += self.due()
        return due
