"""Salted commitments to what was asked and answered: provable with the text, meaningless without it.

    secret = HMAC-SHA256(the tenant's commitment key, request id)        32 bytes
    commitment to the request's body  = hex SHA-256(secret[:16] || body)
    commitment to the answer's body   = hex SHA-256(secret[16:] || body)

The tenant's keys are derived from its secret (docs/spec/tenant-secrets.md); no salt is stored anywhere.
"""

import hashlib
import hmac
from typing import Final

from keyforge.contracts.ids import KeyId, RequestId
from keyforge.contracts.tenant_secrets import derive

_BLOCK_BYTES: Final = 64
"""The block of SHA-256 (FIPS 180-4)."""


class TenantKey:
    """What a tenant's secret makes. `version` is the secret's; events name it beside what was made with it.

    The two hashes of HMAC (RFC 2104) are begun once, which saves most of its price.
    """

    __slots__ = ("_fingerprints", "_inner", "_outer", "version")

    def __init__(self, version: int, secret: bytes) -> None:
        self.version = version
        self._fingerprints = derive(secret, "fingerprint")
        block = derive(secret, "commitment").ljust(_BLOCK_BYTES, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def of(self, request_id: RequestId) -> "Commitments":
        """Return what makes the commitments of one request."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(request_id.encode())
        outer.update(inner.digest())
        return Commitments(outer.digest())

    def idempotency_hash(self, key_id: KeyId, name: bytes) -> str:
        """Return what stands for an Idempotency-Key of one virtual key in the log."""
        return hmac.digest(self._fingerprints, b"idempotency\0%s\0%s" % (key_id.encode(), name), "sha256").hex()


class Commitments:
    """Makes the commitments of one request."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def of_request(self, body: bytes) -> str:
        """Commit to the body as the agent sent it."""
        return hashlib.sha256(self._secret[:16] + body).hexdigest()

    def of_response(self, body: bytes) -> str:
        """Commit to the body as the provider sent it."""
        return hashlib.sha256(self._secret[16:] + body).hexdigest()

    def of_stream(self) -> "hashlib._Hash":
        """Return a hash to be fed with the body as it comes; its hexdigest is what `of_response` would give."""
        return hashlib.sha256(self._secret[16:])
