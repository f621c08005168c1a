"""Keys and tokens of the format in use, byte for byte: what is stored of a key must be found again by any version.

The literals were computed from the docstring of `keyformat` with the standard library and nothing of ours.
"""

import zlib
from typing import NamedTuple

import pytest

from keyforge.contracts import keyformat
from keyforge.contracts.keyformat import ALPHABET, KeySecrets, Prefix

ROOT = bytes(range(32))
ID = bytes(range(9))
SECRET = bytes(range(32, 64))


class Vector(NamedTuple):
    """The parts of a text, and what is stored of it."""

    prefix: Prefix
    id: str
    tag: str
    secret: str
    crc: str
    digest: str

    @property
    def text(self) -> str:
        return f"{self.prefix}_{self.id}{self.tag}_{self.secret}{self.crc}"


VECTORS = [
    Vector(
        "vk",
        id="005McJmDgrvc",
        tag="0lya",
        secret="7cMxemzhJjkW31yzTx5H07wJF2A2uBEOEec26ubYMsJ",
        crc="0tZhPX",
        digest="41369065b503dcd68bf1857090eac8f31d3da23033fd8f1c74827b7f9f1727e7",
    ),
    Vector(
        "kfa",
        id="005McJmDgrvc",
        tag="IE1R",
        secret="7cMxemzhJjkW31yzTx5H07wJF2A2uBEOEec26ubYMsJ",
        crc="359rNt",
        digest="f020bb6acbd8aeb9a890d339840ff62497daf2ba81536b1ac2d3b35df9af058a",
    ),
]
BY_PREFIX = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.prefix)


def crc(head: str) -> str:
    """Six base62 digits of a text's CRC-32."""
    number, digits = zlib.crc32(head.encode()), ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits = ALPHABET[digit] + digits
    return digits


def test_derive() -> None:
    secrets = KeySecrets.derive(ROOT)
    assert secrets.tag_key.hex() == "6ef6f0a1380fe579959a07c1cf65576da20a78ea81894655adbadee62e9eaec7"
    assert secrets.pepper.hex() == "70ca887e0bbd0f969088e5180db57d777b4f628ab4911a1adf8bae273c4da997"


@BY_PREFIX
def test_mint_and_digest(vector: Vector) -> None:
    secrets = KeySecrets.derive(ROOT)
    assert keyformat.mint(vector.prefix, secrets, ID, SECRET) == (vector.id, vector.text, vector.digest)
    assert keyformat.digest(vector.text, secrets) == vector.digest
    assert keyformat.parse_id(vector.prefix, vector.text, secrets) == vector.id


@BY_PREFIX
def test_the_tag_is_for_one_prefix_and_one_id(vector: Vector) -> None:
    """Each forgery has the right shape and CRC: only its tag is another's."""
    secrets = KeySecrets.derive(ROOT)
    other = next(one for one in VECTORS if one.prefix != vector.prefix)
    for id_, tag in ((vector.id, other.tag), (vector.id[:-1] + "d", vector.tag)):
        head = f"{vector.prefix}_{id_}{tag}_{vector.secret}"
        assert keyformat.parse_id(vector.prefix, head + crc(head), secrets) is None
    head = f"{vector.prefix}_{vector.id}{vector.tag}_{vector.secret}"
    assert keyformat.parse_id(vector.prefix, head + crc(head), secrets) == vector.id, "the forgeries are made rightly"


@BY_PREFIX
@pytest.mark.parametrize("more", ["0", "00000"])
def test_a_text_is_as_long_as_its_parts(vector: Vector, more: str) -> None:
    """Its CRC is right, whatever its length is."""
    head = f"{vector.prefix}_{vector.id}{vector.tag}_{vector.secret}{more}"
    assert keyformat.parse_id(vector.prefix, head + crc(head), KeySecrets.derive(ROOT)) is None


@BY_PREFIX
@pytest.mark.parametrize("part", ["-", "é", "_", " "])
def test_a_text_has_letters_and_digits_alone(vector: Vector, part: str) -> None:
    for secret, dash in ((part + vector.secret[1:], "_"), (vector.secret, part)):
        if (secret, dash) != (vector.secret, "_"):
            head = f"{vector.prefix}_{vector.id}{vector.tag}{dash}{secret}"
            assert keyformat.parse_id(vector.prefix, head + crc(head), KeySecrets.derive(ROOT)) is None


def test_no_key_is_made_of_less_than_256_bits() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        KeySecrets.derive(bytes(31))
    secrets = KeySecrets.derive(bytes(32))
    for id_, secret in ((ID[1:], SECRET), (ID, SECRET[1:]), (ID + b"0", SECRET), (ID, SECRET + b"0")):
        with pytest.raises(ValueError, match="9 random bytes for the id and 32 for the secret"):
            keyformat.mint("vk", secrets, id_, secret)
