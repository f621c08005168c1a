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
    """What it refuses or ignores in silence, where the answer would have another form or cost: refused by its name."""
    thinks_within_cap: bool = False
    """Its documentation says that the cap bounds what a model thinks as well; else a budget that an agent names for
    thinking is priced beside the cap."""
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
    lacks: tuple[str, ...] = ()
    """Sampling parameters that its API does not have: taken out of a request, and named in the answer."""
    messages_lack: tuple[str, ...] = ()
    """Fields of messages that its API refuses, likewise; of `refusal` only an empty one, `name` not of a tool."""
    seed_field: Literal["seed", "random_seed"] = "seed"
    """What it calls a seed."""
    may_store: bool = True
    """It may keep answers unless `store` is false."""
    silence_s: float = 0.0
    """How long it may send nothing, before its answer and within it, where settings allow less: its models think for
    minutes. A request's own deadline ends it all the same."""


USUAL: Final = Quirks()
_OF_OTHERS: Final = ("top_k", "top_a", "min_p", "repetition_penalty")
"""Sampling parameters that OpenAI's reference does not have, but OpenRouter's and those of most servers for open models
do."""
_ALL_BUT_MISTRALS: Final = (
    "name",
    "refusal",
    "function_call",
    "reasoning",
    "reasoning_content",
    "reasoning_details",
    "extra_content",
)
_GEMINI: Final = Quirks(lacks=(*_OF_OTHERS, "logit_bias"), may_store=False, unbilled=frozenset((408, 502, 504)))
"""The parameters that are supported: "OpenAI compatibility" of Google's Gemini API and of its Agent Platform, which
says that others are ignored. "If your request fails with a 400 or 500 error, you won't be charged for the tokens used":
its FAQ on billing, https://ai.google.dev/gemini-api/docs/billing"""
_QUIRKS: Final[Mapping[str, Quirks]] = {
    # "Create chat completion" of its reference; it answers "Unknown parameter" to others. "Reasoning models" refuse
    # `max_tokens`; `max_completion_tokens` is "an upper bound [...] including visible output tokens and reasoning
    # tokens". Nothing is said on what failures cost.
    "openai": Quirks(
        cap_field="max_completion_tokens",
        service_tier="default",
        thinks_within_cap=True,
        knows_detail=True,
        lacks=_OF_OTHERS,
        silence_s=THINKING_S,
    ),
    # API reference: `max_tokens` is deprecated in favour of `max_completion_tokens`, and both are taken. A stream's
    # usage comes unasked in `x_groq`, which `openai_chat.chunk` knows by its form. Nothing is said on failures.
    # "OpenAI Compatibility" of its documentation: what "will result in a 400 error (yikes)", among it messages[].name.
    # It refuses what it does not know in messages: `property 'reasoning_content' is unsupported` (janhq/jan#8136,
    # vercel/ai#8057: `reasoning` is for models that reason).
    "groq": Quirks(
        cap_field="max_completion_tokens",
        takes_both=True,
        lacks=(*_OF_OTHERS, "logit_bias"),
        messages_lack=("name", "refusal", "reasoning_content", "reasoning_details", "extra_content", "prefix"),
        refused=frozenset(("logprobs",)),
        may_store=False,
    ),
    # "OpenAI Compatibility" of its documentation: fields that result in a 400 error. Messages: Kilo-Org/kilocode#10375.
    "cerebras": Quirks(
        cap_field="max_completion_tokens",
        lacks=(*_OF_OTHERS, "frequency_penalty", "presence_penalty", "logit_bias"),
        messages_lack=("refusal", "reasoning_content", "reasoning_details", "extra_content", "prefix"),
        may_store=False,
    ),
    # A stream's last chunk of content has the usage; `stream_options` is answered with 422 `extra_forbidden`.
    # ChatCompletionRequest and its messages in its OpenAPI document, which forbids others: 422 `extra_forbidden`
    # (mistralai/platform-docs-public#7, BerriAI/litellm#30835, Gage-Technologies/mistral-go#2: even where it is null).
    "mistral": Quirks(
        asks_usage=False,
        usage_unasked="always",
        image_tokens=4_500,
        lacks=(*_OF_OTHERS, "logit_bias"),
        messages_lack=_ALL_BUT_MISTRALS,
        refused=frozenset(("logprobs",)),
        seed_field="random_seed",
        may_store=False,
    ),
    # "OpenAI SDK compatibility" of its documentation, what its compatibility layer ignores: `response_format` and
    # `strict`, which change the answer, sampling, and `logprobs`; `max_tokens` and `max_completion_tokens` are fully
    # supported, `n` must be 1, prompt caching is not supported. "Extended thinking": `budget_tokens` must be less than
    # `max_tokens`. Nothing is said on what failures cost.
    "anthropic": Quirks(
        takes_both=True,
        refused=frozenset(("response_format", "strict", "n", "logprobs", "cache_control")),
        thinks_within_cap=True,
        image_tokens=5_000,
        lacks=("frequency_penalty", "presence_penalty", "seed", "random_seed", "logit_bias"),
        may_store=False,
        silence_s=THINKING_S,
    ),
    # "Thinking mode": `max_tokens` is the longest that an answer may be, chain of thought included. "Create chat
    # completion": the last chunk with choices of a stream has its usage, asked for or not.
    "deepseek": Quirks(
        usage_unasked="beside_choices",
        thinks_within_cap=True,
        lacks=(*_OF_OTHERS, "seed", "random_seed", "logit_bias"),
        may_store=False,
        silence_s=THINKING_S,
    ),
    # Its OpenAPI document: `max_tokens` (deprecated) and `max_completion_tokens`; `include_usage` "has no effect. Full
    # usage details are always included". "When a response contains no output tokens and either has a blank finish
    # reason or an error, you will not be charged": https://openrouter.ai/docs/guides/features/zero-completion-insurance.
    # 524 (EdgeNetworkTimeout) is among its errors, the others of 520 to 527 are Cloudflare's before it. What it routes
    # to may think beside the cap (Alibaba's `thinking_budget`).
    "openrouter": Quirks(
        takes_both=True,
        usage_unasked="always",
        unbilled=frozenset((408, 502, 504, 524)),
        knows_session=True,
        silence_s=THINKING_S,
    ),
    "google": _GEMINI,
    "gemini": _GEMINI,
}


def quirks_of(kind: str) -> Quirks:
    """Return the row of a kind of provider; that of most of them, where it has none."""
    return _QUIRKS.get(kind, USUAL)
