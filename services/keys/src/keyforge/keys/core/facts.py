"""The facts of keys as frozen values: what an aggregate is after its events. Only `evolve` makes them.

Personal fields stay encrypted, as their events have them: a fold needs no tenant's secret.
"""

from datetime import datetime
from typing import Final

import msgspec

from keyforge.contracts.events import Event, KeyStatus, Role, TenantStatus
from keyforge.contracts.ids import CredentialId, KeyId, ModelName, PriceId, ProviderId, TenantId, TokenId
from keyforge.contracts.limits import Limit
from keyforge.contracts.personal_fields import EncryptedField
from keyforge.contracts.usage import UnitPrices
from keyforge.keys.core import names

PRICE_BYTES: Final = 480
"""What a price takes in its provider's price book beside its names, if every number is as long as it can be:
`test_a_full_price_book_fits_one_message` holds it."""


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """What every aggregate has. `version` counts its events from 1; other services see it as `revision`."""

    id: str
    version: int
    created_at: datetime
    updated_at: datetime

    @property
    def index(self) -> str:
        """The index that lists it."""
        raise LookupError(self.id)

    @property
    def live(self) -> bool:
        """Whether it counts towards a plan, a bound, or the number of admins."""
        return True

    @property
    def shared_bytes(self) -> int:
        """At most how many bytes it takes in an entry that it shares with others; 0 if it shares none."""
        return 0


class Tenant(Fact, frozen=True, kw_only=True):
    """Who pays."""

    tenant: TenantId
    name: EncryptedField
    plan: str
    status: TenantStatus
    partition: int
    limits: tuple[Limit, ...]

    @property
    def index(self) -> str:
        """All tenants."""
        return names.TENANTS


class Placement(Fact, frozen=True, kw_only=True):
    """Which partition a tenant's id was claimed for. Claims are on the platform's subject, which has one order."""

    tenant: TenantId
    partition: int

    @property
    def index(self) -> str:
        """The claims of its partition."""
        return names.placements_in(self.partition)


class Key(Fact, frozen=True, kw_only=True):
    """A virtual key's policy and digest. Its text is stored nowhere. `reason`: why it was revoked."""

    key_id: KeyId
    tenant: TenantId
    name: EncryptedField
    digest: str
    status: KeyStatus
    reason: EncryptedField | None = None
    models: tuple[str, ...] | None
    limits: tuple[Limit, ...]
    max_output_tokens: int | None
    expires_at: datetime | None

    @property
    def index(self) -> str:
        """The keys of its tenant."""
        return names.keys_of(self.tenant)

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
    def index(self) -> str:
        """The resumptions of its tenant."""
        return names.resumptions_of(self.tenant)


class Provider(Fact, frozen=True, kw_only=True):
    """Where requests are sent."""

    provider: ProviderId
    kind: str
    base_url: str
    allow_insecure: bool
    dialects: tuple[str, ...]
    auth: str
    price_feed: str | None

    @property
    def index(self) -> str:
        """All providers."""
        return names.PROVIDERS


class Credential(Fact, frozen=True, kw_only=True):
    """What we show a provider, encrypted to the edges' public key: only edges can open it."""

    credential: CredentialId
    provider: ProviderId
    base_url: str
    encrypted: str
    encrypted_to: str
    weight: int
    quota_group: str
    status: KeyStatus

    @property
    def index(self) -> str:
        """The credentials of its provider."""
        return names.credentials_of(self.provider)

    @property
    def live(self) -> bool:
        """A revoked credential counts towards nothing."""
        return self.status == "active"


class Price(Fact, frozen=True, kw_only=True):
    """What a model costs, and where that comes from."""

    provider: ProviderId
    model: ModelName
    price_id: PriceId
    prices: UnitPrices
    max_output_tokens: int | None
    max_thinking_tokens: int | None = None
    context_tokens: int | None
    source: str

    @property
    def index(self) -> str:
        """The prices of its provider."""
        return names.prices_of(self.provider)

    @property
    def shared_bytes(self) -> int:
        """The same for every price that the model can have."""
        return price_bytes(self.provider, self.model)


class OperatorToken(Fact, frozen=True, kw_only=True):
    """Who may use the operators' API: the digest of a token, and its role."""

    token_id: TokenId
    role: Role
    digest: str
    status: KeyStatus

    @property
    def index(self) -> str:
        """The tokens of its role."""
        return names.operators_of(self.role)

    @property
    def live(self) -> bool:
        """A revoked token counts towards nothing."""
        return self.status == "active"


class Change(msgspec.Struct, frozen=True):
    """An event with its place in the history of its aggregate: what the library calls a domain event."""

    originator_id: str
    originator_version: int
    at: datetime
    event: Event


def price_bytes(provider: str, model: str) -> int:
    """Return how many bytes a model takes, at most, in its provider's price book."""
    return PRICE_BYTES + len(provider) + 2 * len(model)
