"""What the API of each provider does otherwise than the others of its dialect. Data: one row per kind of provider."""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

IMAGE_TOKENS: Final = 50_000
"""The most expensive image known: 48,169 tokens, eight tiles of gpt-4o-mini."""


class Quirks(msgspec.Struct, frozen=True):
    """One row; what stands here as default is what most providers do."""

    cap_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """Which of the two it obeys."""
    service_tier: Literal["default"] | None = None
    """What to name where `auto`, or no tier, means what the account is set to: perhaps a more expensive one than was
    priced."""
    usage_unasked: bool = False
    """It sends a stream's usage without being asked, and refuses a request that asks for it."""
    image_tokens: int = IMAGE_TOKENS
    """The most that it bills for an image, whatever the detail."""
    knows_detail: bool = False
    """It bills an image of `detail: low` as such."""
    gateway_errors_unbilled: bool = False
    """It bills nothing for what its gateway answers with 408, 502, 504 or 520 to 527."""


USUAL: Final = Quirks()
_QUIRKS: Final[Mapping[str, Quirks]] = {
    "openai": Quirks(cap_field="max_completion_tokens", service_tier="default", knows_detail=True),
    "groq": Quirks(cap_field="max_completion_tokens"),
    "cerebras": Quirks(cap_field="max_completion_tokens"),
    "mistral": Quirks(usage_unasked=True, image_tokens=4_500),
    "anthropic": Quirks(image_tokens=5_000),
}


def quirks_of(kind: str) -> Quirks:
    """Return the row of a kind of provider; that of most of them, where it has none."""
    return _QUIRKS.get(kind, USUAL)
