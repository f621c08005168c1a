"""How a command is carried out: decided and stored in its lane, shown in the directory, answered with the fact."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TypeVar

from keyforge.contracts.errors import Problem, problem
from keyforge.keys.application.ports import CommandQueue, Decided, DirectoryWriter, FactIndex, StagedFacts
from keyforge.keys.core.facts import Fact, Key

F = TypeVar("F", bound=Fact)


class Known:
    """What a decision may look at: every fact of its lane, with what is staged in its group."""

    def __init__(self, facts: StagedFacts) -> None:
        self._facts = facts

    def get(self, kind: type[F], id_: str) -> F | None:
        """Return a fact of this kind."""
        return as_a(kind, self._facts.find(id_))

    def key(self, tenant: str, id_: str) -> Key | None:
        """Return a key, if it is this tenant's."""
        found = self.get(Key, id_)
        return found if found is not None and found.tenant == tenant else None

    def live(self, shelf: str) -> int:
        """Count what is live on a shelf."""
        return self._facts.live(shelf)

    def shared_bytes(self, shelf: str) -> int:
        """Return how many bytes a shelf takes in its entry at most."""
        return self._facts.shared_bytes(shelf)


Command = Callable[[Known, datetime], Decided]


class Commits:
    """Runs commands. Lanes are found by partition, the platform's by None."""

    def __init__(self, lanes: Mapping[int | None, CommandQueue], directory: DirectoryWriter) -> None:
        self._lanes = lanes
        self._directory = directory

    def book(self, partition: int | None) -> FactIndex:
        """Return the committed facts of a lane."""
        return self._lanes[partition].index

    @property
    def partitions(self) -> list[int]:
        """The partitions there are."""
        return [partition for partition in self._lanes if partition is not None]

    async def do(self, partition: int | None, kind: type[F], id_: str, command: Command) -> F | Problem:
        """Run a command; return the fact `id_` as it is then, or why not."""
        done = await self._lanes[partition].submit(lambda facts, now: command(Known(facts), now))
        if isinstance(done, Problem):
            return done
        await self._directory.project(partition, {*done.ids, id_})
        return as_a(kind, self.book(partition).committed(id_)) or problem("not_found")

    async def do_quietly(self, partition: int | None, command: Command) -> int | Problem:
        """Run a command of many changes that the caller will `show`; return how many there were."""
        done = await self._lanes[partition].submit(lambda facts, now: command(Known(facts), now))
        return done if isinstance(done, Problem) else len(done.ids)

    async def show(self, partition: int | None, ids: list[str]) -> None:
        """Bring the entries of facts up to date."""
        await self._directory.project(partition, ids)


def as_a(kind: type[F], fact: Fact | None) -> F | None:
    """Return `fact` if it is of this kind."""
    return fact if isinstance(fact, kind) else None


def all_of(kind: type[F], facts: list[Fact]) -> list[F]:
    """Return the facts of this kind."""
    return [fact for fact in facts if isinstance(fact, kind)]
