"""Tenants' secrets, wrapped under the commitment secret: who lacks that secret, or moves an entry, opens nothing.

    key     = HKDF-SHA256(commitment secret, no salt, info = "keyforge/tenant-secret/wrap/v1", 32 bytes)
    aad     = version as 4 bytes, big-endian || tenant in UTF-8
    wrapped = base64(nonce || ChaCha20-Poly1305(key, nonce, secret, aad)), the nonce 12 random bytes

ChaCha20-Poly1305 is RFC 8439. With random nonces a key is good for 2^32 messages (a chance of 2^-32 that two share a
nonce, as NIST SP 800-38D bounds it for 96-bit nonces); it wraps one for each tenant and version.
"""

import base64
import binascii
import os
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from keyforge.contracts.ids import TenantId
from keyforge.contracts.tenant_secrets import FIRST_VERSION, SECRET_BYTES, TenantSecrets, WrappedSecret
from keyforge.contracts.unreadable import UNREADABLE

COMMITMENT_SECRET_BYTES_MIN: Final = 32
COMMITMENT_SECRET_BYTES_MAX: Final = 64
"""At least as many as the key that is derived from it, 32, or the secret would be the weaker of the two; more than
twice that adds nothing."""
NONCE_BYTES: Final = 12
"""What ChaCha20-Poly1305 takes (RFC 8439)."""
_INFO: Final = b"keyforge/tenant-secret/wrap/v1"
_ENTRY: Final = msgspec.json.Decoder(TenantSecrets)


class TenantSecretError(ValueError):
    """Not an entry of this tenant's, or one that this commitment secret does not open."""


class SecretWrapper:
    """Wraps and unwraps under one commitment secret."""

    def __init__(self, commitment_secret: bytes) -> None:
        """Take the commitment secret, 32 to 64 bytes. Raises TenantSecretError."""
        if not COMMITMENT_SECRET_BYTES_MIN <= len(commitment_secret) <= COMMITMENT_SECRET_BYTES_MAX:
            raise TenantSecretError("a commitment secret has 32 to 64 bytes")
        key = HKDF(hashes.SHA256(), 32, salt=None, info=_INFO).derive(commitment_secret)
        self._cipher = ChaCha20Poly1305(key)

    def new_entry(self, tenant: TenantId) -> bytes:
        """Return the entry of a tenant that has none yet, with a fresh secret."""
        wrapped = self.wrap(tenant, FIRST_VERSION, os.urandom(SECRET_BYTES))
        entry = TenantSecrets(tenant=tenant, secrets=(WrappedSecret(version=FIRST_VERSION, wrapped=wrapped),))
        return msgspec.json.encode(entry)

    def wrap(self, tenant: TenantId, version: int, secret: bytes) -> str:
        """Return a secret wrapped for this tenant and version."""
        nonce = os.urandom(NONCE_BYTES)
        return base64.b64encode(nonce + self._cipher.encrypt(nonce, secret, _aad(tenant, version))).decode()

    def in_force(self, tenant: TenantId, entry: bytes) -> tuple[int, bytes]:
        """Return the version in force and its secret. Raises TenantSecretError."""
        last = self._read(tenant, entry)[-1]
        return last.version, self._unwrap(tenant, last)

    def every(self, tenant: TenantId, entry: bytes) -> dict[int, bytes]:
        """Return the secret of every version, the one in force last. Raises TenantSecretError."""
        return {one.version: self._unwrap(tenant, one) for one in self._read(tenant, entry)}

    def _read(self, tenant: TenantId, entry: bytes) -> tuple[WrappedSecret, ...]:
        try:
            found = _ENTRY.decode(entry)
        except UNREADABLE as error:
            raise TenantSecretError(f"the secrets of tenant {tenant} cannot be read: {error}") from None
        if found.tenant != tenant or not found.secrets:
            raise TenantSecretError(f"the entry of tenant {tenant} holds no secret of its own")
        return found.secrets

    def _unwrap(self, tenant: TenantId, one: WrappedSecret) -> bytes:
        try:
            data = base64.b64decode(one.wrapped, validate=True)
            secret = self._cipher.decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], _aad(tenant, one.version))
        except (InvalidTag, binascii.Error, ValueError, OverflowError):
            secret = b""
        if len(secret) != SECRET_BYTES:
            raise TenantSecretError(f"the secret of tenant {tenant} does not open with this commitment secret")
        return secret


def _aad(tenant: TenantId, version: int) -> bytes:
    return version.to_bytes(4, "big") + tenant.encode()
