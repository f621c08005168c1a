"""Every recorded answer with a usage, of any API: what we settle is what the provider counted, and never less.

The provider's own count is made here from its names alone, one short rule for each API, not by the product's table.
KEYFORGE_RECORDINGS names the folder; a checkout without it skips this, and says so.
"""

import gzip
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keyforge.contracts.usage import UnitPrices
from keyforge.edge.core.dialects import usage_table
from keyforge.edge.core.dialects.openai_chat.usage import read_usage
from keyforge.testkit.recordings import FOLDER_VARIABLE

FOLDER = os.environ.get(FOLDER_VARIABLE, "")
PRICES = UnitPrices(
    input_nusd=1_000_000, cache_read_nusd=100_000, cache_write_nusd=1_250_000, cache_write_1h_nusd=2_000_000,
    input_audio_nusd=1_000_000, output_nusd=5_000_000, reasoning_nusd=5_000_000, output_audio_nusd=5_000_000,
)  # fmt: skip
Count = dict[str, Any]

pytestmark = pytest.mark.skipif(not FOLDER, reason=f"{FOLDER_VARIABLE} names no folder of recordings")


def answers() -> Iterator[tuple[str, bool, list[Any]]]:
    """Yield the provider, whether it is of embeddings, and the answer: whole, or the events of its stream."""
    for file in sorted(Path(FOLDER).glob("*.jsonl.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            for line in lines:
                one = json.loads(line)
                if one["status"] == 200:
                    yield file.name.partition(".")[0], "embed" in one["path"], documents(one["response"])


def documents(response: Any) -> list[Any]:
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
    """PRICES: a tenth of an input token, 1.25 of one and two, five for output; rounded up once."""
    return -(-(20 * given + 2 * cached + 25 * written + 40 * hour + 100 * made) // 20)


def test_nothing_is_undercharged_and_what_is_settled_is_what_is_billed() -> None:
    compared: Counter[str] = Counter()
    for provider, embeddings, found in answers():
        known, owed = None, None
        for document in found:
            if not isinstance(document, dict):
                continue
            for fields in usage_table.places(document):
                assert isinstance(fields, dict)
                owed = billed(fields) or owed
                if not embeddings:
                    assert read_usage(fields) == usage_table.read(fields)
            known = usage_table.reported(document, known, embeddings=embeddings)
        assert (known is None) == (owed is None), (provider, found[-1])
        if known is not None:
            assert owed is not None
            assert PRICES.cost_nusd(known) == owed, (provider, known)
            compared[provider] += 1
    assert len(compared) >= 10
    assert compared.total() > 900, compared
