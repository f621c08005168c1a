"""Personal fields of the published format, byte for byte: the file, the product and the formula agree.

The second implementation is written from docs/spec/tenant-secrets.md with nothing of ours.
"""

import base64
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from keyforge.contracts.ids import TenantId
from keyforge.contracts.personal_fields import EncryptedField, EncryptedText
from keyforge.runtime.personal_fields import FieldKeys

VECTORS = json.loads((Path(__file__).parent / "vectors" / "tenant-secrets-v1.json").read_text(encoding="utf-8"))
SECRET = bytes.fromhex(VECTORS["secret"])
FIELDS = pytest.mark.parametrize("vector", VECTORS["personal_fields"], ids=lambda vector: vector["why"])


def second(vector: dict[str, Any]) -> tuple[str, str]:
    """The associated data and the encrypted text, from the specification's words."""
    key = hmac.digest(SECRET, b"keyforge/tenant-secret/v1" + b"\0" + b"field", "sha256")
    assert key.hex() == VECTORS["field_key"]
    parts = ("keyforge/tenant-secret/field/v1", vector["tenant"], vector["key_id"] or "", vector["field"])
    aad = "\0".join(parts).encode()
    nonce = bytes.fromhex(vector["nonce"])
    sealed = ChaCha20Poly1305(key).encrypt(nonce, vector["text"].encode(), aad)
    return aad.hex(), base64.b64encode(nonce + sealed).decode()


@FIELDS
def test_the_product_makes_the_published_bytes(vector: dict[str, Any]) -> None:
    keys = FieldKeys(TenantId(vector["tenant"]), {7: SECRET})
    nonce = bytes.fromhex(vector["nonce"])
    made = keys.encrypt(vector["text"], vector["field"], key_id=vector["key_id"], nonce=nonce)
    assert made == EncryptedField(text=vector["encrypted"], secret_version=7)


@FIELDS
def test_the_formula_makes_them_too(vector: dict[str, Any]) -> None:
    assert second(vector) == (vector["aad"], vector["encrypted"])


@FIELDS
def test_they_open(vector: dict[str, Any]) -> None:
    keys = FieldKeys(TenantId(vector["tenant"]), {1: bytes(32), 2: SECRET})
    published = EncryptedField(text=EncryptedText(vector["encrypted"]), secret_version=2)
    assert keys.decrypt(published, vector["field"], key_id=vector["key_id"]) == vector["text"]
