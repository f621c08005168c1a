"""Personal fields for events that a test makes by hand, under a made-up secret and a fixed nonce."""

from typing import Final

from keyforge.contracts.ids import TenantId
from keyforge.contracts.personal_fields import NONCE_BYTES, EncryptedField, EncryptedText, associated_data
from keyforge.contracts.tenant_secrets import derive
from keyforge.runtime import personal_fields

_KEY: Final = derive(bytes(range(100, 132)), "field")
_AAD: Final = associated_data(TenantId("acme"), None, "name")


def encrypted(text: str) -> EncryptedText:
    """Return a text as an event has it; the same for the same text, which keys never does."""
    return personal_fields.encrypt(_KEY, _AAD, text, bytes(NONCE_BYTES))


def encrypted_field(text: str) -> EncryptedField:
    """Return a text as a fact has it."""
    return EncryptedField(text=encrypted(text), secret_version=1)


def decrypted(text: EncryptedText) -> str:
    """Return what was encrypted here."""
    return personal_fields.decrypt(_KEY, _AAD, text)
