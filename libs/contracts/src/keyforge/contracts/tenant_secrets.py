"""The secret of a tenant, as it is stored, and the keys that are derived from it (docs/spec/tenant-secrets.md).

Random, made before the tenant, kept wrapped in TENANT_SECRETS_BUCKET: forgetting it makes a tenant's commitments,
fingerprints and personal fields in the log say nothing, and nobody else's. It is no projection of the log.
"""

import hmac
from typing import Final, Literal

import msgspec

from keyforge.contracts.ids import TenantId

SECRET_BYTES: Final = 32
FIRST_VERSION: Final = 1

Purpose = Literal["commitment", "field", "fingerprint"]
"""What a derived key is for; `field`: the personal fields of events (`contracts.personal_fields`)."""

_DOMAIN: Final = b"keyforge/tenant-secret/v1\0"


class WrappedSecret(msgspec.Struct, frozen=True, kw_only=True):
    """One version, encrypted (base64). Events name the version that they were made under."""

    version: int
    wrapped: str


class TenantSecrets(msgspec.Struct, frozen=True, kw_only=True):
    """TENANT_SECRETS_BUCKET, by tenant: every version that an event may name, the one in force last."""

    tenant: TenantId
    secrets: tuple[WrappedSecret, ...]


def derive(secret: bytes, purpose: Purpose) -> bytes:
    """Return the key for a purpose: HMAC-SHA256(secret, domain || purpose), 32 bytes."""
    return hmac.digest(secret, _DOMAIN + purpose.encode(), "sha256")
