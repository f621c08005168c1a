"""Renders facts as the responses of the operators' API."""

from keyforge.contracts import money
from keyforge.contracts.limits import Limit
from keyforge.keys.application.personal_fields import OpenedKey, OpenedTenant
from keyforge.keys.core import facts
from keyforge.keys.core.limits import cap_text
from keyforge.keys.inbound import responses


def tenant(opened: OpenedTenant) -> responses.TenantResponse:
    """Render a tenant."""
    fact = opened.tenant
    return responses.TenantResponse(
        id=fact.tenant,
        name=opened.name,
        plan=fact.plan,
        status=fact.status,
        limits=_limits(fact.limits),
        partition=fact.partition,
        revision=fact.version,
        created_at=fact.created_at,
        updated_at=fact.updated_at,
    )


def key(opened: OpenedKey) -> responses.KeyResponse:
    """Render a key."""
    fact = opened.key
    return responses.KeyResponse(
        id=fact.key_id,
        tenant=fact.tenant,
        name=opened.name,
        status=fact.status,
        reason=opened.reason,
        models=None if fact.models is None else list(fact.models),
        limits=_limits(fact.limits),
        max_output_tokens=fact.max_output_tokens,
        expires_at=fact.expires_at,
        revision=fact.version,
        created_at=fact.created_at,
        updated_at=fact.updated_at,
    )


def issued_key(opened: OpenedKey, text: str) -> responses.IssuedKeyResponse:
    """Render a key that was just created."""
    return responses.IssuedKeyResponse(**key(opened).model_dump(), key=text)


def provider(fact: facts.Provider) -> responses.ProviderResponse:
    """Render a provider."""
    return responses.ProviderResponse(
        id=fact.provider,
        kind=fact.kind,
        base_url=fact.base_url,
        allow_insecure=fact.allow_insecure,
        dialects=list(fact.dialects),
        auth=fact.auth,
        price_feed=fact.price_feed,
        revision=fact.version,
        created_at=fact.created_at,
        updated_at=fact.updated_at,
    )


def credential(fact: facts.Credential) -> responses.CredentialResponse:
    """Render a credential, without its secret."""
    return responses.CredentialResponse(
        id=fact.credential,
        provider=fact.provider,
        base_url=fact.base_url,
        weight=fact.weight,
        quota_group=fact.quota_group,
        status=fact.status,
        created_at=fact.created_at,
        updated_at=fact.updated_at,
    )


def operator(fact: facts.OperatorToken) -> responses.OperatorResponse:
    """Render an operator's token, without its text."""
    return responses.OperatorResponse(
        id=fact.token_id, role=fact.role, status=fact.status, created_at=fact.created_at, updated_at=fact.updated_at
    )


def issued_token(fact: facts.OperatorToken, text: str) -> responses.IssuedTokenResponse:
    """Render a token that was just created."""
    return responses.IssuedTokenResponse(**operator(fact).model_dump(), token=text)


def price(fact: facts.Price) -> responses.PriceResponse:
    """Render a price."""
    return responses.PriceResponse(
        provider=fact.provider,
        model=fact.model,
        price_id=fact.price_id,
        input_per_mtok=money.usd(fact.prices.input_nusd),
        output_per_mtok=money.usd(fact.prices.output_nusd),
        cache_read_per_mtok=money.usd(fact.prices.cache_read_nusd),
        cache_write_per_mtok=money.usd(fact.prices.cache_write_nusd),
        cache_write_1h_per_mtok=money.usd(fact.prices.cache_write_1h_nusd),
        reasoning_per_mtok=money.usd(fact.prices.reasoning_nusd),
        input_audio_per_mtok=money.usd(fact.prices.input_audio_nusd),
        output_audio_per_mtok=money.usd(fact.prices.output_audio_nusd),
        per_request=money.usd(fact.prices.request_nusd),
        max_output_tokens=fact.max_output_tokens,
        max_thinking_tokens=fact.max_thinking_tokens,
        context_tokens=fact.context_tokens,
        source=fact.source,
        updated_at=fact.updated_at,
    )


def _limits(limits: tuple[Limit, ...]) -> list[responses.LimitResponse]:
    return [responses.LimitResponse(unit=limit.unit, window=limit.window, cap=cap_text(limit)) for limit in limits]
