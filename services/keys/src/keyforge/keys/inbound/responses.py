"""What the operators' API responds with, as OpenAPI shows it. No response has a field for a secret, except `key` and
`token` of what was just created."""

from datetime import datetime

from pydantic import BaseModel

from keyforge.contracts.events import KeyStatus, Role, TenantStatus


class LimitResponse(BaseModel):
    """A cap on a unit over a window."""

    unit: str
    window: str
    cap: str | int


class TenantResponse(BaseModel):
    """A tenant. `name` is null if it was forgotten."""

    id: str
    name: str | None
    plan: str
    status: TenantStatus
    limits: list[LimitResponse]
    partition: int
    revision: int
    created_at: datetime
    updated_at: datetime


class KeyResponse(BaseModel):
    """A key's policy. `reason`: why it was revoked. `name` and `reason` are null if its tenant was forgotten."""

    id: str
    tenant: str
    name: str | None
    status: KeyStatus
    reason: str | None
    models: list[str] | None
    limits: list[LimitResponse]
    max_output_tokens: int | None
    expires_at: datetime | None
    revision: int
    created_at: datetime
    updated_at: datetime


class IssuedKeyResponse(KeyResponse):
    """A key that was just created. `key` is returned this once."""

    key: str


class ResumedResponse(BaseModel):
    """A freeze that was lifted."""

    tenant: str
    provider: str
    model: str


class ProviderResponse(BaseModel):
    """A provider."""

    id: str
    kind: str
    base_url: str
    allow_insecure: bool
    dialects: list[str]
    auth: str
    price_feed: str | None
    revision: int
    created_at: datetime
    updated_at: datetime


class CredentialResponse(BaseModel):
    """A credential, without its secret. `base_url` is what it was encrypted for."""

    id: str
    provider: str
    base_url: str
    weight: int
    quota_group: str
    status: KeyStatus
    created_at: datetime
    updated_at: datetime


class PriceResponse(BaseModel):
    """What a model costs, in dollars per million tokens and per request."""

    provider: str
    model: str
    price_id: str
    input_per_mtok: str
    output_per_mtok: str
    cache_read_per_mtok: str
    cache_write_per_mtok: str
    cache_write_1h_per_mtok: str
    reasoning_per_mtok: str
    input_audio_per_mtok: str
    output_audio_per_mtok: str
    per_request: str
    max_output_tokens: int | None
    max_thinking_tokens: int | None
    context_tokens: int | None
    source: str
    updated_at: datetime


class OperatorResponse(BaseModel):
    """A token of this API, without its text."""

    id: str
    role: Role
    status: KeyStatus
    created_at: datetime
    updated_at: datetime


class IssuedTokenResponse(OperatorResponse):
    """A token that was just created. `token` is returned this once."""

    token: str


class TenantsResponse(BaseModel):
    """Tenants; `next` is the `after` of the next page, null on the last."""

    tenants: list[TenantResponse]
    next: str | None


class KeysResponse(BaseModel):
    """Keys; `next` is the `after` of the next page, null on the last."""

    keys: list[KeyResponse]
    next: str | None


class ProvidersResponse(BaseModel):
    """Providers; `next` is the `after` of the next page, null on the last."""

    providers: list[ProviderResponse]
    next: str | None


class CredentialsResponse(BaseModel):
    """Credentials; `next` is the `after` of the next page, null on the last."""

    credentials: list[CredentialResponse]
    next: str | None


class OperatorsResponse(BaseModel):
    """Tokens of this API; `next` is the `after` of the next page, null on the last."""

    operators: list[OperatorResponse]
    next: str | None


class PricesResponse(BaseModel):
    """Prices; `next` is the `after` of the next page, null on the last."""

    prices: list[PriceResponse]
    next: str | None
