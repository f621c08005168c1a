"""What the API of each provider does otherwise than the others of its dialect. Data: one row per kind of provider."""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

THINKING_S: Final = 600.0
"""How long OpenAI's and Anthropic's own SDKs wait for the next byte by default; DeepSeek closes a connection after it,
where a request still waits ("Rate Limit" of its documentation)."""
IMAGE_TOKENS: Final = 50_000
"""The most expensive image known: 48,169 tokens, eight tiles of gpt-4o-mini."""

CapField = Literal["max_tokens", "max_completion_tokens"]
"""What the cap on a completion's tokens is called."""
Refusable = Literal["response_format", "strict", "n", "logprobs", "cache_control"]
"""What an agent may ask for and miss in the answer, or in what it costs, where a provider does not say so."""


class Quirks(msgspec.Struct, frozen=True):
    """One row; what stands here as default is what most providers do."""

    cap_field: CapField = "max_tokens"
    """Which name of the cap it obeys. A name that a lenient provider does not know would be ignored, and the cap with
    it: so one is here only if it is documented."""
    takes_both: bool = False
    """It obeys the other name as well, so that an agent's own is kept."""
    service_tier: Literal["default"] | None = None
    """What to name where `auto`, or no tier, means what the account is set to: perhaps a more expensive one than was
    priced."""
    asks_usage: bool = True
    """A stream is asked for its usage. False: it refuses a request that asks."""
    usage_unasked: Literal["no", "beside_choices", "always"] = "no"
    """Which usage of a stream comes without being asked, so that agents see it: none; that beside choices; all."""
    refused: frozenset[Refusable] = frozenset()
    """What it ignores in silence, though the answer would have another form or cost: refused by its name."""
    thinks_within_cap: bool = False
    """Its documentation says that the cap bounds what a model thinks as well; else a budget that an agent names for
    thinking is priced beside the cap."""
    image_tokens: int = IMAGE_TOKENS
    """The most that it bills for an image, whatever the detail."""
    knows_detail: bool = False
    """It bills an image of `detail: low` as such."""
    unbilled: frozenset[int] = frozenset()
    """Of the statuses with which a gateway may answer for a model that ran (`failure.MAY_BILL`), those that cost
    nothing by its documentation."""
    knows_session: bool = False
    """It takes `session_id`, which chooses a credential here and is no field of OpenAI's."""
    silence_s: float = 0.0
    """How long it may send nothing, before its answer and within it, where settings allow less: its models think for
    minutes. A request's own deadline ends it all the same."""


USUAL: Final = Quirks()
_QUIRKS: Final[Mapping[str, Quirks]] = {
    # "Reasoning models" refuse `max_tokens`; `max_completion_tokens` is "an upper bound [...] including visible output
    # tokens and reasoning tokens" (API reference, Create chat completion). Nothing is said on what failures cost.
    "openai": Quirks(
        cap_field="max_completion_tokens",
        service_tier="default",
        thinks_within_cap=True,
        knows_detail=True,
        silence_s=THINKING_S,
    ),
    # API reference: `max_tokens` is deprecated in favour of `max_completion_tokens`, and both are taken. A stream's
    # usage comes unasked in `x_groq`, which `openai_chat.chunk` knows by its form. Nothing is said on failures.
    "groq": Quirks(cap_field="max_completion_tokens", takes_both=True),
    "cerebras": Quirks(cap_field="max_completion_tokens"),
    # A stream's last chunk of content has the usage; `stream_options` is answered with 422 `extra_forbidden`.
    "mistral": Quirks(asks_usage=False, usage_unasked="always", image_tokens=4_500),
    # "OpenAI SDK compatibility": `max_tokens` and `max_completion_tokens` are fully supported; `response_format`,
    # `strict` and `logprobs` are ignored, `n` must be 1, prompt caching is not supported. "Extended thinking":
    # `budget_tokens` must be less than `max_tokens`. Nothing is said on what failures cost.
    "anthropic": Quirks(
        takes_both=True,
        refused=frozenset(("response_format", "strict", "n", "logprobs", "cache_control")),
        thinks_within_cap=True,
        image_tokens=5_000,
        silence_s=THINKING_S,
    ),
    # "Thinking mode": `max_tokens` is the longest that an answer may be, chain of thought included. "Create chat
    # completion": the last chunk with choices of a stream has its usage, asked for or not.
    "deepseek": Quirks(usage_unasked="beside_choices", thinks_within_cap=True, silence_s=THINKING_S),
    # Its OpenAPI document: `max_tokens` (deprecated) and `max_completion_tokens`; `include_usage` "has no effect. Full
    # usage details are always included". "Zero completion insurance": nothing is charged for a response with an error,
    # which 408, 502, 504 and 524 (EdgeNetworkTimeout) are; the others of 520 to 527 are Cloudflare's before it, and not
    # among its errors. What it routes to may think beside the cap (Alibaba's `thinking_budget`).
    "openrouter": Quirks(
        takes_both=True,
        usage_unasked="always",
        unbilled=frozenset((408, 502, 504, 524)),
        knows_session=True,
        silence_s=THINKING_S,
    ),
}


def quirks_of(kind: str) -> Quirks:
    """Return the row of a kind of provider; that of most of them, where it has none."""
    return _QUIRKS.get(kind, USUAL)
