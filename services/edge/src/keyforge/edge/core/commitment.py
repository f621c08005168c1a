"""Salted commitments to what was asked and answered: provable by whoever holds the text, silent for everybody else.

    secret = HMAC-SHA256(commitment secret, request id)        32 bytes
    commitment to the request's body  = hex SHA-256(secret[:16] || body)
    commitment to the answer's body   = hex SHA-256(secret[16:] || body)

Erasing the commitment secret erases: no salt is stored anywhere.
"""

import hashlib
import hmac

from keyforge.contracts.ids import KeyId, RequestId


class Commitments:
    """Makes the commitments of one request."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes, request_id: RequestId) -> None:
        self._secret = hmac.digest(secret, request_id.encode(), "sha256")

    def of_request(self, body: bytes) -> str:
        """Commit to the body as the agent sent it."""
        return hashlib.sha256(self._secret[:16] + body).hexdigest()

    def of_response(self, body: bytes) -> str:
        """Commit to the body as the provider sent it."""
        return hashlib.sha256(self._secret[16:] + body).hexdigest()

    def of_stream(self) -> "hashlib._Hash":
        """Return a hash to be fed with the body as it comes; its hexdigest is what `of_response` would give."""
        return hashlib.sha256(self._secret[16:])


def idempotency_hash(secret: bytes, key_id: KeyId, name: bytes) -> str:
    """Return what stands for an Idempotency-Key of one virtual key in the log."""
    return hmac.digest(secret, b"idempotency\0%s\0%s" % (key_id.encode(), name), "sha256").hex()
