"""Personal fields: texts of operators about a tenant or a key, in events only encrypted (docs/spec/tenant-secrets.md).

The key is derived from the tenant's secret: without it nobody can read them, and every event still folds and verifies.
"""

from typing import Annotated, Final, Literal, NewType

import msgspec

from keyforge.contracts.ids import KeyId, TenantId

TEXT_BYTES_MAX: Final = 800
"""A text in UTF-8: 200 characters of four bytes."""
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
_CHARS_MIN: Final = 4 * ((NONCE_BYTES + TAG_BYTES + 2) // 3)
_CHARS_MAX: Final = 4 * ((NONCE_BYTES + TEXT_BYTES_MAX + TAG_BYTES + 2) // 3)
_DOMAIN: Final = b"keyforge/tenant-secret/field/v1"

EncryptedText = NewType("EncryptedText", str)
"""base64(nonce || ciphertext and tag). A type of its own, so that no plain text is put where this belongs."""
PersonalField = Annotated[
    EncryptedText,
    msgspec.Meta(
        min_length=_CHARS_MIN,
        max_length=_CHARS_MAX,
        pattern=r"^(?:[A-Za-z0-9+/]{4})+(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
    ),
]
"""A personal field as events have it; they name the version of the tenant's secret beside it."""

FieldName = Literal["name", "reason"]
"""Which field of an event it is."""


class EncryptedField(msgspec.Struct, frozen=True, kw_only=True):
    """A personal field with the version of the secret that its key is derived from."""

    text: EncryptedText
    secret_version: int


def associated_data(tenant: TenantId, key_id: KeyId | None, field: FieldName) -> bytes:
    """Return what a ciphertext is bound to: it opens as this field of this tenant or key, and nowhere else.

    `key_id` None: a field of the tenant itself. No part holds a zero byte, so no two places share one.
    """
    return b"\0".join((_DOMAIN, tenant.encode(), (key_id or "").encode(), field.encode()))
