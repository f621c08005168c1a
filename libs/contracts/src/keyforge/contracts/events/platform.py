"""The events of what belongs to no tenant: providers, credentials, prices, places of tenants, operators."""

from typing import ClassVar

from keyforge.contracts.events.base import Event, Writer
from keyforge.contracts.ids import CredentialId, ModelName, PriceId, ProviderId, TenantId, TokenId
from keyforge.contracts.usage import UnitPrices
from keyforge.contracts.words import Word


class ProviderRegistered(Event, frozen=True, kw_only=True):
    """A provider can be called, at this address; replaces an earlier registration of the same id.

    `kind` is the preset that was named; what it stood for, or what was given in its place, is in the event.
    """

    TYPE: ClassVar[str] = "keyforge.provider.registered.v1"
    WRITER: ClassVar[Writer] = "platform"

    allow_insecure: bool
    auth: Word
    base_url: str
    by: TokenId
    dialects: tuple[Word, ...]
    kind: Word
    price_feed: str | None
    provider: ProviderId
    revision: int


class CredentialAdded(Event, frozen=True, kw_only=True):
    """A credential was encrypted to the edges' public key. `encrypted` (base64) can be opened by edges alone."""

    TYPE: ClassVar[str] = "keyforge.credential.added.v1"
    WRITER: ClassVar[Writer] = "platform"

    base_url: str
    by: TokenId
    credential: CredentialId
    encrypted: str
    encrypted_to: str
    provider: ProviderId
    quota_group: str
    version: int
    weight: int


class CredentialRevoked(Event, frozen=True, kw_only=True):
    """A credential ended: no edge uses it for another call."""

    TYPE: ClassVar[str] = "keyforge.credential.revoked.v1"
    WRITER: ClassVar[Writer] = "platform"

    by: TokenId
    credential: CredentialId
    provider: ProviderId
    reason: str


class PriceSet(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A model of a provider has this price from here on; it also makes the model known.

    `max_thinking_tokens`: what it may think beside the cap on its output; null: it thinks within it, or not at all;
    written only where it is a number.
    """

    TYPE: ClassVar[str] = "keyforge.price.set.v1"
    WRITER: ClassVar[Writer] = "platform"

    by: TokenId
    context_tokens: int | None
    max_output_tokens: int | None
    max_thinking_tokens: int | None = None
    model: ModelName
    price_id: PriceId
    prices: UnitPrices
    provider: ProviderId
    source: str


class TenantPlaced(Event, frozen=True, kw_only=True):
    """A tenant's id was claimed for a partition: the tenant is created there or not at all."""

    TYPE: ClassVar[str] = "keyforge.tenant.placed.v1"
    WRITER: ClassVar[Writer] = "platform"

    by: TokenId
    partition: int
    tenant: TenantId


class OperatorCreated(Event, frozen=True, kw_only=True):
    """A token for the operators' API was issued. `digest` is its keyed hash (hex)."""

    TYPE: ClassVar[str] = "keyforge.operator.created.v1"
    WRITER: ClassVar[Writer] = "platform"

    by: TokenId
    digest: str
    role: Word
    token_id: TokenId


class OperatorRevoked(Event, frozen=True, kw_only=True):
    """A token for the operators' API ended: no service takes it any more."""

    TYPE: ClassVar[str] = "keyforge.operator.revoked.v1"
    WRITER: ClassVar[Writer] = "platform"

    by: TokenId
    reason: str
    token_id: TokenId
