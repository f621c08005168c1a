"""Decisions about virtual keys: child <= parent on every path that changes a policy, and revoked is for good.

What a key's parent, the tenant, bounds today are its limits, and those are enforced beside the key's own on every
request; models and expiry have no parent yet. A group or a member that issues keys will be one.
"""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from msgspec import UNSET, UnsetType

from keyforge.contracts.errors import Problem, problem
from keyforge.contracts.events import KeyCreated, KeyRevoked, KeyUpdated
from keyforge.contracts.ids import KeyId, TokenId
from keyforge.keys.core.facts import Key, Tenant
from keyforge.keys.core.limits import LimitAsk, limits_of
from keyforge.keys.core.plans import PLANS


class NewKey(msgspec.Struct, frozen=True, kw_only=True):
    """What `POST .../keys` asks for. `models` None: every priced model; empty: none."""

    name: str
    models: tuple[str, ...] | None = None
    limits: Sequence[LimitAsk] = ()
    max_output_tokens: int | None = None
    expires_at: datetime | None = None


class KeyPatch(msgspec.Struct, frozen=True, kw_only=True):
    """What `PATCH` asks for: what is UNSET stays as it is, None takes a restriction away."""

    name: str | UnsetType = UNSET
    models: tuple[str, ...] | UnsetType | None = UNSET
    limits: Sequence[LimitAsk] | UnsetType | None = UNSET
    max_output_tokens: int | UnsetType | None = UNSET
    expires_at: datetime | UnsetType | None = UNSET


def create(
    tenant: Tenant | None, ask: NewKey, *, keys_live: int, key_id: KeyId, digest: str, by: TokenId, now: datetime
) -> KeyCreated | Problem:
    """Issue a key, if the tenant's plan has room for one more."""
    if tenant is None:
        return problem("not_found")
    keys_max = PLANS[tenant.plan].keys_max
    if keys_live >= keys_max:
        return problem("plan_exceeded", f"The plan {tenant.plan} allows {keys_max} keys.")
    limits = limits_of(ask.limits)
    if isinstance(limits, Problem):
        return limits
    if ask.expires_at is not None and ask.expires_at <= now:
        return _in_the_past()
    return KeyCreated(
        key_id=key_id,
        tenant=tenant.tenant,
        name=ask.name,
        digest=digest,
        models=ask.models,
        limits=limits,
        max_output_tokens=ask.max_output_tokens,
        expires_at=ask.expires_at,
        revision=1,
        by=by,
    )


def update(key: Key | None, patch: KeyPatch, *, by: TokenId, now: datetime) -> KeyUpdated | Problem | None:
    """Change a key's policy; None if it is so already."""
    if key is None:
        return problem("not_found")
    if key.status == "revoked":
        return problem("already_revoked")
    limits = key.limits if patch.limits is UNSET else limits_of(patch.limits or ())
    if isinstance(limits, Problem):
        return limits
    expires_at = key.expires_at if patch.expires_at is UNSET else patch.expires_at
    if patch.expires_at is not UNSET and expires_at is not None and expires_at <= now:
        return _in_the_past()
    updated = KeyUpdated(
        key_id=key.key_id,
        tenant=key.tenant,
        name=key.name if patch.name is UNSET else patch.name,
        models=key.models if patch.models is UNSET else patch.models,
        limits=limits,
        max_output_tokens=key.max_output_tokens if patch.max_output_tokens is UNSET else patch.max_output_tokens,
        expires_at=expires_at,
        revision=key.version + 1,
        by=by,
    )
    same = all(getattr(updated, field) == getattr(key, field) for field in _POLICY)
    return None if same else updated


def revoke(key: Key | None, *, reason: str, by: TokenId) -> KeyRevoked | Problem | None:
    """End a key; None if it has ended already."""
    if key is None:
        return problem("not_found")
    if key.status == "revoked":
        return None
    return KeyRevoked(key_id=key.key_id, tenant=key.tenant, reason=reason, revision=key.version + 1, by=by)


_POLICY = ("name", "models", "limits", "max_output_tokens", "expires_at")


def _in_the_past() -> Problem:
    return problem("request_invalid", "This moment is past.", param="expires_at")
