"""Every fact of one ctl subject as it is now: committed ones for readers, staged ones on top of them for decisions."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice

from eventsourcing.application import Cache

from keyforge.keys.core.facts import Fact


class Book(Cache[str, Fact]):
    """The cache of the library's repository, and what lists are read from.

    A staged fact is one whose event waits to be appended: decisions of the same group see it, nobody else does.
    """

    def __init__(self) -> None:
        super().__init__()
        self._facts: dict[str, Fact] = {}
        self._staged: dict[str, Fact] = {}
        self._shelves: dict[str, dict[str, None]] = {}
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

    def live(self, shelf: str) -> int:
        """Count the live facts of a shelf, with what is staged."""
        count = self._live[shelf]
        for id_, fact in self._staged.items():
            if fact.shelf == shelf:
                known = self._facts.get(id_)
                count += fact.live - (known is not None and known.live)
        return count

    def shared_bytes(self, shelf: str) -> int:
        """Return how many bytes the facts of a shelf take in the entry that they share at most, with what is staged."""
        size = self._bytes[shelf]
        for id_, fact in self._staged.items():
            if fact.shelf == shelf and id_ not in self._facts:
                size += fact.shared_bytes
        return size

    def listed(self, shelf: str, *, after: str = "", limit: int | None = None) -> list[Fact]:
        """Return the committed facts of a shelf as they were created: those behind `after`, `limit` of them."""
        ids: Iterator[str] = iter(self._shelves.get(shelf, ()))
        if after:
            for id_ in ids:
                if id_ == after:
                    break
        return [self._facts[id_] for id_ in islice(ids, limit)]

    def commit(self) -> None:
        """Make what is staged known."""
        for fact in self._staged.values():
            self.accept(fact)
        self._staged.clear()

    def rollback(self) -> None:
        """Forget what is staged."""
        self._staged.clear()

    def accept(self, fact: Fact) -> None:
        """Take in a fact that the log has."""
        known = self._facts.get(fact.id)
        self._facts[fact.id] = fact
        self._shelves.setdefault(fact.shelf, {})[fact.id] = None
        self._live[fact.shelf] += fact.live - (known is not None and known.live)
        self._bytes[fact.shelf] += fact.shared_bytes if known is None else 0

    def __iter__(self) -> Iterator[Fact]:
        """Go through all committed facts."""
        return iter(self._facts.values())
