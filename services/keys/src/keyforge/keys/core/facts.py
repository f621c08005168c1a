"""The things that keys knows, as frozen values: what an aggregate is after its events. `evolve` is the only way to one.

An aggregate's id has its kind in front, `tenant:acme`, so that no two kinds can share one; an event's id is that and
its version, `tenant:acme.3`, in the log's envelope as well.
"""

from datetime import datetime
from typing import Final

import msgspec

from keyforge.contracts.events import Event, KeyStatus, Role, TenantStatus
from keyforge.contracts.ids import CredentialId, KeyId, ModelName, PriceId, ProviderId, TenantId, TokenId
from keyforge.contracts.limits import Limit
from keyforge.contracts.usage import UnitPrices

TENANTS: Final = "tenants"
PROVIDERS: Final = "providers"
PRICE_BYTES: Final = 480
"""What a price takes in its provider's price book beside its names, were every number as long as it can be."""


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """What every aggregate has. `version` counts its events from 1; it is the `revision` that other services see."""

    id: str
    version: int
    created_at: datetime
    updated_at: datetime

    @property
    def shelf(self) -> str:
        """The list that it is found in."""
        raise LookupError(self.id)

    @property
    def live(self) -> bool:
        """Whether it counts: towards a plan, a bound, the admins there are."""
        return True

    @property
    def shared_bytes(self) -> int:
        """At most how many bytes it takes in an entry that holds others, too; 0: it has its own, or none."""
        return 0


class Tenant(Fact, frozen=True, kw_only=True):
    """Who pays."""

    tenant: TenantId
    name: str
    plan: str
    status: TenantStatus
    partition: int
    limits: tuple[Limit, ...]

    @property
    def shelf(self) -> str:
        """The list of tenants."""
        return TENANTS


class Placement(Fact, frozen=True, kw_only=True):
    """Where a tenant lies, or will once it is made. Ids are claimed on the platform's subject, which has one order."""

    tenant: TenantId
    partition: int

    @property
    def shelf(self) -> str:
        """The list of its partition's claims."""
        return placements_in(self.partition)


class Key(Fact, frozen=True, kw_only=True):
    """What an agent shows us, as policy: its text is nowhere."""

    key_id: KeyId
    tenant: TenantId
    name: str
    digest: str
    status: KeyStatus
    models: tuple[str, ...] | None
    limits: tuple[Limit, ...]
    max_output_tokens: int | None
    expires_at: datetime | None

    @property
    def shelf(self) -> str:
        """The list of its tenant's keys."""
        return keys_of(self.tenant)

    @property
    def live(self) -> bool:
        """A revoked key counts towards nothing."""
        return self.status == "active"


class Resumption(Fact, frozen=True, kw_only=True):
    """How often a model's freeze was lifted for a tenant."""

    tenant: TenantId
    provider: ProviderId
    model: ModelName

    @property
    def shelf(self) -> str:
        """The list of its tenant's resumptions."""
        return f"resumptions/{self.tenant}"


class Provider(Fact, frozen=True, kw_only=True):
    """Where requests are sent."""

    provider: ProviderId
    kind: str
    base_url: str
    allow_insecure: bool

    @property
    def shelf(self) -> str:
        """The list of providers."""
        return PROVIDERS


class Credential(Fact, frozen=True, kw_only=True):
    """What we show a provider, sealed: only edges can open it."""

    credential: CredentialId
    provider: ProviderId
    base_url: str
    sealed: str
    sealed_to: str
    weight: int
    quota_group: str
    status: KeyStatus

    @property
    def shelf(self) -> str:
        """The list of its provider's credentials."""
        return credentials_of(self.provider)

    @property
    def live(self) -> bool:
        """A revoked credential counts towards nothing."""
        return self.status == "active"


class Price(Fact, frozen=True, kw_only=True):
    """What a model costs, and who says so."""

    provider: ProviderId
    model: ModelName
    price_id: PriceId
    prices: UnitPrices
    max_output_tokens: int | None
    context_tokens: int | None
    source: str

    @property
    def shelf(self) -> str:
        """The list of its provider's prices."""
        return prices_of(self.provider)

    @property
    def shared_bytes(self) -> int:
        """The same for every price that the model can have."""
        return price_bytes(self.provider, self.model)


class Operator(Fact, frozen=True, kw_only=True):
    """Who may use the operators' API: the digest of a token, and what it may do."""

    token_id: TokenId
    role: Role
    digest: str
    status: KeyStatus

    @property
    def shelf(self) -> str:
        """The list of operators of its role."""
        return operators_of(self.role)

    @property
    def live(self) -> bool:
        """A revoked token is nobody's."""
        return self.status == "active"


class Change(msgspec.Struct, frozen=True):
    """An event with its place in the history of its aggregate: what the library calls a domain event."""

    originator_id: str
    originator_version: int
    at: datetime
    event: Event


def placements_in(partition: int) -> str:
    """Return the list of what was placed in a partition."""
    return f"placements/{partition}"


def keys_of(tenant: str) -> str:
    """Return the list of a tenant's keys."""
    return f"keys/{tenant}"


def credentials_of(provider: str) -> str:
    """Return the list of a provider's credentials."""
    return f"credentials/{provider}"


def operators_of(role: Role) -> str:
    """Return the list of operators of a role."""
    return f"operators/{role}"


def prices_of(provider: str) -> str:
    """Return the list of a provider's prices."""
    return f"prices/{provider}"


def price_bytes(provider: str, model: str) -> int:
    """Return how many bytes a model takes in its provider's price book at most."""
    return PRICE_BYTES + len(provider) + 2 * len(model)


def tenant_id(tenant: str) -> str:
    """Return the aggregate id of a tenant."""
    return f"tenant:{tenant}"


def placement_id(tenant: str) -> str:
    """Return the aggregate id of the claim of a tenant's id."""
    return f"placement:{tenant}"


def key_id(key: str) -> str:
    """Return the aggregate id of a key."""
    return f"key:{key}"


def resumption_id(tenant: str, provider: str, model: str) -> str:
    """Return the aggregate id of the freezes that were lifted from a model for a tenant."""
    return f"resumption:{tenant}/{provider}/{model}"


def provider_id(provider: str) -> str:
    """Return the aggregate id of a provider."""
    return f"provider:{provider}"


def credential_id(credential: str) -> str:
    """Return the aggregate id of a credential."""
    return f"credential:{credential}"


def price_id(provider: str, model: str) -> str:
    """Return the aggregate id of a model's price."""
    return f"price:{provider}/{model}"


def operator_id(token: str) -> str:
    """Return the aggregate id of an operator."""
    return f"operator:{token}"
