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
from typing import Any, Final

import msgspec

from keyforge.contracts.usage import Usage

TOKENS_MAX: Final = 1_000_000_000
COST_USD_MAX: Final = 1_000_000.0
_NANO: Final = 1_000_000_000


class Answer(msgspec.Struct, frozen=True):
    """What a whole answer says. `reported_cost_nusd` is the provider's own reckoning: evidence, never the charge."""

    usage: Usage | None = None
    reported_cost_nusd: int | None = None


class _Body(msgspec.Struct):
    usage: Any = None


class _UnknownUsageError(Exception):
    """A count that cannot be believed."""


_body = msgspec.json.Decoder(_Body)


def read_answer(body: bytes, *, embeddings: bool = False) -> Answer | None:
    """Read a JSON answer to a chat completion or to embeddings. None if it is not a JSON object at all."""
    try:
        said = _body.decode(body).usage
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        said = _lenient(body)
        if said is None:
            return None
        said = said.get("usage")
    return Answer(read_usage(said, embeddings=embeddings), read_cost_nusd(said))


def _lenient(body: bytes) -> Mapping[str, Any] | None:
    """Decode what the strict decoder refuses and clients take, such as half of a surrogate pair."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None


def read_usage(said: object, *, embeddings: bool = False) -> Usage | None:
    """Turn a decoded `usage` object into buckets, or None where it cannot be believed."""
    if not isinstance(said, dict):
        return None
    try:
        return _embeddings(said) if embeddings else _completion(said)
    except _UnknownUsageError:
        return None


def read_cost_nusd(said: object) -> int | None:
    """Return OpenRouter's `cost` (dollars) in nano-dollars, rounded up; None if there is none that makes sense."""
    cost = said.get("cost") if isinstance(said, dict) else None
    if isinstance(cost, bool) or not isinstance(cost, int | float) or not 0 <= cost <= COST_USD_MAX:
        return None
    return math.ceil(round(cost * _NANO, 3))


def _completion(said: Mapping[str, Any]) -> Usage:
    prompt, completion = _needed(said, "prompt_tokens"), _needed(said, "completion_tokens")
    given, made = _details(said, "prompt_tokens_details"), _details(said, "completion_tokens_details")
    if "cached_tokens" in given:
        cached = _count(given, "cached_tokens")
    else:
        cached = max(_count(said, name) for name in ("prompt_cache_hit_tokens", "num_cached_tokens", "cached_tokens"))
    written, heard = _count(given, "cache_write_tokens"), _count(given, "audio_tokens")
    unseen = max(_count(said, "total_tokens") - prompt - completion, 0)
    reasoning, spoken = max(_count(made, "reasoning_tokens"), unseen), _count(made, "audio_tokens")
    plain = prompt - cached - written - heard
    if plain < 0:  # Gemini through OpenRouter bills the same tokens as read and as written
        plain = prompt - max(cached, written) - heard
    usage = Usage(
        input_tokens=plain,
        cache_read_tokens=cached,
        cache_write_tokens=written,
        input_audio_tokens=heard,
        output_tokens=completion + unseen - reasoning - spoken,
        reasoning_tokens=reasoning,
        output_audio_tokens=spoken,
    )
    if usage.input_tokens < 0 or usage.output_tokens < 0 or not usage.tokens:
        raise _UnknownUsageError
    return usage


def _embeddings(said: Mapping[str, Any]) -> Usage:
    prompt = max(_needed(said, "prompt_tokens"), _count(said, "total_tokens"))
    if not prompt:
        raise _UnknownUsageError
    return Usage(input_tokens=prompt)


def _needed(said: Mapping[str, Any], name: str) -> int:
    if said.get(name) is None:
        raise _UnknownUsageError
    return _count(said, name)


def _count(said: Mapping[str, Any], name: str) -> int:
    """Return a count; absent and null are zero, as providers leave out what does not apply."""
    value = said.get(name)
    if value is None:
        return 0
    if type(value) is not int or not 0 <= value <= TOKENS_MAX:
        raise _UnknownUsageError
    return value


def _details(said: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = said.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _UnknownUsageError
    return value
