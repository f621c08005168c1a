"""Bounded dicts that evict the item which was used least recently: bounded in number, or in bytes."""

from collections import OrderedDict
from collections.abc import Callable
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


class BytesLru(Generic[K, V]):
    """A dict whose items take at most `bytes_max` together.

    `bytes_of` returns what an item takes, its key and its place in the dict among it: always the same for one item.
    """

    __slots__ = ("_bytes_max", "_bytes_of", "_items", "held_bytes")

    def __init__(self, bytes_max: int, bytes_of: Callable[[V], int]) -> None:
        self.held_bytes = 0
        """What the items take now."""
        self._items: OrderedDict[K, V] = OrderedDict()
        self._bytes_max = bytes_max
        self._bytes_of = bytes_of

    def __len__(self) -> int:
        return len(self._items)

    def peek(self, key: K) -> V | None:
        """Return what is kept under `key`, or None; it becomes no more recent."""
        return self._items.get(key)

    def get(self, key: K) -> V | None:
        """Return what is kept under `key`, or None, and make it recent."""
        found = self._items.get(key)
        if found is not None:
            self._items.move_to_end(key)
        return found

    def put(self, key: K, value: V) -> None:
        """Keep `value`; evict the least recent items while they take too much, this one too if it does so alone."""
        self.drop(key)
        self._items[key] = value
        self.held_bytes += self._bytes_of(value)
        while self.held_bytes > self._bytes_max:
            _, evicted = self._items.popitem(last=False)
            self.held_bytes -= self._bytes_of(evicted)

    def drop(self, key: K) -> None:
        """Remove `key`."""
        found = self._items.pop(key, None)
        if found is not None:
            self.held_bytes -= self._bytes_of(found)
