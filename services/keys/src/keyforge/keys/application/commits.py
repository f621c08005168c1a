"""How a command is carried out: decided and stored in its queue, projected to the directory, answered with the fact."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TypeVar

from keyforge.contracts.errors import Problem, problem
from keyforge.keys.application.ports import CommandQueue, Committed, Decided, DirectoryWriter, FactIndex, StagedFacts
from keyforge.keys.core.facts import Fact, Key

F = TypeVar("F", bound=Fact)


class KnownFacts:
    """The facts of one queue, by kind, as a decision sees them: with what its frame holds already."""

    def __init__(self, facts: StagedFacts) -> None:
        self._facts = facts

    def get(self, kind: type[F], id_: str) -> F | None:
        """Return a fact of this kind."""
        return as_a(kind, self._facts.find(id_))

    def key(self, tenant: str, id_: str) -> Key | None:
        """Return a key, if it is this tenant's."""
        found = self.get(Key, id_)
        return found if found is not None and found.tenant == tenant else None

    def live(self, index: str) -> int:
        """Count the live facts of an index."""
        return self._facts.live(index)

    def shared_bytes(self, index: str) -> int:
        """Return how many bytes the facts of an index take, at most, in the entry that they share."""
        return self._facts.shared_bytes(index)


Command = Callable[[KnownFacts, datetime], Decided]


class Commits:
    """Runs commands. Queues are found by partition, the platform's by None."""

    def __init__(self, queues: Mapping[int | None, CommandQueue], directory: DirectoryWriter) -> None:
        self._queues = queues
        self._directory = directory

    def index(self, partition: int | None) -> FactIndex:
        """Return the committed facts of a queue."""
        return self._queues[partition].index

    @property
    def partitions(self) -> list[int]:
        """All partitions."""
        return [partition for partition in self._queues if partition is not None]

    def halted(self, partition: int | None) -> bool:
        """Return whether the queue of a partition refuses all commands, since its fold halted."""
        return self._queues[partition].halted is not None

    async def execute(self, partition: int | None, kind: type[F], id_: str, command: Command) -> F | Problem:
        """Run a command; return the fact `id_` as it is afterwards, or why it was refused."""
        done = await self._submit(partition, command)
        if isinstance(done, Problem):
            return done
        await self._directory.project(partition, {*done.ids, id_})
        return as_a(kind, self.index(partition).committed(id_)) or problem("not_found")

    async def execute_idempotent(self, partition: int | None, command: Command) -> int | Problem:
        """Run a command that only stores what differs, such as a price feed; return how many facts it changed.

        The directory is left to the caller, who calls `project` once after many of them.
        """
        done = await self._submit(partition, command)
        return done if isinstance(done, Problem) else len(done.ids)

    async def project(self, partition: int | None, ids: list[str]) -> None:
        """Bring the directory's entries of these facts up to date."""
        await self._directory.project(partition, ids)

    async def _submit(self, partition: int | None, command: Command) -> Committed | Problem:
        return await self._queues[partition].submit(lambda facts, now: command(KnownFacts(facts), now))


def as_a(kind: type[F], fact: Fact | None) -> F | None:
    """Return `fact` if it is of this kind."""
    return fact if isinstance(fact, kind) else None


def all_of(kind: type[F], facts: list[Fact]) -> list[F]:
    """Return the facts of this kind."""
    return [fact for fact in facts if isinstance(fact, kind)]
