"""Identifiers: the types that events and messages carry, and how request ids are generated."""

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
"""The ids of tenants and providers: a DNS label (RFC 1123) without a final check of its last character."""

MODEL_NAME_CHARS_MAX: Final = 200
"""Chosen: three times the longest of the 2,330 names in genai-prices, which has 61 characters."""
ROUTE_NAME_CHARS_MAX: Final = MODEL_NAME_CHARS_MAX + 64
"""A provider's name, a slash, a model's name."""


def model_name_pattern(chars_max: int) -> str:
    """Return the regular expression of the names of models with at most so many characters, without anchors.

    They are what providers call their models: `@cf/meta/llama-3-8b` (Cloudflare), `~openai/gpt-latest` (OpenRouter's
    aliases), `accounts/fireworks/models/m#accounts/me/deployments/d` (Fireworks), `anthropic.claude-v2:0` (Bedrock).
    They stand in JSON, in columns and, percent-encoded, in paths; never in a subject or the key of an entry.
    """
    return rf"[A-Za-z0-9@~][A-Za-z0-9._:@/+~#-]{{0,{chars_max - 1}}}"


MODEL_NAME: Final = re.compile(model_name_pattern(MODEL_NAME_CHARS_MAX))
"""The names of models, without their provider."""
MODEL_NAME_FORM: Final = (
    f"must be 1 to {MODEL_NAME_CHARS_MAX} letters, digits or . _ : @ / + ~ # - and begin with a letter, a digit, @ or ~"
)
"""What a message says of a name that is none; after the name of the field."""

RANDOM_POOL_BYTES: Final = 4096
"""Chosen: one system call for 431 ids."""
_ID_HEX: Final = 19
"""Random hexadecimal digits in an id; two bits of the fourth are the variant."""
_VARIANT: Final = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))


def is_slug(text: str) -> bool:
    """Return whether `text` may be the id of a tenant or a provider."""
    return SLUG.fullmatch(text) is not None


class RequestIds:
    """Request ids: UUIDv7 (RFC 9562 section 5.7) from a clock in milliseconds and pooled randomness.

    A pool is read once per 431 ids: `os.urandom` for every id would cost more than the id.
    """

    __slots__ = ("_at", "_entropy", "_ms", "_now_ms", "_pool", "_time")

    def __init__(self, now_ms: Callable[[], int], entropy: Callable[[int], bytes]) -> None:
        self._now_ms = now_ms
        self._entropy = entropy
        self._pool = ""
        self._at = 0
        self._ms = -1
        self._time = ""

    def next(self) -> RequestId:
        """Return a new id, 36 characters."""
        at = self._at
        if at + _ID_HEX > len(self._pool):
            self._pool = self._entropy(RANDOM_POOL_BYTES).hex()
            at = 0
        self._at = at + _ID_HEX
        random, now_ms = self._pool[at : at + _ID_HEX], self._now_ms()
        if now_ms != self._ms:
            digits = f"{now_ms:012x}"
            self._ms, self._time = now_ms, f"{digits[:8]}-{digits[8:]}-7"
        return RequestId(f"{self._time}{random[:3]}-{_VARIANT[random[3]]}{random[4:7]}-{random[7:]}")
