"""Reads a provider's `usage` in its many spellings into disjoint buckets, or None.

Unknown is never zero: a count that is negative, fractional, absurd or of another type, parts larger than their whole,
or all zeros make the usage unknown, and the request settles at its reservation. Spellings, all from recorded traffic:
`prompt_tokens_details.cached_tokens`, DeepSeek's `prompt_cache_hit_tokens`, Mistral's `num_cached_tokens`, a bare
`cached_tokens`; `cache_write_tokens`; `audio_tokens`; `completion_tokens_details.reasoning_tokens`. Where
`total_tokens` is more than prompt and completion, the rest is reasoning that was not shown (Gemini does this).
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from keyforge.contracts.usage import Usage

TOKENS_MAX: Final = 1_000_000_000
"""A larger count is absurd: contexts have some millions of tokens."""
COST_USD_MAX: Final = 1_000_000.0
"""A larger reported cost is absurd, and is not recorded."""
_NANO: Final = 1_000_000_000

Count = Annotated[int, Meta(ge=0, le=TOKENS_MAX)]
"""Absent and null are zero, as providers leave out what does not apply."""


class PromptDetails(msgspec.Struct, gc=False):
    """Parts of the prompt."""

    cached_tokens: Count | UnsetType | None = UNSET
    cache_write_tokens: Count | None = None
    audio_tokens: Count | None = None


class CompletionDetails(msgspec.Struct, gc=False):
    """Parts of the completion."""

    reasoning_tokens: Count | None = None
    audio_tokens: Count | None = None


class UsageFields(msgspec.Struct, gc=False):
    """A `usage` object as providers write it."""

    prompt_tokens: Count
    completion_tokens: Count | None = None
    total_tokens: Count | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None
    prompt_cache_hit_tokens: Count | None = None
    num_cached_tokens: Count | None = None
    cached_tokens: Count | None = None
    cost: Any = None


_NO_PROMPT_DETAILS: Final = PromptDetails()
_NO_COMPLETION_DETAILS: Final = CompletionDetails()


def read_usage(fields: object, *, embeddings: bool = False) -> Usage | None:
    """Turn a decoded `usage` object into buckets, or None where it makes no sense."""
    try:
        return to_usage(msgspec.convert(fields, UsageFields), embeddings=embeddings)
    except msgspec.ValidationError:
        return None


def read_cost_nusd(fields: object) -> int | None:
    """Return OpenRouter's `cost` (dollars) in nano-dollars, rounded up; None if there is none that makes sense."""
    return to_cost_nusd(fields.get("cost")) if isinstance(fields, Mapping) else None


def to_cost_nusd(cost: object) -> int | None:
    """Return a cost in dollars as nano-dollars, rounded up; None if it makes no sense."""
    if cost is None or isinstance(cost, bool) or not isinstance(cost, int | float) or not 0 <= cost <= COST_USD_MAX:
        return None
    return math.ceil(round(cost * _NANO, 3))


def to_usage(fields: UsageFields, *, embeddings: bool) -> Usage | None:
    """Return the buckets, or None where they make no sense."""
    if not embeddings:
        return _completion(fields)
    prompt = max(fields.prompt_tokens, fields.total_tokens or 0)
    return Usage(input_tokens=prompt) if prompt else None


def _completion(fields: UsageFields) -> Usage | None:
    prompt, completion = fields.prompt_tokens, fields.completion_tokens
    if completion is None:
        return None
    read = fields.prompt_tokens_details or _NO_PROMPT_DETAILS
    made = fields.completion_tokens_details or _NO_COMPLETION_DETAILS
    if read.cached_tokens is UNSET:
        cached = fields.prompt_cache_hit_tokens or fields.num_cached_tokens or fields.cached_tokens or 0
    else:
        cached = read.cached_tokens or 0
    written, audio = read.cache_write_tokens or 0, read.audio_tokens or 0
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
    if plain < 0 or shown < 0 or not (prompt or completion or unseen):
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
