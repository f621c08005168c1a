"""The text of a virtual key or an operator's token, and what is kept of it.

    <prefix>_<id: 12 base62><tag: 4 base62>_<secret: 43 base62><CRC-32: 6 base62>

`prefix` is "vk" (virtual key) or "kfa" (operator's token). The tag is keyed, so that an edge rejects
invented ids without a look-up; the CRC lets scanners recognise leaked keys offline. Only HMAC-SHA256(pepper, text) is
stored.
"""

import hashlib
import hmac
import zlib
from typing import Final, Literal, NamedTuple

import msgspec

Prefix = Literal["vk", "kfa"]

ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ID_CHARS: Final = 12
"""71 bits: a collision is not to be expected among billions of keys."""
TAG_CHARS: Final = 4
"""One in 14.8 million invented ids passes."""
SECRET_CHARS: Final = 43
"""256 bits in base 62."""
CRC_CHARS: Final = 6
"""32 bits in base 62."""
ID_BYTES: Final = 9
SECRET_BYTES: Final = 32
"""Random bytes of the id and of the secret."""
_BASE62: Final = frozenset(ALPHABET)


class KeySecrets(msgspec.Struct, frozen=True):
    """The keys of tags and digests, derived from one root secret of at least 32 bytes that all services share."""

    tag_key: bytes
    pepper: bytes

    @classmethod
    def derive(cls, root: bytes) -> "KeySecrets":
        """Derive both from `root`. Raises ValueError if it is shorter than 32 bytes."""
        if len(root) < 32:
            raise ValueError("the key secret must be at least 32 bytes")
        return cls(
            hmac.digest(root, b"keyforge/key-tag/v1", hashlib.sha256),
            hmac.digest(root, b"keyforge/key-digest/v1", hashlib.sha256),
        )


class Minted(NamedTuple):
    """A new key: its id, its text (shown once), and the digest that is stored (hex)."""

    id: str
    text: str
    digest: str


def mint(prefix: Prefix, secrets: KeySecrets, id_random: bytes, secret_random: bytes) -> Minted:
    """Return a new key from 9 and 32 random bytes."""
    if len(id_random) != ID_BYTES or len(secret_random) != SECRET_BYTES:
        raise ValueError("9 random bytes for the id and 32 for the secret")
    id_ = _base62(int.from_bytes(id_random, "big"), ID_CHARS)
    secret = _base62(int.from_bytes(secret_random, "big"), SECRET_CHARS)
    head = f"{prefix}_{id_}{_tag(prefix, id_, secrets)}_{secret}"
    text = head + _base62(zlib.crc32(head.encode()), CRC_CHARS)
    return Minted(id_, text, digest(text, secrets))


def parse_id(prefix: Prefix, text: str, secrets: KeySecrets) -> str | None:
    """Return the id in `text` if shape, CRC and tag are right, else None. This does not verify the secret."""
    start = len(prefix) + 1
    dash = start + ID_CHARS + TAG_CHARS
    if len(text) != dash + 1 + SECRET_CHARS + CRC_CHARS or text[:start] != prefix + "_" or text[dash] != "_":
        return None
    id_, tag, rest = text[start : start + ID_CHARS], text[start + ID_CHARS : dash], text[dash + 1 :]
    if not (_BASE62.issuperset(id_) and _BASE62.issuperset(tag) and _BASE62.issuperset(rest)):
        return None
    if _base62(zlib.crc32(text[:-CRC_CHARS].encode()), CRC_CHARS) != text[-CRC_CHARS:]:
        return None
    if not hmac.compare_digest(tag.encode(), _tag(prefix, id_, secrets).encode()):
        return None
    return id_


def claimed_id(prefix: Prefix, text: bytes) -> str | None:
    """Return what stands in the place of the id, of which nothing is verified: to look up what was verified before."""
    start = len(prefix) + 1
    claimed = text[start : start + ID_CHARS]
    return claimed.decode("ascii") if claimed.isascii() else None


def digest(text: str, secrets: KeySecrets) -> str:
    """Return what is stored for a key, to be compared in constant time: hex of HMAC-SHA256(pepper, text)."""
    return hmac.digest(secrets.pepper, text.encode(), hashlib.sha256).hex()


def _tag(prefix: str, id_: str, secrets: KeySecrets) -> str:
    mac = hmac.digest(secrets.tag_key, f"{prefix}_{id_}".encode(), hashlib.sha256)
    return _base62(int.from_bytes(mac[:8], "big"), TAG_CHARS)


def _base62(number: int, chars: int) -> str:
    """Return the lowest `chars` digits, most significant first."""
    out = []
    for _ in range(chars):
        number, digit = divmod(number, 62)
        out.append(ALPHABET[digit])
    return "".join(reversed(out))
