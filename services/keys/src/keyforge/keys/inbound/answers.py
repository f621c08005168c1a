"""What the operators' API answers with, in the shape that OpenAPI shows. No answer has a field for a secret but one:
`key` and `token`, of what was just made."""

from datetime import datetime

from pydantic import BaseModel

from keyforge.contracts import money
from keyforge.contracts.events import KeyStatus, Role, TenantStatus
from keyforge.contracts.limits import Limit, Unit, Window
from keyforge.keys.core import facts
from keyforge.keys.core.limits import cap_text


class LimitAnswer(BaseModel):
    """A cap on a unit over a window."""

    unit: Unit
    window: Window
    cap: str | int


class TenantAnswer(BaseModel):
    """A tenant."""

    id: str
    name: str
    plan: str
    status: TenantStatus
    limits: list[LimitAnswer]
    partition: int
    revision: int
    created_at: datetime
    updated_at: datetime


class KeyAnswer(BaseModel):
    """A key's policy."""

    id: str
    tenant: str
    name: str
    status: KeyStatus
    models: list[str] | None
    limits: list[LimitAnswer]
    max_output_tokens: int | None
    expires_at: datetime | None
    revision: int
    created_at: datetime
    updated_at: datetime


class IssuedKeyAnswer(KeyAnswer):
    """A key that was just made. `key` is shown this once."""

    key: str


class ResumedAnswer(BaseModel):
    """A freeze that was lifted."""

    tenant: str
    provider: str
    model: str


class ProviderAnswer(BaseModel):
    """A provider."""

    id: str
    kind: str
    base_url: str
    allow_insecure: bool
    revision: int
    created_at: datetime
    updated_at: datetime


class CredentialAnswer(BaseModel):
    """A credential, without what it holds. `base_url` is what it was sealed for."""

    id: str
    provider: str
    base_url: str
    weight: int
    quota_group: str
    status: KeyStatus
    created_at: datetime
    updated_at: datetime


class PriceAnswer(BaseModel):
    """What a model costs, in dollars per million tokens and per request."""

    provider: str
    model: str
    price_id: str
    input_per_mtok: str
    output_per_mtok: str
    cache_read_per_mtok: str
    cache_write_per_mtok: str
    reasoning_per_mtok: str
    input_audio_per_mtok: str
    output_audio_per_mtok: str
    per_request: str
    max_output_tokens: int | None
    context_tokens: int | None
    source: str
    updated_at: datetime


class OperatorAnswer(BaseModel):
    """A token of this API, without its text."""

    id: str
    role: Role
    status: KeyStatus
    created_at: datetime
    updated_at: datetime


class IssuedTokenAnswer(OperatorAnswer):
    """A token that was just made. `token` is shown this once."""

    token: str


class TenantPage(BaseModel):
    """Tenants; `next` is the `after` of the next page, null at the end."""

    data: list[TenantAnswer]
    next: str | None


class KeyPage(BaseModel):
    """Keys; `next` is the `after` of the next page, null at the end."""

    data: list[KeyAnswer]
    next: str | None


class ProviderPage(BaseModel):
    """Providers; `next` is the `after` of the next page, null at the end."""

    data: list[ProviderAnswer]
    next: str | None


class CredentialPage(BaseModel):
    """Credentials; `next` is the `after` of the next page, null at the end."""

    data: list[CredentialAnswer]
    next: str | None


class OperatorPage(BaseModel):
    """Tokens of this API; `next` is the `after` of the next page, null at the end."""

    data: list[OperatorAnswer]
    next: str | None


class PricePage(BaseModel):
    """Prices; `next` is the `after` of the next page, null at the end."""

    data: list[PriceAnswer]
    next: str | None


def tenant(fact: facts.Tenant) -> TenantAnswer:
    """Write a tenant."""
    return TenantAnswer(
        id=fact.tenant,
        name=fact.name,
        plan=fact.plan,
        status=fact.status,
        limits=_limits(fact.limits),
        partition=fact.partition,
        revision=fact.version,
        created_at=fact.created_at,
        updated_at=fact.updated_at,
    )


def key(fact: facts.Key) -> KeyAnswer:
    """Write a key."""
    return KeyAnswer(
        id=fact.key_id,
        tenant=fact.tenant,
        name=fact.name,
        status=fact.status,
        models=None if fact.models is None else list(fact.models),
        limits=_limits(fact.limits),
        max_output_tokens=fact.max_output_tokens,
        expires_at=fact.expires_at,
        revision=fact.version,
        created_at=fact.created_at,
        updated_at=fact.updated_at,
    )


def issued_key(fact: facts.Key, text: str) -> IssuedKeyAnswer:
    """Write a key that was just made."""
    return IssuedKeyAnswer(**key(fact).model_dump(), key=text)


def provider(fact: facts.Provider) -> ProviderAnswer:
    """Write a provider."""
    return ProviderAnswer(
        id=fact.provider,
        kind=fact.kind,
        base_url=fact.base_url,
        allow_insecure=fact.allow_insecure,
        revision=fact.version,
        created_at=fact.created_at,
        updated_at=fact.updated_at,
    )


def credential(fact: facts.Credential) -> CredentialAnswer:
    """Write a credential, without what it holds."""
    return CredentialAnswer(
        id=fact.credential,
        provider=fact.provider,
        base_url=fact.base_url,
        weight=fact.weight,
        quota_group=fact.quota_group,
        status=fact.status,
        created_at=fact.created_at,
        updated_at=fact.updated_at,
    )


def operator(fact: facts.Operator) -> OperatorAnswer:
    """Write an operator's token, without its text."""
    return OperatorAnswer(
        id=fact.token_id, role=fact.role, status=fact.status, created_at=fact.created_at, updated_at=fact.updated_at
    )


def issued_token(fact: facts.Operator, text: str) -> IssuedTokenAnswer:
    """Write a token that was just made."""
    return IssuedTokenAnswer(**operator(fact).model_dump(), token=text)


def price(fact: facts.Price) -> PriceAnswer:
    """Write a price."""
    return PriceAnswer(
        provider=fact.provider,
        model=fact.model,
        price_id=fact.price_id,
        input_per_mtok=money.usd(fact.prices.input_nusd),
        output_per_mtok=money.usd(fact.prices.output_nusd),
        cache_read_per_mtok=money.usd(fact.prices.cache_read_nusd),
        cache_write_per_mtok=money.usd(fact.prices.cache_write_nusd),
        reasoning_per_mtok=money.usd(fact.prices.reasoning_nusd),
        input_audio_per_mtok=money.usd(fact.prices.input_audio_nusd),
        output_audio_per_mtok=money.usd(fact.prices.output_audio_nusd),
        per_request=money.usd(fact.prices.request_nusd),
        max_output_tokens=fact.max_output_tokens,
        context_tokens=fact.context_tokens,
        source=fact.source,
        updated_at=fact.updated_at,
    )


def _limits(limits: tuple[Limit, ...]) -> list[LimitAnswer]:
    return [LimitAnswer(unit=limit.unit, window=limit.window, cap=cap_text(limit)) for limit in limits]
