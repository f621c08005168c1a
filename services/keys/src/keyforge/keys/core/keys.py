"""Decisions about virtual keys: a key never grants more than what issued it, and a revocation is final.

A tenant bounds its keys by its limits today, and those are enforced beside the key's own on every request; models and
expiry have no parent yet. A group or a member that issues keys will be one. Names and reasons come in encrypted.
"""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from msgspec import UNSET, UnsetType

from keyforge.contracts.errors import Problem, not_found, problem
from keyforge.contracts.events import KeyCreated, KeyRevoked, KeyUpdated
from keyforge.contracts.ids import KeyId, TokenId
from keyforge.contracts.personal_fields import EncryptedField
from keyforge.keys.core.facts import Key, Tenant
from keyforge.keys.core.limits import NewLimit, limits_of
from keyforge.keys.core.plans import PLANS


class NewKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key as `POST .../keys` requests it, without its name. `models` None: every priced model; empty: none."""

    models: tuple[str, ...] | None = None
    limits: Sequence[NewLimit] = ()
    max_output_tokens: int | None = None
    expires_at: datetime | None = None


class KeyPatch(msgspec.Struct, frozen=True, kw_only=True):
    """A change as `PATCH` requests it, without a name: UNSET keeps a field as it is, None removes a restriction."""

    models: tuple[str, ...] | UnsetType | None = UNSET
    limits: Sequence[NewLimit] | UnsetType | None = UNSET
    max_output_tokens: int | UnsetType | None = UNSET
    expires_at: datetime | UnsetType | None = UNSET


def create(
    tenant: Tenant | None,
    new: NewKey,
    name: EncryptedField,
    *,
    keys_live: int,
    key_id: KeyId,
    digest: str,
    by: TokenId,
    now: datetime,
) -> KeyCreated | Problem:
    """Issue a key, if the tenant's plan has room for one more."""
    if tenant is None:
        return not_found("tenant")
    keys_max = PLANS[tenant.plan].keys_max
    if keys_live >= keys_max:
        return problem(
            "plan_exceeded", f"The plan `{tenant.plan}` allows {keys_max} active keys; revoke one or change `plan`."
        )
    limits = limits_of(new.limits)
    if isinstance(limits, Problem):
        return limits
    if new.expires_at is not None and new.expires_at <= now:
        return _past_expiry()
    return KeyCreated(
        key_id=key_id,
        tenant=tenant.tenant,
        name=name.text,
        digest=digest,
        models=new.models,
        limits=limits,
        max_output_tokens=new.max_output_tokens,
        expires_at=new.expires_at,
        revision=1,
        secret_version=name.secret_version,
        by=by,
    )


def update(
    key: Key | None, patch: KeyPatch, *, name: EncryptedField | None, by: TokenId, now: datetime
) -> KeyUpdated | Problem | None:
    """Change a key's policy; None if nothing would change. `name` None: it stays as it is, ciphertext and version."""
    if key is None:
        return not_found("key")
    if key.status == "revoked":
        return problem("already_revoked")
    limits = key.limits if patch.limits is UNSET else limits_of(patch.limits or ())
    if isinstance(limits, Problem):
        return limits
    expires_at = key.expires_at if patch.expires_at is UNSET else patch.expires_at
    if patch.expires_at is not UNSET and expires_at is not None and expires_at <= now:
        return _past_expiry()
    shown = name or key.name
    updated = KeyUpdated(
        key_id=key.key_id,
        tenant=key.tenant,
        name=shown.text,
        models=key.models if patch.models is UNSET else patch.models,
        limits=limits,
        max_output_tokens=key.max_output_tokens if patch.max_output_tokens is UNSET else patch.max_output_tokens,
        expires_at=expires_at,
        revision=key.version + 1,
        secret_version=shown.secret_version,
        by=by,
    )
    same = name is None and all(getattr(updated, field) == getattr(key, field) for field in _POLICY)
    return None if same else updated


def revoke(key: Key | None, *, reason: EncryptedField | None, by: TokenId) -> KeyRevoked | Problem | None:
    """Revoke a key; None if it is revoked already."""
    if key is None:
        return not_found("key")
    if key.status == "revoked":
        return None
    return KeyRevoked(
        key_id=key.key_id,
        tenant=key.tenant,
        reason=reason.text if reason else None,
        revision=key.version + 1,
        secret_version=reason.secret_version if reason else None,
        by=by,
    )


_POLICY = ("models", "limits", "max_output_tokens", "expires_at")


def _past_expiry() -> Problem:
    return problem("request_invalid", "`expires_at` must be in the future.", param="expires_at")
