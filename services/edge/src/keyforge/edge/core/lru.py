"""A bounded dict that evicts the item which was used least recently."""

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Lru(Generic[K, V]):
    """A dict of at most `items_max`; reading an item makes it recent."""

    __slots__ = ("_items", "_items_max")

    def __init__(self, items_max: int) -> None:
        self._items: OrderedDict[K, V] = OrderedDict()
        self._items_max = items_max

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: K) -> V | None:
        """Return what is kept under `key`, or None."""
        found = self._items.get(key)
        if found is not None:
            self._items.move_to_end(key)
        return found

    def put(self, key: K, value: V) -> None:
        """Keep `value`; evict the least recent item if there are too many."""
        self._items[key] = value
        self._items.move_to_end(key)
        if len(self._items) > self._items_max:
            self._items.popitem(last=False)

    def drop(self, key: K) -> None:
        """Remove `key`."""
        self._items.pop(key, None)
