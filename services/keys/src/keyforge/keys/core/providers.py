"""Decisions about providers, their credentials, and operators' tokens."""

from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from keyforge.contracts.errors import Problem, not_found, problem
from keyforge.contracts.events import (
    CredentialAdded,
    CredentialRevoked,
    OperatorCreated,
    OperatorRevoked,
    ProviderRegistered,
    Role,
)
from keyforge.contracts.ids import CredentialId, ProviderId, TokenId
from keyforge.contracts.providers import Auth, Dialect
from keyforge.keys.core.base_url import base_url
from keyforge.keys.core.facts import Credential, OperatorToken, Provider
from keyforge.keys.core.presets import preset_of

CREDENTIALS_MAX = 200
"""Credentials of one provider that are not revoked. Chosen: an edge looks at all of them at every call. Measured: 23 us
where 200 are healthy and weigh the same, a fifth of what its own code takes besides (docs/measured.md)."""
CREDENTIAL_VERSION = 1
"""A credential is never changed: another secret is another credential."""


SETTINGS: Final = ("kind", "base_url", "allow_insecure", "dialects", "auth", "price_feed")
"""What a registration sets."""


class NewProvider(msgspec.Struct, frozen=True, kw_only=True):
    """A provider as `POST /v1/providers` requests it. What is UNSET is that of its kind (`presets`)."""

    provider: ProviderId
    kind: str
    base_url: str
    allow_insecure: bool = False
    dialects: tuple[Dialect, ...] | UnsetType = UNSET
    auth: Auth | UnsetType = UNSET
    price_feed: str | UnsetType | None = UNSET


class EncryptedCredential(msgspec.Struct, frozen=True, kw_only=True):
    """A credential whose secret was encrypted to the edges' public key, whose id is `encrypted_to`."""

    credential: CredentialId
    base_url: str
    encrypted: str
    encrypted_to: str
    weight: int
    quota_group: str


def register(existing: Provider | None, new: NewProvider, *, by: TokenId) -> ProviderRegistered | Problem | None:
    """Register a provider, or change an existing one's settings; None if nothing would change.

    Credentials are encrypted for one base URL: after a change of it they must be added again.
    """
    url = base_url(new.base_url, allow_insecure=new.allow_insecure)
    if isinstance(url, Problem):
        return url
    preset = preset_of(new.kind, new.provider)
    registered = ProviderRegistered(
        provider=new.provider,
        kind=new.kind,
        base_url=url,
        allow_insecure=new.allow_insecure,
        dialects=preset.dialects if new.dialects is UNSET else new.dialects,
        auth=preset.auth if new.auth is UNSET else new.auth,
        price_feed=preset.price_feed if new.price_feed is UNSET else new.price_feed,
        revision=(existing.version if existing else 0) + 1,
        by=by,
    )
    if existing is not None and all(getattr(existing, name) == getattr(registered, name) for name in SETTINGS):
        return None
    return registered


def add_credential(
    provider: Provider | None, new: EncryptedCredential, *, credentials: int, by: TokenId
) -> CredentialAdded | Problem:
    """Add an encrypted credential to a provider."""
    if provider is None:
        return not_found("provider")
    if credentials >= CREDENTIALS_MAX:
        return problem(
            "request_invalid", f"A provider can have at most {CREDENTIALS_MAX} active credentials; revoke one first."
        )
    if new.base_url != provider.base_url:
        return problem("conflict", "The provider's `base_url` changed while the credential was added; add it again.")
    return CredentialAdded(
        credential=new.credential,
        provider=provider.provider,
        base_url=new.base_url,
        encrypted=new.encrypted,
        encrypted_to=new.encrypted_to,
        weight=new.weight,
        quota_group=new.quota_group,
        version=CREDENTIAL_VERSION,
        by=by,
    )


def revoke_credential(
    credential: Credential | None, provider: str, *, reason: str, by: TokenId
) -> CredentialRevoked | Problem | None:
    """Revoke a credential of this provider, even its last; None if it is revoked already."""
    if credential is None or credential.provider != provider:
        return not_found("credential")
    if credential.status == "revoked":
        return None
    return CredentialRevoked(credential=credential.credential, provider=credential.provider, reason=reason, by=by)


def create_operator(
    existing: OperatorToken | None, *, token_id: TokenId, role: Role, digest: str, by: TokenId
) -> OperatorCreated | Problem:
    """Issue a token for the operators' API."""
    if existing is not None:
        return problem("already_exists")
    return OperatorCreated(token_id=token_id, role=role, digest=digest, by=by)


def revoke_operator(
    operator: OperatorToken | None, *, admins_live: int, reason: str, by: TokenId
) -> OperatorRevoked | Problem | None:
    """Revoke an operator's token, even the caller's own; None if it is revoked already.

    `admins_live` counts the active platform admins, this one included: the last cannot be revoked, since nobody could
    change anything after that.
    """
    if operator is None:
        return not_found("operator")
    if operator.status == "revoked":
        return None
    if operator.role == "platform-admin" and admins_live <= 1:
        return problem("last_admin")
    return OperatorRevoked(token_id=operator.token_id, reason=reason, by=by)
