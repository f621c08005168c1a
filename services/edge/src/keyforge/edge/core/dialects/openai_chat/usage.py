"""Reads a provider's `usage` into disjoint buckets, or None: unknown is never zero.

Nearly every usage has OpenAI's names, and integers. That is read here, by structs, to what `usage_table` would make of
it. Their names are those that this module knows, and all of them: a usage with any other is no such struct, and is read
there. Where `total_tokens` is more than prompt and completion, the rest is reasoning that was not shown (Gemini and xAI
do this).
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from keyforge.contracts.usage import Usage
from keyforge.edge.core.dialects import usage_table
from keyforge.edge.core.dialects.usage_table import TOKENS_MAX

COST_USD_MAX: Final = 1_000_000.0
"""A larger reported cost is absurd, and is not recorded."""
_NANO: Final = 1_000_000_000

Count = Annotated[int, Meta(ge=0, le=TOKENS_MAX)]
"""Absent and null are zero, as providers leave out what does not apply."""


class PromptDetails(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """Parts of the prompt. Those of type Any have no price of their own."""

    cached_tokens: Count | None = None
    cache_write_tokens: Count | None = None
    audio_tokens: Count | None = None
    text_tokens: Any = None
    image_tokens: Any = None
    video_tokens: Any = None


class CompletionDetails(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """Parts of the completion. Those of type Any have no price of their own."""

    reasoning_tokens: Count | None = None
    audio_tokens: Count | None = None
    accepted_prediction_tokens: Any = None
    rejected_prediction_tokens: Any = None
    text_tokens: Any = None
    image_tokens: Any = None


class UsageFields(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A `usage` object as most providers write it. What is of type Any counts no tokens, or those that another name
    counts (recorded traffic of OpenRouter, Groq, DeepSeek)."""

    prompt_tokens: Count
    completion_tokens: Count
    total_tokens: Count | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None
    prompt_cache_hit_tokens: Count | None = None
    num_cached_tokens: Count | None = None
    cached_tokens: Count | None = None
    cost: Any = None
    cost_details: Any = None
    is_byok: Any = None
    server_tool_use_details: Any = None
    queue_time: Any = None
    prompt_time: Any = None
    completion_time: Any = None
    total_time: Any = None
    prompt_cache_miss_tokens: Any = None

    def cached_beside(self) -> int:
        """Return what was read from a cache, where the details do not say so: by the first of its other names."""
        if self.prompt_cache_hit_tokens is not None:
            return self.prompt_cache_hit_tokens
        return (self.cached_tokens or 0) if self.num_cached_tokens is None else self.num_cached_tokens


class EmbeddingsFields(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A `usage` object of embeddings as most providers write it."""

    prompt_tokens: Count
    total_tokens: Count | None = None
    cost: Any = None


_NO_PROMPT_DETAILS: Final = PromptDetails()
_NO_COMPLETION_DETAILS: Final = CompletionDetails()


def read_usage(fields: object, *, embeddings: bool = False, hour: bool = False) -> Usage | None:
    """Turn a decoded `usage` object into buckets, or None where it makes no sense. `hour`: see `usage_table.read`."""
    if not embeddings and not hour:
        try:
            return usual(msgspec.convert(fields, UsageFields))
        except msgspec.ValidationError:
            pass
    return usage_table.read(fields, embeddings=embeddings, hour=hour)


def later(before: Usage | None, fields: object, *, hour: bool = False) -> Usage | None:
    """Return what is known once one more usage was reported: see `usage_table.later`."""
    after = read_usage(fields, hour=hour)
    if after is None:
        return None if before is None else usage_table.later(before, fields, hour=hour)
    return after if before is None else usage_table.merged(before, after)


def read_cost_nusd(fields: object) -> int | None:
    """Return OpenRouter's `cost` (dollars) in nano-dollars, rounded up; None if there is none that makes sense."""
    cost = fields.get("cost") if isinstance(fields, Mapping) else None
    return None if cost is None else to_cost_nusd(cost)


def to_cost_nusd(cost: Any) -> int | None:
    """Return a cost in dollars as nano-dollars, rounded up; None if it makes no sense."""
    if isinstance(cost, bool) or not isinstance(cost, int | float) or not 0 <= cost <= COST_USD_MAX:
        return None
    return math.ceil(round(cost * _NANO, 3))


def of_embeddings(fields: EmbeddingsFields) -> Usage | None:
    """Return the buckets; None: there is nothing in them. A total may be more than the prompt (`usage_table`)."""
    given = max(fields.prompt_tokens, fields.total_tokens or 0)
    return Usage(input_tokens=given) if given else None


def usual(fields: UsageFields) -> Usage | None:
    """Return the buckets, or None where they make no sense."""
    prompt, completion = fields.prompt_tokens, fields.completion_tokens
    read = fields.prompt_tokens_details or _NO_PROMPT_DETAILS
    made = fields.completion_tokens_details or _NO_COMPLETION_DETAILS
    cached, written, audio = read.cached_tokens, read.cache_write_tokens or 0, read.audio_tokens or 0
    if cached is None:
        cached = fields.cached_beside()
    reasoning, spoken = made.reasoning_tokens or 0, made.audio_tokens or 0
    unseen = (fields.total_tokens or 0) - prompt - completion
    if unseen < 0:
        unseen = 0
    elif unseen > reasoning:
        reasoning = unseen
    plain = prompt - cached - written - audio
    if plain < 0:  # Gemini through OpenRouter bills the same tokens as read and as written
        plain = prompt - max(cached, written) - audio
    shown = completion + unseen - reasoning - spoken
    if plain < 0 or shown < 0 or not (prompt or completion):
        return None
    return Usage(
        input_tokens=plain,
        cache_read_tokens=cached,
        cache_write_tokens=written,
        input_audio_tokens=audio,
        output_tokens=shown,
        reasoning_tokens=reasoning,
        output_audio_tokens=spoken,
    )
