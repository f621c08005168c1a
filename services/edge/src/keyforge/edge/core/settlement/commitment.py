"""Salted commitments to what was asked and answered: provable with the text, meaningless without it.

    secret = HMAC-SHA256(commitment secret, request id)        32 bytes
    commitment to the request's body  = hex SHA-256(secret[:16] || body)
    commitment to the answer's body   = hex SHA-256(secret[16:] || body)

Erasing the commitment secret erases: no salt is stored anywhere.
"""

import hashlib
import hmac
from typing import Final

from keyforge.contracts.ids import KeyId, RequestId

SECRET_BYTES_MIN: Final = 32
"""The length of the hash, which RFC 2104 section 3 names as the least for a key of HMAC."""
_BLOCK_BYTES: Final = 64
"""The block of SHA-256 (FIPS 180-4): a longer key would be hashed first."""


class CommitmentKey:
    """The commitment secret, ready for use: the two hashes of HMAC are begun once, which saves most of its price."""

    __slots__ = ("_inner", "_outer", "_secret")

    def __init__(self, secret: bytes) -> None:
        """Take the secret, 32 to 64 bytes. Raises ValueError."""
        if not SECRET_BYTES_MIN <= len(secret) <= _BLOCK_BYTES:
            raise ValueError("a commitment secret has 32 to 64 bytes")
        block = secret.ljust(_BLOCK_BYTES, b"\0")
        self._secret = secret
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
        return hmac.digest(self._secret, b"idempotency\0%s\0%s" % (key_id.encode(), name), "sha256").hex()


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
