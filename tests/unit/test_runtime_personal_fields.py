"""A personal field opens as that field of that tenant or key, under that version of the secret, and never otherwise."""

import base64
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyforge.contracts.ids import KeyId, TenantId
from keyforge.contracts.personal_fields import (
    TEXT_BYTES_MAX,
    EncryptedField,
    EncryptedText,
    PersonalField,
    associated_data,
)
from keyforge.runtime.personal_fields import FieldKeys, PersonalFieldError

ACME, KEY = TenantId("acme"), KeyId("Key000000001")
SECRET, LATER = bytes(range(100, 132)), bytes(range(132, 164))
NONCE = bytes(range(12))
KEYS = FieldKeys(ACME, {1: SECRET, 2: LATER})
STORED = msgspec.json.Decoder(PersonalField)


def name(text: str = "Acme", *, keys: FieldKeys = KEYS, nonce: bytes = NONCE) -> EncryptedField:
    return keys.encrypt(text, "name", key_id=KEY, nonce=nonce)


@given(st.text(st.characters(codec="utf-8"), max_size=200), st.binary(min_size=12, max_size=12))
def test_every_text_opens_and_fits_its_event(text: str, nonce: bytes) -> None:
    encrypted = name(text, nonce=nonce)
    assert KEYS.decrypt(encrypted, "name", key_id=KEY) == text
    assert STORED.decode(msgspec.json.encode(encrypted.text)) == encrypted.text


def test_the_longest_text_fits_its_event_and_no_longer_one_is_encrypted() -> None:
    encrypted = name("\U0001f511" * (TEXT_BYTES_MAX // 4))
    assert STORED.decode(msgspec.json.encode(encrypted.text)) == encrypted.text
    with pytest.raises(PersonalFieldError):
        name("x" * (TEXT_BYTES_MAX + 1))
    with pytest.raises(PersonalFieldError):
        name(nonce=bytes(11))


@pytest.mark.parametrize("text", ["", "Acme", "Jürgen", "not base64!" * 10, "A" * 39, "A" * 41, "=" * 40, "A" * 1108])
def test_an_event_holds_no_plain_text(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        STORED.decode(msgspec.json.encode(text))


def test_the_version_in_force_encrypts_and_every_version_opens() -> None:
    encrypted = name()
    assert encrypted.secret_version == KEYS.version == 2
    earlier = name(keys=FieldKeys(ACME, {1: SECRET}))
    assert (earlier.secret_version, KEYS.decrypt(earlier, "name", key_id=KEY)) == (1, "Acme")
    assert 1 in KEYS
    assert 3 not in KEYS


@pytest.mark.parametrize(
    ("keys", "field", "key_id", "changed"),
    [
        pytest.param(KEYS, "name", None, {}, id="the tenant's own"),
        pytest.param(KEYS, "name", KeyId("Key000000002"), {}, id="another key's"),
        pytest.param(KEYS, "reason", KEY, {}, id="another field"),
        pytest.param(FieldKeys(TenantId("other"), {2: LATER}), "name", KEY, {}, id="another tenant's"),
        pytest.param(FieldKeys(ACME, {2: SECRET}), "name", KEY, {}, id="another secret"),
        pytest.param(FieldKeys(ACME, {}), "name", KEY, {}, id="no secret"),
        pytest.param(KEYS, "name", KEY, {"secret_version": 1}, id="another version"),
        pytest.param(KEYS, "name", KEY, {"secret_version": 9}, id="an unknown version"),
        pytest.param(KEYS, "name", KEY, {"text": "AAEC"}, id="too short"),
        pytest.param(KEYS, "name", KEY, {"text": ""}, id="nothing"),
        pytest.param(KEYS, "name", KEY, {"text": "no base64!"}, id="no base64"),
        pytest.param(KEYS, "name", KEY, {"text": "\xff" * 40}, id="not even ASCII"),
    ],
)
def test_nothing_else_opens(keys: FieldKeys, field: Any, key_id: KeyId | None, changed: dict[str, Any]) -> None:
    with pytest.raises(PersonalFieldError) as refused:
        keys.decrypt(msgspec.structs.replace(name(), **changed), field, key_id=key_id)
    assert "Acme" not in str(refused.value)


def test_every_altered_byte_is_noticed() -> None:
    data = base64.b64decode(name().text)
    for place in range(len(data)):
        altered = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        text = EncryptedText(base64.b64encode(altered).decode())
        with pytest.raises(PersonalFieldError):
            KEYS.decrypt(EncryptedField(text=text, secret_version=2), "name", key_id=KEY)


def test_no_two_places_share_their_associated_data() -> None:
    places = [
        associated_data(TenantId(tenant), KeyId(key) if key else None, field)
        for tenant in ("a", "ab", "name")
        for key in ("", "b", "bname", "name")
        for field in ("name", "reason")
    ]
    assert len(set(places)) == len(places)


def test_what_is_kept_of_a_secret_is_not_the_secret() -> None:
    assert SECRET.hex() not in repr([getattr(KEYS, slot) for slot in FieldKeys.__slots__])
    assert KEYS._keys[1] != SECRET  # what stays in memory
