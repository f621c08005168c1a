"""Decisions about providers, their credentials, and operators."""

import msgspec

from keyforge.contracts.errors import Problem, problem
from keyforge.contracts.events import (
    CredentialAdded,
    CredentialRevoked,
    OperatorCreated,
    OperatorRevoked,
    ProviderRegistered,
    Role,
)
from keyforge.contracts.ids import CredentialId, ProviderId, TokenId
from keyforge.keys.core.base_url import base_url
from keyforge.keys.core.facts import Credential, Operator, Provider

CREDENTIALS_MAX = 200
"""Credentials of one provider that are not revoked."""
VERSION = 1
"""A credential is never changed: another secret is another credential."""


class NewProvider(msgspec.Struct, frozen=True, kw_only=True):
    """What `POST /v1/providers` asks for."""

    provider: ProviderId
    kind: str
    base_url: str
    allow_insecure: bool = False


class SealedCredential(msgspec.Struct, frozen=True, kw_only=True):
    """A credential after its secret was sealed to the edges."""

    credential: CredentialId
    base_url: str
    sealed: str
    sealed_to: str
    weight: int
    quota_group: str


def register(existing: Provider | None, ask: NewProvider, *, by: TokenId) -> ProviderRegistered | Problem | None:
    """Register a provider, or give an existing one these settings; None if it has them.

    Credentials are sealed to a base URL: after a new one they must be added again.
    """
    url = base_url(ask.base_url, allow_insecure=ask.allow_insecure)
    if isinstance(url, Problem):
        return url
    registered = ProviderRegistered(
        provider=ask.provider,
        kind=ask.kind,
        base_url=url,
        allow_insecure=ask.allow_insecure,
        revision=(existing.version if existing else 0) + 1,
        by=by,
    )
    if existing is not None and (existing.kind, existing.base_url, existing.allow_insecure) == (
        registered.kind,
        registered.base_url,
        registered.allow_insecure,
    ):
        return None
    return registered


def add_credential(
    provider: Provider | None, ask: SealedCredential, *, credentials: int, by: TokenId
) -> CredentialAdded | Problem:
    """Add a sealed credential to a provider."""
    if provider is None:
        return problem("not_found")
    if credentials >= CREDENTIALS_MAX:
        return problem("request_invalid", f"A provider has at most {CREDENTIALS_MAX} credentials.")
    if ask.base_url != provider.base_url:
        return problem("conflict", "The provider's base URL changed at the same moment.")
    return CredentialAdded(
        credential=ask.credential,
        provider=provider.provider,
        base_url=ask.base_url,
        sealed=ask.sealed,
        sealed_to=ask.sealed_to,
        weight=ask.weight,
        quota_group=ask.quota_group,
        version=VERSION,
        by=by,
    )


def revoke_credential(
    credential: Credential | None, provider: str, *, reason: str, by: TokenId
) -> CredentialRevoked | Problem | None:
    """End a credential of this provider, be it the last; None if it has ended already."""
    if credential is None or credential.provider != provider:
        return problem("not_found")
    if credential.status == "revoked":
        return None
    return CredentialRevoked(credential=credential.credential, provider=credential.provider, reason=reason, by=by)


def create_operator(
    existing: Operator | None, *, token_id: TokenId, role: Role, digest: str, by: TokenId
) -> OperatorCreated | Problem:
    """Issue a token for the operators' API."""
    if existing is not None:
        return problem("already_exists")
    return OperatorCreated(token_id=token_id, role=role, digest=digest, by=by)


def revoke_operator(
    operator: Operator | None, *, admins_live: int, reason: str, by: TokenId
) -> OperatorRevoked | Problem | None:
    """End an operator's token, one's own too; None if it has ended already.

    `admins_live` platform admins are left, this one among them: the last stays, or nobody could change anything again.
    """
    if operator is None:
        return problem("not_found")
    if operator.status == "revoked":
        return None
    if operator.role == "platform-admin" and admins_live <= 1:
        return problem("last_admin")
    return OperatorRevoked(token_id=operator.token_id, reason=reason, by=by)
