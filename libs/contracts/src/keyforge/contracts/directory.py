"""What the service `keys` projects into KV buckets: keys, tokens, providers, prices, encrypted credentials; and leases.

Every entry is a projection of the log and may lag. Nothing that protects money or revocation relies on it.
"""

from datetime import datetime
from typing import Final

import msgspec

from keyforge.contracts.events import KeyStatus
from keyforge.contracts.ids import CredentialId, KeyId, ModelName, OwnerId, PriceId, ProviderId, TenantId, TokenId
from keyforge.contracts.usage import UnitPrices
from keyforge.contracts.words import Word


class KeyEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """DIRECTORY_BUCKET, by key id: what an edge needs to know about a key."""

    key_id: KeyId
    tenant: TenantId
    partition: int
    digest: str
    status: KeyStatus
    models: tuple[str, ...] | None
    max_output_tokens: int | None
    expires_at: datetime | None
    revision: int


class TokenEntry(msgspec.Struct, frozen=True, kw_only=True):
    """TOKENS_BUCKET, by token id: a token of the operators' API. A revoked one stays, so that it cannot return."""

    token_id: TokenId
    digest: str
    role: Word
    status: KeyStatus = "active"


class ProviderEntry(msgspec.Struct, frozen=True, kw_only=True):
    """PROVIDERS_BUCKET, by provider id."""

    provider: ProviderId
    kind: str
    base_url: str
    allow_insecure: bool
    revision: int
    dialects: tuple[str, ...] = ("openai-chat",)
    auth: str = "bearer"


class PriceEntry(msgspec.Struct, frozen=True, kw_only=True):
    """The price of one model. `max_thinking_tokens`: what it may think beside the cap on its output."""

    price_id: PriceId
    prices: UnitPrices
    max_output_tokens: int | None
    context_tokens: int | None
    max_thinking_tokens: int | None = None


class PriceBook(msgspec.Struct, frozen=True, kw_only=True):
    """PRICES_BUCKET, by provider id: all its models with a price. A model without one cannot be called."""

    provider: ProviderId
    models: dict[ModelName, PriceEntry]


class CredentialEntry(msgspec.Struct, frozen=True, kw_only=True):
    """CREDENTIALS_BUCKET, by "<provider>.<credential>": encrypted, bound to id, version, provider and base URL.

    A revoked one stays, so that it cannot return, with an empty `encrypted`.
    """

    credential: CredentialId
    provider: ProviderId
    base_url: str
    encrypted: str
    encrypted_to: str
    weight: int
    quota_group: str
    version: int
    status: KeyStatus = "active"


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """LEASES_BUCKET, by partition: who answers reserves, and in which epoch. Liveness only, never safety."""

    partition: int
    epoch: int
    owner: OwnerId


_ENCODER: Final = msgspec.json.Encoder()


def encode(entry: msgspec.Struct) -> bytes:
    """Return an entry as JSON. `msgspec.json.decode(data, type=...)` reads it."""
    return _ENCODER.encode(entry)
