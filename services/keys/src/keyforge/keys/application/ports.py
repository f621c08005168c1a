"""What the use cases need of the outside, and the values that cross: `outbound` implements it, `app` hands it in."""

from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from typing import Final, Protocol

import msgspec

from keyforge.contracts.errors import Problem
from keyforge.contracts.events import Event
from keyforge.contracts.ids import TenantId
from keyforge.keys.core.facts import Fact
from keyforge.keys.core.prices import Proposal
from keyforge.runtime.personal_fields import FieldKeys

PLATFORM: Final = None
"""Stands for a partition where platform facts are meant."""

Decided = Sequence[Event] | Event | Problem | None
"""What a command comes to: events, a refusal, or None, since nothing has to change."""


class StagedFacts(Protocol):
    """What a decision may look at: every fact of one subject, with what earlier commands of its frame decided."""

    def find(self, id_: str) -> Fact | None:
        """Return a fact by the id of its aggregate."""
        ...

    def live(self, index: str) -> int:
        """Count the live facts of an index."""
        ...

    def shared_bytes(self, index: str) -> int:
        """Return how many bytes the facts of an index take, at most, in the entry that they share."""
        ...


class FactIndex(Protocol):
    """The committed facts of one subject, by id and in indexes: what look-ups and lists read."""

    def committed(self, id_: str) -> Fact | None:
        """Return a fact as the log has it."""
        ...

    def listed(self, index: str, *, after: str = "", limit: int | None = None) -> list[Fact]:
        """Return the facts of an index in order of creation: those after `after`, `limit` of them."""
        ...


Decide = Callable[[StagedFacts, datetime], Decided]
"""A command as a queue runs it: facts and the time in, what it comes to out. It may be run again."""


class Committed(msgspec.Struct, frozen=True):
    """A command's outcome is in the log. `ids`: the aggregates that it changed."""

    ids: tuple[str, ...]


class CommandQueue(Protocol):
    """Decides and stores the commands of one subject."""

    @property
    def index(self) -> FactIndex:
        """The committed facts."""
        ...

    @property
    def waiting(self) -> int:
        """How many commands have no outcome yet."""
        ...

    @property
    def folded(self) -> int:
        """The last sequence of the subject that the facts contain."""
        ...

    @property
    def halted(self) -> str | None:
        """Why the fold halted at a message that it cannot read; None if it did not.

        A halted queue refuses every command with `fold_halted`. Its facts stay as they were before that message.
        """
        ...

    async def submit(self, decide: Decide) -> Committed | Problem:
        """Run a command and return when its events are durable, or why they are not."""
        ...


class DirectoryWriter(Protocol):
    """Keeps the entries of the directory's buckets up to date with the facts."""

    @property
    def lagging(self) -> int:
        """How many facts changed and are not in the directory yet."""
        ...

    async def project(self, partition: int | None, ids: Iterable[str]) -> None:
        """Bring the entries of some facts up to date; what cannot be written now is written later."""
        ...


class TenantSecretStore(Protocol):
    """Keeps the secret of each tenant (docs/spec/tenant-secrets.md)."""

    async def ensure(self, tenant: TenantId) -> FieldKeys | Problem:
        """Return the keys of a tenant that is about to be created, its secret made if there is none; or why not."""
        ...

    async def field_keys(self, tenant: TenantId, version: int) -> FieldKeys | Problem | None:
        """Return the keys of a tenant's personal fields, with `version` among them if its entry has it.

        None if the tenant was forgotten; a problem if its secret cannot be read right now. A secret that does not open
        with the commitment secret has no keys.
        """
        ...


class PriceData(Protocol):
    """Published prices of providers' models."""

    def feeds(self) -> frozenset[str]:
        """Return the names of all feeds. Reads for a while at first: call it in a thread."""
        ...

    def proposals(self, feed: str, today: date) -> list[Proposal]:
        """Return a feed's prices. Reads and parses for a while: call it in a thread."""
        ...

    def source(self) -> str:
        """Return the name and version of the data, as events record it."""
        ...
