"""The fold of keys: a fact and the next event of its history give the next fact."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from msgspec.structs import replace

from keyforge.contracts import events
from keyforge.contracts.events import Event
from keyforge.contracts.personal_fields import EncryptedField
from keyforge.keys.core import facts, names
from keyforge.keys.core.facts import Change, Fact


class HistoryError(ValueError):
    """An event does not follow: its version skips or repeats one, or it changes what was never created."""


def aggregate_of(event: Event) -> str | None:
    """Return the id of the aggregate that an event belongs to; None if it has none, as a fence."""
    name = _AGGREGATE.get(type(event))
    return name(event) if name is not None else None


def evolve(fact: Fact | None, change: Change) -> Fact:
    """Return the fact after `change`. Raises HistoryError."""
    version = fact.version if fact is not None else 0
    if change.originator_version != version + 1:
        raise HistoryError(f"{change.originator_id}: version {change.originator_version} after {version}")
    revision = getattr(change.event, "revision", change.originator_version)
    if aggregate_of(change.event) != change.originator_id or revision != change.originator_version:
        raise HistoryError(f"{change.originator_id}.{change.originator_version}: the envelope names another event")
    kind = type(change.event)
    if fact is None:
        begin = _BEGIN.get(kind)
        if begin is None:
            raise HistoryError(f"{change.originator_id} cannot begin with {kind.TYPE}")
        first: dict[str, Any] = {"id": change.originator_id, "version": 1, "created_at": change.at}
        return begin(change.event, {**first, "updated_at": change.at})
    proceed = _PROCEED.get(kind)
    if proceed is None:
        raise HistoryError(f"{change.originator_id} begins a second time")
    return replace(proceed(fact, change.event), version=change.originator_version, updated_at=_later(fact, change.at))


def _later(fact: Fact, at: datetime) -> datetime:
    return max(fact.updated_at, at)


def _settings_of(event: events.ProviderRegistered) -> dict[str, Any]:
    return {
        "kind": event.kind,
        "base_url": event.base_url,
        "allow_insecure": event.allow_insecure,
        "dialects": event.dialects,
        "auth": event.auth,
        "price_feed": event.price_feed,
    }


def _name(
    event: events.TenantCreated | events.TenantUpdated | events.KeyCreated | events.KeyUpdated,
) -> EncryptedField:
    return EncryptedField(text=event.name, secret_version=event.secret_version)


def _reason(event: events.KeyRevoked) -> EncryptedField | None:
    if event.reason is None or event.secret_version is None:
        return None
    return EncryptedField(text=event.reason, secret_version=event.secret_version)


_AGGREGATE: Final[dict[type[Event], Callable[[Any], str]]] = {
    events.TenantCreated: lambda event: names.tenant_id(event.tenant),
    events.TenantUpdated: lambda event: names.tenant_id(event.tenant),
    events.KeyCreated: lambda event: names.key_id(event.key_id),
    events.KeyUpdated: lambda event: names.key_id(event.key_id),
    events.KeyRevoked: lambda event: names.key_id(event.key_id),
    events.ModelResumed: lambda event: names.resumption_id(event.tenant, event.provider, event.model),
    events.ProviderRegistered: lambda event: names.provider_id(event.provider),
    events.CredentialAdded: lambda event: names.credential_id(event.credential),
    events.CredentialRevoked: lambda event: names.credential_id(event.credential),
    events.PriceSet: lambda event: names.price_id(event.provider, event.model),
    events.TenantPlaced: lambda event: names.placement_id(event.tenant),
    events.OperatorCreated: lambda event: names.operator_id(event.token_id),
    events.OperatorRevoked: lambda event: names.operator_id(event.token_id),
}

_BEGIN: Final[dict[type[Event], Callable[[Any, dict[str, Any]], Fact]]] = {
    events.TenantCreated: lambda event, first: facts.Tenant(
        **first,
        tenant=event.tenant,
        name=_name(event),
        plan=event.plan,
        status="active",
        partition=event.partition,
        limits=event.limits,
    ),
    events.KeyCreated: lambda event, first: facts.Key(
        **first,
        key_id=event.key_id,
        tenant=event.tenant,
        name=_name(event),
        digest=event.digest,
        status="active",
        models=event.models,
        limits=event.limits,
        max_output_tokens=event.max_output_tokens,
        expires_at=event.expires_at,
    ),
    events.ModelResumed: lambda event, first: facts.Resumption(
        **first, tenant=event.tenant, provider=event.provider, model=event.model
    ),
    events.ProviderRegistered: lambda event, first: facts.Provider(
        **first,
        provider=event.provider,
        **_settings_of(event),
    ),
    events.CredentialAdded: lambda event, first: facts.Credential(
        **first,
        credential=event.credential,
        provider=event.provider,
        base_url=event.base_url,
        encrypted=event.encrypted,
        encrypted_to=event.encrypted_to,
        weight=event.weight,
        quota_group=event.quota_group,
        status="active",
    ),
    events.PriceSet: lambda event, first: facts.Price(
        **first,
        provider=event.provider,
        model=event.model,
        price_id=event.price_id,
        prices=event.prices,
        max_output_tokens=event.max_output_tokens,
        max_thinking_tokens=event.max_thinking_tokens,
        context_tokens=event.context_tokens,
        source=event.source,
    ),
    events.TenantPlaced: lambda event, first: facts.Placement(**first, tenant=event.tenant, partition=event.partition),
    events.OperatorCreated: lambda event, first: facts.OperatorToken(
        **first, token_id=event.token_id, role=event.role, digest=event.digest, status="active"
    ),
}

_PROCEED: Final[dict[type[Event], Callable[[Any, Any], Fact]]] = {
    events.TenantUpdated: lambda fact, event: replace(
        fact, name=_name(event), plan=event.plan, status=event.status, limits=event.limits
    ),
    events.KeyUpdated: lambda fact, event: replace(
        fact,
        name=_name(event),
        models=event.models,
        limits=event.limits,
        max_output_tokens=event.max_output_tokens,
        expires_at=event.expires_at,
    ),
    events.KeyRevoked: lambda fact, event: replace(fact, status="revoked", reason=_reason(event)),
    events.ModelResumed: lambda fact, _: fact,
    events.ProviderRegistered: lambda fact, event: replace(fact, **_settings_of(event)),
    events.CredentialRevoked: lambda fact, _: replace(fact, status="revoked"),
    events.OperatorRevoked: lambda fact, _: replace(fact, status="revoked"),
    events.PriceSet: lambda fact, event: replace(
        fact,
        price_id=event.price_id,
        prices=event.prices,
        max_output_tokens=event.max_output_tokens,
        max_thinking_tokens=event.max_thinking_tokens,
        context_tokens=event.context_tokens,
        source=event.source,
    ),
}
