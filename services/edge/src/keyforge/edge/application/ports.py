"""What the use cases need from outside. `outbound` implements these ports, and tests have twins of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from keyforge.contracts.directory import KeyEntry
from keyforge.contracts.errors import Problem
from keyforge.contracts.events import Attempt, RequestCancelled, RequestCompleted, RequestRefused
from keyforge.contracts.ids import CredentialId, KeyId, ProviderId, TenantId
from keyforge.contracts.reserve import Answer, Reserve
from keyforge.edge.application.provider_call import HeaderBlock
from keyforge.edge.core.dialects.additions import Additions
from keyforge.edge.core.routing.catalogue import Catalogue
from keyforge.edge.core.routing.credential_pool import CredentialPool
from keyforge.edge.core.routing.origin import ProviderAddress
from keyforge.edge.core.settlement.commitment import TenantKey

OutcomeEvent = RequestCompleted | RequestCancelled | RequestRefused
"""What an edge records of a request."""


class KeyDirectory(Protocol):
    """The keys of all tenants."""

    def known(self, text: bytes) -> KeyEntry | None:
        """Return the key whose text this is, if it is at hand, whatever its status."""
        ...

    async def identify(self, text: bytes) -> KeyEntry | Problem:
        """Return the key whose text this is, whatever its status. Any text that is no key gets the same problem."""
        ...

    async def refresh(self, key_id: KeyId) -> KeyEntry | Problem:
        """Read a key again: budget knows a later policy of it."""
        ...


class TenantKeys(Protocol):
    """What tenants' secrets make: commitments and fingerprints."""

    def known(self, tenant: TenantId) -> TenantKey | None:
        """Return a tenant's key if it is at hand."""
        ...

    async def load(self, tenant: TenantId) -> TenantKey | Problem:
        """Return a tenant's key, or why there is none: nothing can be committed to without it."""
        ...


class ProviderRegistry(Protocol):
    """The registered providers, their prices and their credentials."""

    @property
    def additions(self) -> Additions:
        """What is added to requests, and what providers refused of it."""
        ...

    @property
    def catalogue(self) -> Catalogue:
        """What can be called, and its prices: replaced as a whole when it changes."""
        ...

    def address(self, provider: ProviderId) -> ProviderAddress | None:
        """Return where to call a provider; None: its base URL cannot be used."""
        ...

    def pool(self, provider: ProviderId) -> CredentialPool:
        """Return the credentials of a provider; empty if there are none."""
        ...

    def headers(self, credential: CredentialId) -> HeaderBlock | None:
        """Return the header lines that carry a credential; None if it has been removed."""
        ...

    def redact(self, attempts: Iterable[Attempt], text: bytes) -> bytes:
        """Return what a provider sent without the credentials that it was called with: some quote them in errors."""
        ...


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A reserve that got no answer. `asked` False: it reached no owner, so there is nothing to cancel."""

    asked: bool


class BudgetClient(Protocol):
    """The owners of partitions, who admit requests."""

    async def ask(self, partition: int, reserve: Reserve) -> Answer | Unanswered:
        """Return the owner's verdict. Asking again with the same request id is harmless."""
        ...


class OutcomeLog(Protocol):
    """The edge's own subject in every partition's log."""

    def append(self, partition: int, event: OutcomeEvent) -> None:
        """Take an event to be stored: now if the log accepts it, else as soon as it does."""
        ...

    def unavailable(self, partition: int) -> Problem | None:
        """Return why no request of this partition may begin: its outcome could not be stored."""
        ...

    def has_room(self, partition: int) -> bool:
        """Return whether there is room for more than the outcomes of the requests that run."""
        ...

    def waiting(self) -> int:
        """Return how many events are not known to be stored: they wait, or are on their way to the log."""
        ...

    async def drain(self) -> None:
        """Wait until everything is stored, or nothing can be any more. The caller bounds the time."""
        ...

    def give_up(self) -> int:
        """Store nothing any more; return how many events of its whole life are not known to be stored."""
        ...


class ControlFeed(Protocol):
    """The control subject of every partition's log, which revocations and suspensions come on."""

    def stale(self, partition: int) -> bool:
        """Return whether this edge cannot show that it has read the partition's control subject to its end."""
        ...

    def unreadable(self) -> bool:
        """Return whether any partition holds what this version cannot read: another edge may be able to."""
        ...
