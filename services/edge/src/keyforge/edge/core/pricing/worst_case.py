"""The worst case of a request: the most that any provider can bill for it, in tokens and in nano-dollars.

Input: what a provider reads is in the body that we send, and no tokenizer makes more tokens than there are UTF-8
bytes. The body is JSON, in which a character is never shorter than in UTF-8, so its length bounds the text, tools and
schemas in it; constants are added for what providers put around a message and in front of tools. Images and audio are
not text: their bytes are taken out where they are inlined, and the most that a provider is known to bill is put in.
Output: the cap that we inject, for each completion. Reasoning is output, and within the cap but where a model thinks
beside it: the price of such a model says how much at most. A budget for thinking that an agent names counts beside the
cap as well, unless the provider's documentation says that the cap bounds both. A prediction can be billed as output.
"""

import msgspec

from keyforge.contracts.directory import PriceEntry
from keyforge.contracts.errors import Problem, problem
from keyforge.contracts.money import TOKENS_PER_MTOK
from keyforge.contracts.usage import UnitPrices
from keyforge.edge.core.dialects.quirks import Quirks
from keyforge.edge.core.pricing.workload import Workload

REQUEST_TOKENS = 64
"""What a provider may add to a request. Chosen: 20 times the 3 tokens with which OpenAI begins each answer."""
MESSAGE_TOKENS = 16
"""What it may add to each message; OpenAI adds 3 or 4."""
TOOLS_TOKENS = 1024
"""The instructions that a provider puts in front of tools; the largest known is 735 tokens."""
IMAGE_TOKENS_LOW = 3_072
"""With `detail: low`, at a provider that knows it: 2,833 tokens with gpt-4o-mini."""
IMAGES_MAX = 64
"""Chosen: at `quirks.IMAGE_TOKENS` each they are 3.2 million tokens, more than any model takes."""
_CACHE_1H = "The model has no price for writing a cache for an hour: `cache_control.ttl` may be 5m."


class WorstCase(msgspec.Struct, frozen=True):
    """The most that a request can use and cost."""

    nusd: int
    input_tokens: int
    output_tokens: int

    @property
    def tokens(self) -> int:
        """All tokens."""
        return self.input_tokens + self.output_tokens


def output_cap(
    workload: Workload, key_max: int | None, price: PriceEntry, default: int, conceded_max: int | None = None
) -> int:
    """Return what one completion is capped at, in tokens: what was asked for, else the key's maximum, else a default;
    within every maximum. `conceded_max`: the most that the provider takes where nothing was asked for."""
    if not workload.writes:
        return 0
    cap = workload.output_asked
    if cap is None:
        cap = default if key_max is None else key_max
        if conceded_max is not None and conceded_max < cap:
            cap = conceded_max
    for tokens_max in (key_max, price.max_output_tokens, price.context_tokens):
        if tokens_max is not None and tokens_max < cap:
            cap = tokens_max
    return cap


def worst_case(
    workload: Workload,
    body_bytes: int,
    cap: int,
    quirks: Quirks,
    prices: UnitPrices,
    thinking_max: int | None = None,
) -> WorstCase | Problem:
    """Return the worst case of a request, whose body as it is sent has `body_bytes`; `cap` is what `output_cap`
    returned, and is in that body. `thinking_max`: what the model may think beside the cap; None: it is not known to. A
    problem if the content cannot be bounded."""
    if workload.images > IMAGES_MAX:
        return problem(
            "unbounded_content",
            f"A request may contain at most {IMAGES_MAX} images.",
            metadata={"images_max": IMAGES_MAX},
        )
    if workload.unbounded:
        return problem("unbounded_content", workload.unbounded)
    if workload.cache_1h and not prices.knows_cache_1h:
        return problem("field_unsupported", _CACHE_1H, param="cache_control.ttl")
    given = body_bytes - workload.inline_bytes + workload.audio_tokens + REQUEST_TOKENS
    given += MESSAGE_TOKENS * workload.parts
    if workload.images:
        low = workload.images_low if quirks.knows_detail else 0
        given += (workload.images - low) * quirks.image_tokens + low * IMAGE_TOKENS_LOW
    if workload.tools:
        given += TOOLS_TOKENS
    written = cap + workload.predicted_tokens
    if thinking_max is not None or workload.thinking_asked:
        written += _thought(workload, quirks, thinking_max)
    return _cost(given, written * workload.completions, prices, workload)


def _thought(workload: Workload, quirks: Quirks, thinking_max: int | None) -> int:
    """Return how many tokens a completion may think beside its cap."""
    if thinking_max is None:
        return 0 if quirks.thinks_within_cap else workload.thinking_asked
    return max(thinking_max, workload.thinking_asked) if workload.writes else 0


def _cost(input_tokens: int, output_tokens: int, prices: UnitPrices, workload: Workload) -> WorstCase:
    """Price it at the highest price that can apply: audio has its price only where some was sent, a cache's hour where
    it was asked for; no audio is output."""
    input_nusd = max(prices.input_nusd, prices.cache_read_nusd, prices.cache_write_nusd)
    if workload.audio_tokens:
        input_nusd = max(input_nusd, prices.input_audio_nusd)
    if workload.cache_1h:
        input_nusd = max(input_nusd, prices.cache_write_1h_nusd)
    output_nusd = max(prices.output_nusd, prices.reasoning_nusd)
    scaled = input_tokens * input_nusd + output_tokens * output_nusd
    return WorstCase(prices.request_nusd - (-scaled // TOKENS_PER_MTOK), input_tokens, output_tokens)
