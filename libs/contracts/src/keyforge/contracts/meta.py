"""What a set of logs was made with, kept beside them in `KF_META`: a process with another value must not touch them.

A fingerprint is the first 16 hex digits of SHA-256("keyforge/meta/v1" || 0x00 || name || 0x00 || secret). The secrets
have at least 32 random bytes, so it tells nothing of them.
"""

import hashlib
from collections.abc import Mapping
from typing import Final

import msgspec

from keyforge.contracts.subjects import META_BUCKET
from keyforge.contracts.unreadable import UNREADABLE

FORMAT: Final = 1
"""The format of events, frames and records that this code writes, and the newest that it reads. A log of an older
format is written in that format; one of a newer format is not touched."""
ENTRY: Final = "log"
"""The one entry of META_BUCKET."""
FINGERPRINT_CHARS: Final = 16

SECRETS: Final = {
    "audit_master_key": "KEYFORGE_AUDIT_MASTER_KEY",
    "commitment_secret": "KEYFORGE_COMMITMENT_SECRET",
    "edge_key": "KEYFORGE_EDGE_PUBLIC_KEY",
    "key_secret": "KEYFORGE_KEY_SECRET",
}
"""The fingerprints of a `Meta`, each with the variable that holds its secret (of the edges' key, the public half)."""


class MetaUnreadable(ValueError):
    """The entry is no `Meta`: a newer version of this code wrote it, or nobody of ours did."""


class Meta(msgspec.Struct, frozen=True, kw_only=True):
    """The entry. `format` is that of the events, `partitions` how many logs there are."""

    audit_master_key: str
    commitment_secret: str
    edge_key: str
    format: int
    key_secret: str
    partitions: int


def fingerprint(name: str, secret: bytes) -> str:
    """Return the fingerprint of the secret that a `Meta` knows by this name (a key of SECRETS)."""
    if name not in SECRETS:
        raise ValueError(f"{name} is no secret of a log")
    return hashlib.sha256(b"keyforge/meta/v1\0%s\0%s" % (name.encode(), secret)).hexdigest()[:FINGERPRINT_CHARS]


def encode(meta: Meta) -> bytes:
    """Return the entry's bytes."""
    return msgspec.json.encode(meta)


def decode(data: bytes) -> Meta:
    """Read the entry. Raises MetaUnreadable."""
    try:
        return msgspec.json.decode(data, type=Meta)
    except UNREADABLE as error:
        raise MetaUnreadable(f"the entry of {META_BUCKET} cannot be read: {error}") from None


def difference(meta: Meta, mine: Mapping[str, int | str]) -> str | None:
    """Return in one line how a process differs from what the log was made with, None if it does not.

    `mine` holds what the process knows of a `Meta`, by field; `format` is the newest that it reads.
    """
    for name, value in mine.items():
        found: int | str = getattr(meta, name)
        if name == "format":
            if meta.format > int(value):
                return f"the log has format {meta.format}, this version of keyforge reads up to {value}: upgrade it"
        elif found != value and name == "partitions":
            return f"KEYFORGE_PARTITIONS is {value}, the log was made with {found}"
        elif found != value:
            return f"{SECRETS[name]} has fingerprint {value}, the log was made with {found}"
    return None
