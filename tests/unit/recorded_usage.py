"""What a provider bills for a usage that it reported, by its API's own words: not read by the product's table."""

import json
from typing import Any, Final

from keyforge.contracts.usage import UnitPrices

PRICES: Final = UnitPrices(
    input_nusd=1_000_000_000, cache_read_nusd=100_000_000, cache_write_nusd=1_250_000_000,
    cache_write_1h_nusd=2_000_000_000, input_audio_nusd=1_000_000_000, output_nusd=5_000_000_000,
    reasoning_nusd=5_000_000_000, output_audio_nusd=5_000_000_000,
)  # fmt: skip
"""A dollar for a million tokens of input, five for output: `billed` has them too."""
Count = dict[str, Any]


def documents(response: Any) -> list[Any]:
    """Return an answer, or the events of its stream."""
    if not isinstance(response, str):
        return [response]
    data = (line[5:].strip() for line in response.splitlines() if line.startswith("data:"))
    return [json.loads(one) for one in data if one and one != "[DONE]"]


def billed(fields: Count) -> int | None:
    """What a provider bills at PRICES for a usage, by its API's own words; None: it counts nothing."""
    read = fields.get
    if "billed_units" in fields:
        units = fields["billed_units"]
        return _nusd(units["input_tokens"], 0, 0, 0, units.get("output_tokens", 0))
    if "promptTokenCount" in fields:
        given = fields["promptTokenCount"] + read("toolUsePromptTokenCount", 0)
        cached = read("cachedContentTokenCount", 0)
        return _nusd(given - cached, cached, 0, 0, read("totalTokenCount", given) - given)
    if "inputTokens" in fields:
        cached, written = read("cacheReadInputTokens", 0), read("cacheWriteInputTokens", 0)
        return _nusd(fields["inputTokens"], cached, written, 0, fields["outputTokens"])
    if any("model" in step for step in read("iterations", ())):
        return None  # of another model: its price is not known here
    if "cache_creation_input_tokens" in fields:
        hour = (read("cache_creation") or {}).get("ephemeral_1h_input_tokens", 0)
        written = fields["cache_creation_input_tokens"] - hour
        return _nusd(fields["input_tokens"], fields["cache_read_input_tokens"], written, hour, fields["output_tokens"])
    names = ("prompt_tokens", "completion_tokens") if "prompt_tokens" in fields else ("input_tokens", "output_tokens")
    given, made = fields[names[0]], fields.get(names[1], 0)
    details = read(f"{names[0]}_details") or {}
    cached, written = details.get("cached_tokens", 0), details.get("cache_write_tokens", 0)
    if not cached:
        cached = read("cached_tokens", 0) or read("num_cached_tokens", 0)
    made = max(made, read("total_tokens", 0) - given)
    twice = cached + written > given  # Gemini through OpenRouter: the same tokens are read and written, both are billed
    plain = given - (max(cached, written) if twice else cached + written)
    return _nusd(plain, cached, written, 0, made) or None


def _nusd(given: int, cached: int, written: int, hour: int, made: int) -> int:
    return 1000 * given + 100 * cached + 1250 * written + 2000 * hour + 5000 * made
