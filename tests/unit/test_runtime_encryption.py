"""Encrypted credentials: readable with the private key only, for the same use only, and never after a change."""

import base64

import pytest

from keyforge.runtime.encryption import Binding, Decrypter, Encrypter, EncryptionError, new_private_key

PRIVATE = "a8" * 32
SECRET = "fixture-credential"
BINDING = Binding(credential="c1", version=1, provider="openai", base_url="https://api.openai.com/v1")


def test_what_is_encrypted_is_decrypted_for_the_same_use() -> None:
    decrypter = Decrypter(PRIVATE)
    encrypter = Encrypter(decrypter.public_key)
    ciphertext = encrypter.encrypt(SECRET, BINDING)
    assert decrypter.decrypt(ciphertext, BINDING) == SECRET
    assert encrypter.key_id == decrypter.key_id
    assert encrypter.encrypt(SECRET, BINDING) != ciphertext


@pytest.mark.parametrize(
    "other",
    [
        Binding(credential="c2", version=1, provider="openai", base_url="https://api.openai.com/v1"),
        Binding(credential="c1", version=2, provider="openai", base_url="https://api.openai.com/v1"),
        Binding(credential="c1", version=1, provider="evil", base_url="https://api.openai.com/v1"),
        Binding(credential="c1", version=1, provider="openai", base_url="https://evil.example/v1"),
        Binding(credential="c1", version=1, provider="openaih", base_url="ttps://api.openai.com/v1"),
    ],
)
def test_it_is_decrypted_for_no_other_use(other: Binding) -> None:
    decrypter = Decrypter(PRIVATE)
    with pytest.raises(EncryptionError):
        decrypter.decrypt(Encrypter(decrypter.public_key).encrypt(SECRET, BINDING), other)


def test_it_is_decrypted_with_no_other_key_and_not_when_altered() -> None:
    decrypter = Decrypter(PRIVATE)
    ciphertext = Encrypter(decrypter.public_key).encrypt(SECRET, BINDING)
    with pytest.raises(EncryptionError):
        Decrypter(new_private_key()).decrypt(ciphertext, BINDING)
    raw = base64.b64decode(ciphertext)
    for at in range(len(raw)):
        altered = bytes(byte ^ (index == at) for index, byte in enumerate(raw))
        with pytest.raises(EncryptionError):
            decrypter.decrypt(base64.b64encode(altered).decode(), BINDING)
    for text in ("", "x", "not base64!", ciphertext[:-8], ciphertext + "\n", f"{ciphertext[:4]}*{ciphertext[4:]}"):
        with pytest.raises(EncryptionError):
            decrypter.decrypt(text, BINDING)


@pytest.mark.parametrize("text", ["", "zz" * 32, "ab" * 31, "ab" * 33, "00" * 32])
def test_what_is_no_public_key_is_refused_at_once(text: str) -> None:
    with pytest.raises(EncryptionError):
        Encrypter(text)


def test_a_secret_has_a_bound() -> None:
    with pytest.raises(EncryptionError):
        Encrypter(Decrypter(PRIVATE).public_key).encrypt("x" * 5000, BINDING)


def test_a_vector_that_stays() -> None:
    """Encrypted by this code once: whatever changes must still decrypt it."""
    ciphertext = "EB9Vrhzzgt4YWF/ZgZx3yKgO1Kl/iZoDGtR53mjsLDjT+3yldJvCQGjCDR/7Driw3KV7iCQi6r2meOf5DzzIBTM5"
    assert Decrypter(PRIVATE).decrypt(ciphertext, BINDING) == SECRET
