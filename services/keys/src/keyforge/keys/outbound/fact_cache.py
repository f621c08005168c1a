"""Every fact of one ctl subject as it is now: committed ones for readers, staged ones on top of them for decisions."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice

from eventsourcing.application import Cache

from keyforge.keys.core.facts import Fact


class FactCache(Cache[str, Fact]):
    """The cache of the library's repository, and the indexes that lists are read from.

    A staged fact is one whose event waits to be appended: decisions for the same frame see it, nobody else does.
    """

    def __init__(self) -> None:
        super().__init__()
        self._facts: dict[str, Fact] = {}
        self._staged: dict[str, Fact] = {}
        self._indexes: dict[str, dict[str, None]] = {}
        self._live: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()

    def get(self, key: str, *, evict: bool = False) -> Fact:  # noqa: ARG002  # the library's signature
        """Return a fact, staged or committed. Raises KeyError."""
        staged = self._staged.get(key)
        return self._facts[key] if staged is None else staged

    def put(self, key: str, value: Fact | None) -> None:
        """Stage a fact. Staging None, which the library allows, does nothing."""
        if value is not None:
            self._staged[key] = value

    def committed(self, id_: str) -> Fact | None:
        """Return a fact as the log has it."""
        return self._facts.get(id_)

    def live(self, index: str) -> int:
        """Count the live facts of an index, staged ones included."""
        count = self._live[index]
        for id_, fact in self._staged.items():
            if fact.index == index:
                known = self._facts.get(id_)
                count += fact.live - (known is not None and known.live)
        return count

    def shared_bytes(self, index: str) -> int:
        """Return how many bytes the facts of an index take, at most, in the entry that they share; staged ones too."""
        size = self._bytes[index]
        for id_, fact in self._staged.items():
            if fact.index == index and id_ not in self._facts:
                size += fact.shared_bytes
        return size

    def listed(self, index: str, *, after: str = "", limit: int | None = None) -> list[Fact]:
        """Return the committed facts of an index in order of creation: those after `after`, `limit` of them.

        An `after` that is not in the index is after all of them.
        """
        ids: Iterator[str] = iter(self._indexes.get(index, ()))
        if after:
            for id_ in ids:
                if id_ == after:
                    break
        return [self._facts[id_] for id_ in islice(ids, limit)]

    def commit(self) -> None:
        """Accept what is staged: the log has it."""
        for fact in self._staged.values():
            self.accept(fact)
        self._staged.clear()

    def rollback(self) -> None:
        """Discard what is staged: the log does not have it."""
        self._staged.clear()

    def accept(self, fact: Fact) -> None:
        """Store a fact that the log has."""
        known = self._facts.get(fact.id)
        self._facts[fact.id] = fact
        self._indexes.setdefault(fact.index, {})[fact.id] = None
        self._live[fact.index] += fact.live - (known is not None and known.live)
        self._bytes[fact.index] += fact.shared_bytes if known is None else 0

    def __iter__(self) -> Iterator[Fact]:
        """Iterate over all committed facts."""
        return iter(self._facts.values())
