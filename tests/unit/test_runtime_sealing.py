"""Sealed credentials: only the holder of the private key, only for the same use, and never after a change."""

import base64

import pytest

from keyforge.runtime.sealing import Binding, Opener, Sealer, SealingError, new_private_key

PRIVATE = "a8" * 32
SECRET = "fixture-credential"
BINDING = Binding(credential="c1", version=1, provider="openai", base_url="https://api.openai.com/v1")


def test_what_is_sealed_opens_for_the_same_use() -> None:
    opener = Opener(PRIVATE)
    sealer = Sealer(opener.public_key)
    sealed = sealer.seal(SECRET, BINDING)
    assert opener.open(sealed, BINDING) == SECRET
    assert sealer.key_id == opener.key_id
    assert sealer.seal(SECRET, BINDING) != sealed


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
def test_it_opens_for_no_other_use(other: Binding) -> None:
    opener = Opener(PRIVATE)
    with pytest.raises(SealingError):
        opener.open(Sealer(opener.public_key).seal(SECRET, BINDING), other)


def test_it_opens_for_nobody_else_and_not_when_altered() -> None:
    opener = Opener(PRIVATE)
    sealed = Sealer(opener.public_key).seal(SECRET, BINDING)
    with pytest.raises(SealingError):
        Opener(new_private_key()).open(sealed, BINDING)
    raw = base64.b64decode(sealed)
    for at in range(len(raw)):
        altered = bytes(byte ^ (index == at) for index, byte in enumerate(raw))
        with pytest.raises(SealingError):
            opener.open(base64.b64encode(altered).decode(), BINDING)
    for text in ("", "x", "not base64!", sealed[:-8]):
        with pytest.raises(SealingError):
            opener.open(text, BINDING)


@pytest.mark.parametrize("text", ["", "zz" * 32, "ab" * 31, "ab" * 33, "00" * 32])
def test_what_is_no_public_key_is_refused_at_once(text: str) -> None:
    with pytest.raises(SealingError):
        Sealer(text)


def test_a_secret_has_a_bound() -> None:
    with pytest.raises(SealingError):
        Sealer(Opener(PRIVATE).public_key).seal("x" * 5000, BINDING)


def test_a_vector_that_stays() -> None:
    """Sealed by this code once: whatever changes must still open it."""
    sealed = "EB9Vrhzzgt4YWF/ZgZx3yKgO1Kl/iZoDGtR53mjsLDjT+3yldJvCQGjCDR/7Driw3KV7iCQi6r2meOf5DzzIBTM5"
    assert Opener(PRIVATE).open(sealed, BINDING) == SECRET
