"""Encrypts and opens personal fields under a key of their tenant's secret (docs/spec/tenant-secrets.md).

    key       = K("field")
    aad       = "keyforge/tenant-secret/field/v1" || 0x00 || tenant || 0x00 || key id, if it is a key's || 0x00 || field
    encrypted = base64(nonce || ChaCha20-Poly1305(key, nonce, text in UTF-8, aad)), the nonce 12 random bytes

ChaCha20-Poly1305 is RFC 8439. The nonce is passed in; see `tenant_secrets` for how many random ones a key is good for.
"""

import base64
import binascii
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from keyforge.contracts.ids import KeyId, TenantId
from keyforge.contracts.personal_fields import (
    NONCE_BYTES,
    TEXT_BYTES_MAX,
    EncryptedField,
    EncryptedText,
    FieldName,
    associated_data,
)
from keyforge.contracts.tenant_secrets import derive


class PersonalFieldError(ValueError):
    """A personal field that does not open, or a text that is none. The message never holds the text."""


def encrypt(key: bytes, aad: bytes, text: str, nonce: bytes) -> EncryptedText:
    """Encrypt a text of at most TEXT_BYTES_MAX. A nonce is used once with a key. Raises PersonalFieldError."""
    plain = text.encode()
    if len(plain) > TEXT_BYTES_MAX or len(nonce) != NONCE_BYTES:
        raise PersonalFieldError(f"a text has at most {TEXT_BYTES_MAX} bytes, a nonce {NONCE_BYTES}")
    encrypted = ChaCha20Poly1305(key).encrypt(nonce, plain, aad)
    return EncryptedText(base64.b64encode(nonce + encrypted).decode())


def decrypt(key: bytes, aad: bytes, encrypted: EncryptedText) -> str:
    """Return the text. Raises PersonalFieldError if it was not encrypted under this key, for this place."""
    try:
        data = base64.b64decode(encrypted, validate=True)
        return ChaCha20Poly1305(key).decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], aad).decode()
    except (InvalidTag, binascii.Error, ValueError):
        raise PersonalFieldError("it was altered, or belongs elsewhere") from None


class FieldKeys:
    """What opens and encrypts the personal fields of one tenant: a key for each version of its secret."""

    __slots__ = ("_keys", "_tenant")

    def __init__(self, tenant: TenantId, secrets: Mapping[int, bytes]) -> None:
        """`secrets` by version, the one in force last. None of them are kept, only what is derived for fields."""
        self._tenant = tenant
        self._keys = {version: derive(secret, "field") for version, secret in secrets.items()}

    def __contains__(self, version: int) -> bool:
        """Return whether this version of the secret is known."""
        return version in self._keys

    @property
    def version(self) -> int:
        """The version in force; 0 if no secret is known."""
        return next(reversed(self._keys), 0)

    def encrypt(self, text: str, field: FieldName, *, key_id: KeyId | None = None, nonce: bytes) -> EncryptedField:
        """Encrypt a field of the tenant, or of one of its keys, under the version in force."""
        aad = associated_data(self._tenant, key_id, field)
        encrypted = encrypt(self._keys[self.version], aad, text, nonce)
        return EncryptedField(text=encrypted, secret_version=self.version)

    def decrypt(self, encrypted: EncryptedField, field: FieldName, *, key_id: KeyId | None = None) -> str:
        """Return the text of a field. Raises PersonalFieldError."""
        key = self._keys.get(encrypted.secret_version)
        if key is None:
            raise PersonalFieldError(f"version {encrypted.secret_version} of the secret is not known")
        return decrypt(key, associated_data(self._tenant, key_id, field), encrypted.text)
