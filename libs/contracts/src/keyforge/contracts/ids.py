"""Names of things: the identifier types that events and messages carry, and how request ids are made."""

import re
from collections.abc import Callable
from typing import Final, NewType

TenantId = NewType("TenantId", str)
KeyId = NewType("KeyId", str)
EdgeId = NewType("EdgeId", str)
OwnerId = NewType("OwnerId", str)
ProviderId = NewType("ProviderId", str)
CredentialId = NewType("CredentialId", str)
ModelName = NewType("ModelName", str)
PriceId = NewType("PriceId", str)
RequestId = NewType("RequestId", str)
TokenId = NewType("TokenId", str)

SLUG: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
"""What a tenant or provider may be called."""

MODEL_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/+-]{0,199}")
"""What a model may be called, without its provider."""

RANDOM_POOL_BYTES: Final = 4096


def is_slug(text: str) -> bool:
    """Say whether `text` may name a tenant or a provider."""
    return SLUG.fullmatch(text) is not None


class RequestIds:
    """Request ids: UUIDv7 (RFC 9562 section 5.7) from a clock in milliseconds and pooled randomness.

    A pool is read once per 409 ids: `os.urandom` for every id would cost more than the id.
    """

    __slots__ = ("_at", "_entropy", "_now_ms", "_pool")

    def __init__(self, now_ms: Callable[[], int], entropy: Callable[[int], bytes]) -> None:
        self._now_ms = now_ms
        self._entropy = entropy
        self._pool = b""
        self._at = 0

    def next(self) -> RequestId:
        """Return a fresh id, 36 characters."""
        if self._at + 10 > len(self._pool):
            self._pool = self._entropy(RANDOM_POOL_BYTES)
            self._at = 0
        random = int.from_bytes(self._pool[self._at : self._at + 10], "big")
        self._at += 10
        bits = (self._now_ms() << 80) | 0x7 << 76 | (random & 0x0FFF_3FFF_FFFF_FFFF_FFFF) | 0x8000_0000_0000_0000
        text = f"{bits:032x}"
        return RequestId(f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}")
