"""What the API of each provider does otherwise than the others of its dialect. Data: one row per kind of provider."""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

THINKING_S: Final = 600.0
"""How long OpenAI's and Anthropic's own SDKs wait for the next byte by default; DeepSeek closes a connection after it,
where a request still waits ("Rate Limit" of its documentation)."""
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
    unbilled: frozenset[int] = frozenset()
    """Of the statuses with which a gateway may answer for a model that ran (`failure.MAY_BILL`), those that cost
    nothing by its documentation, where it answers in its own words: JSON with a message. A proxy in front of it writes
    text or a page, and the model behind may go on."""
    knows_session: bool = False
    """It takes `session_id`, which chooses a credential here and is no field of OpenAI's."""
    silence_s: float = 0.0
    """How long it may send nothing, before its answer and within it, where settings allow less: its models think for
    minutes. A request's own deadline ends it all the same."""


USUAL: Final = Quirks()
_QUIRKS: Final[Mapping[str, Quirks]] = {
    "openai": Quirks(
        cap_field="max_completion_tokens", service_tier="default", knows_detail=True, silence_s=THINKING_S
    ),
    "groq": Quirks(cap_field="max_completion_tokens"),
    "cerebras": Quirks(cap_field="max_completion_tokens"),
    "mistral": Quirks(usage_unasked=True, image_tokens=4_500),
    "anthropic": Quirks(image_tokens=5_000, silence_s=THINKING_S),
    "deepseek": Quirks(silence_s=THINKING_S),
    # "If your request fails with a 400 or 500 error, you won't be charged for the tokens used": its FAQ on billing,
    # https://ai.google.dev/gemini-api/docs/billing
    "google": Quirks(unbilled=frozenset((408, 502, 504))),
    "gemini": Quirks(unbilled=frozenset((408, 502, 504))),
    # "When a response contains no output tokens and either has a blank finish reason or an error, you will not be
    # charged": https://openrouter.ai/docs/guides/features/zero-completion-insurance. 524 is among the errors of its
    # OpenAPI document, the others of 520 to 527 are Cloudflare's before it.
    "openrouter": Quirks(knows_session=True, silence_s=THINKING_S, unbilled=frozenset((408, 502, 504, 524))),
}


def quirks_of(kind: str) -> Quirks:
    """Return the row of a kind of provider; that of most of them, where it has none."""
    return _QUIRKS.get(kind, USUAL)
