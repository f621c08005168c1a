"""Provider credentials, encrypted to the edges' public key: the service `keys` writes them, only edges can read them.

HPKE (RFC 9180), base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305, one message. The `info` binds
the purpose of a credential: a ciphertext moved to another provider, id, version or base URL cannot be decrypted:

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
"""Chosen: a credential is a part of one header line, and servers take 8 KiB of it by default (nginx,
large_client_header_buffers; Apache, LimitRequestFieldSize): half of that has room for a JSON Web Token."""
KEY_BYTES: Final = 32
"""Of X25519."""
_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
_DOMAIN: Final = b"keyforge/credential/v1"


class EncryptionError(ValueError):
    """Not a key, or a ciphertext that cannot be decrypted: of another key, of another binding, or altered."""


class Binding(msgspec.Struct, frozen=True, kw_only=True):
    """What an encrypted credential is for. It is decrypted with the same four values only."""

    credential: str
    version: int
    provider: str
    base_url: str

    def info(self) -> bytes:
        """Return HPKE's `info`."""
        parts = [part.encode() for part in (self.credential, str(self.version), self.provider, self.base_url)]
        return _DOMAIN + b"".join(len(part).to_bytes(2, "big") + part for part in parts)


class Encrypter:
    """Encrypts to a public key. `key_id` is stored beside each ciphertext, so that edges can have several keys."""

    def __init__(self, public_key: str) -> None:
        """Take the key as hex. Raises EncryptionError."""
        raw = _raw(public_key)
        try:
            self._key = X25519PublicKey.from_public_bytes(raw)
            _SUITE.encrypt(b"", self._key, info=_DOMAIN)
        except ValueError:
            raise EncryptionError("not an X25519 public key that can be encrypted to") from None
        self.key_id = key_id(raw)

    def encrypt(self, secret: str, binding: Binding) -> str:
        """Return the ciphertext of `secret`. Raises EncryptionError if it is too long."""
        data = secret.encode()
        if len(data) > SECRET_BYTES_MAX:
            raise EncryptionError(f"a credential must have at most {SECRET_BYTES_MAX} bytes")
        return base64.b64encode(_SUITE.encrypt(data, self._key, info=binding.info())).decode()


class Decrypter:
    """Decrypts what was encrypted to its public key."""

    def __init__(self, private_key: str) -> None:
        """Take the key as hex. Raises EncryptionError."""
        self._key = X25519PrivateKey.from_private_bytes(_raw(private_key))
        self.public_key = self._key.public_key().public_bytes_raw().hex()
        self.key_id = key_id(bytes.fromhex(self.public_key))

    def decrypt(self, ciphertext: str, binding: Binding) -> str:
        """Return the secret. Raises EncryptionError."""
        try:
            return _SUITE.decrypt(base64.b64decode(ciphertext, validate=True), self._key, info=binding.info()).decode()
        except (InvalidTag, binascii.Error, ValueError):
            raise EncryptionError("this credential cannot be decrypted with this key for this use") from None


def new_private_key() -> str:
    """Return a new private key in hex; `Decrypter(key).public_key` is its public half."""
    return X25519PrivateKey.generate().private_bytes_raw().hex()


def key_id(public_key: bytes) -> str:
    """Return the id of a public key: the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(public_key).hexdigest()[:16]


def _raw(text: str) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raise EncryptionError("a key must be 32 bytes in hex") from None
    if len(raw) != KEY_BYTES or len(text) != 2 * KEY_BYTES:  # `fromhex` reads white space between the bytes
        raise EncryptionError("a key must be 32 bytes in hex")
    return raw
