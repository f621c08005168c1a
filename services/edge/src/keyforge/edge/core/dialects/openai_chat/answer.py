"""Reads what a provider says a request used: its many spellings of `usage` into disjoint buckets, or None.

Unknown is never zero: a count that is negative, fractional, absurd or of another type, parts larger than their whole,
or all zeros make the usage unknown, and the request is settled from its bound. Spellings, all seen in recorded traffic:
`prompt_tokens_details.cached_tokens`, DeepSeek's `prompt_cache_hit_tokens`, Mistral's `num_cached_tokens`, a bare
`cached_tokens`; `cache_write_tokens`; `audio_tokens`; `completion_tokens_details.reasoning_tokens`. Where
`total_tokens` is more than prompt and completion, the rest is reasoning that was not shown (Gemini does this).
"""

import json
import math
from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from keyforge.contracts.unreadable import UNREADABLE
from keyforge.contracts.usage import Usage

TOKENS_MAX: Final = 1_000_000_000
COST_USD_MAX: Final = 1_000_000.0
_NANO: Final = 1_000_000_000

Count = Annotated[int, Meta(ge=0, le=TOKENS_MAX)]
"""Absent and null are zero, as providers leave out what does not apply."""


class Answer(msgspec.Struct, frozen=True):
    """What a whole answer says. `reported_cost_nusd` is the provider's own reckoning: evidence, never the charge."""

    usage: Usage | None = None
    reported_cost_nusd: int | None = None


class _Given(msgspec.Struct, gc=False):
    cached_tokens: Count | UnsetType | None = UNSET
    cache_write_tokens: Count | None = None
    audio_tokens: Count | None = None


class _Made(msgspec.Struct, gc=False):
    reasoning_tokens: Count | None = None
    audio_tokens: Count | None = None


class _Said(msgspec.Struct, gc=False):
    prompt_tokens: Count
    completion_tokens: Count | None = None
    total_tokens: Count | None = None
    prompt_tokens_details: _Given | None = None
    completion_tokens_details: _Made | None = None
    prompt_cache_hit_tokens: Count | None = None
    num_cached_tokens: Count | None = None
    cached_tokens: Count | None = None
    cost: Any = None


class _Body(msgspec.Struct):
    usage: _Said | None = None


_NOTHING_GIVEN: Final = _Given()
_NOTHING_MADE: Final = _Made()
_body = msgspec.json.Decoder(_Body)


def read_answer(body: bytes, *, embeddings: bool = False) -> Answer | None:
    """Read a JSON answer to a chat completion or to embeddings. None if it is not a JSON object at all."""
    try:
        said = _body.decode(body).usage
    except UNREADABLE:
        return _read_lenient(body, embeddings=embeddings)
    if said is None:
        return Answer()
    return Answer(_usage(said, embeddings=embeddings), _cost_nusd(said.cost))


def _read_lenient(body: bytes, *, embeddings: bool) -> Answer | None:
    """Read what the strict decoder refuses and clients take: half of a surrogate pair, a usage not to be believed."""
    try:
        whole = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(whole, dict):
        return None
    said = whole.get("usage")
    return Answer(read_usage(said, embeddings=embeddings), read_cost_nusd(said))


def read_usage(said: object, *, embeddings: bool = False) -> Usage | None:
    """Turn a decoded `usage` object into buckets, or None where it cannot be believed."""
    try:
        return _usage(msgspec.convert(said, _Said), embeddings=embeddings)
    except msgspec.ValidationError:
        return None


def read_cost_nusd(said: object) -> int | None:
    """Return OpenRouter's `cost` (dollars) in nano-dollars, rounded up; None if there is none that makes sense."""
    return _cost_nusd(said.get("cost")) if isinstance(said, Mapping) else None


def _cost_nusd(cost: object) -> int | None:
    if cost is None or isinstance(cost, bool) or not isinstance(cost, int | float) or not 0 <= cost <= COST_USD_MAX:
        return None
    return math.ceil(round(cost * _NANO, 3))


def _usage(said: _Said, *, embeddings: bool) -> Usage | None:
    if not embeddings:
        return _completion(said)
    prompt = max(said.prompt_tokens, said.total_tokens or 0)
    return Usage(input_tokens=prompt) if prompt else None


def _completion(said: _Said) -> Usage | None:
    prompt, completion = said.prompt_tokens, said.completion_tokens
    if completion is None:
        return None
    given, made = said.prompt_tokens_details or _NOTHING_GIVEN, said.completion_tokens_details or _NOTHING_MADE
    if given.cached_tokens is UNSET:
        cached = said.prompt_cache_hit_tokens or said.num_cached_tokens or said.cached_tokens or 0
    else:
        cached = given.cached_tokens or 0
    written, heard = given.cache_write_tokens or 0, given.audio_tokens or 0
    reasoning, spoken = made.reasoning_tokens or 0, made.audio_tokens or 0
    unseen = (said.total_tokens or 0) - prompt - completion
    if unseen < 0:
        unseen = 0
    elif unseen > reasoning:
        reasoning = unseen
    plain = prompt - cached - written - heard
    if plain < 0:  # Gemini through OpenRouter bills the same tokens as read and as written
        plain = prompt - max(cached, written) - heard
    shown = completion + unseen - reasoning - spoken
    if plain < 0 or shown < 0 or not (prompt or completion or unseen):
        return None
    return Usage(
        input_tokens=plain,
        cache_read_tokens=cached,
        cache_write_tokens=written,
        input_audio_tokens=heard,
        output_tokens=shown,
        reasoning_tokens=reasoning,
        output_audio_tokens=spoken,
    )
