"""Provider credentials, sealed to the edges' public key: keys can write them and never read them, only edges can.

HPKE (RFC 9180), base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305, one message. The `info` binds
what a credential is for, so a ciphertext that is moved to another provider, id, version or base URL opens for nobody:

    info = "keyforge/credential/v1" || for each of credential id, version, provider, base URL: u16 length, UTF-8 bytes

Keys are 32 bytes in hex; a ciphertext is base64 of HPKE's `enc || ct`.
"""

import base64
import binascii
import hashlib
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

SECRET_BYTES_MAX: Final = 4096
KEY_BYTES: Final = 32
_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
_DOMAIN: Final = b"keyforge/credential/v1"


class SealingError(ValueError):
    """Not a key, or a ciphertext that does not open: another key's, another binding's, or altered."""


class Binding(msgspec.Struct, frozen=True, kw_only=True):
    """What a sealed credential is for. It opens with the same four values only."""

    credential: str
    version: int
    provider: str
    base_url: str

    def info(self) -> bytes:
        """Return HPKE's `info`."""
        parts = [part.encode() for part in (self.credential, str(self.version), self.provider, self.base_url)]
        return _DOMAIN + b"".join(len(part).to_bytes(2, "big") + part for part in parts)


class Sealer:
    """Seals to a public key. `key_id` names that key beside each ciphertext, so edges can hold several."""

    def __init__(self, public_key: str) -> None:
        """Take the key as hex. Raises SealingError."""
        raw = _raw(public_key)
        try:
            self._key = X25519PublicKey.from_public_bytes(raw)
            _SUITE.encrypt(b"", self._key, info=_DOMAIN)
        except ValueError:
            raise SealingError("not an X25519 public key that can be sealed to") from None
        self.key_id = key_id(raw)

    def seal(self, secret: str, binding: Binding) -> str:
        """Return `secret` so that only the holder of the private key can read it. Raises SealingError if too long."""
        data = secret.encode()
        if len(data) > SECRET_BYTES_MAX:
            raise SealingError(f"a credential has at most {SECRET_BYTES_MAX} bytes")
        return base64.b64encode(_SUITE.encrypt(data, self._key, info=binding.info())).decode()


class Opener:
    """Opens what was sealed to its public key."""

    def __init__(self, private_key: str) -> None:
        """Take the key as hex. Raises SealingError."""
        self._key = X25519PrivateKey.from_private_bytes(_raw(private_key))
        self.public_key = self._key.public_key().public_bytes_raw().hex()
        self.key_id = key_id(bytes.fromhex(self.public_key))

    def open(self, sealed: str, binding: Binding) -> str:
        """Return the secret. Raises SealingError."""
        try:
            return _SUITE.decrypt(base64.b64decode(sealed, validate=True), self._key, info=binding.info()).decode()
        except (InvalidTag, binascii.Error, ValueError):
            raise SealingError("this credential does not open with this key for this use") from None


def new_private_key() -> str:
    """Return a fresh private key in hex; `Opener(key).public_key` is its public half."""
    return X25519PrivateKey.generate().private_bytes_raw().hex()


def key_id(public_key: bytes) -> str:
    """Return the name of a public key: the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(public_key).hexdigest()[:16]


def _raw(text: str) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raise SealingError("a key is 32 bytes in hex") from None
    if len(raw) != KEY_BYTES:
        raise SealingError("a key is 32 bytes in hex")
    return raw
