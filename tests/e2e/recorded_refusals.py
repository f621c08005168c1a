"""Which recorded requests are refused, by what, and how often: each for what it costs beyond what was priced.

A refusal that is not here fails the replay, and so does one here that no longer happens: whoever lets a field pass
takes its row away. Of OpenAI's own fields none stands here but those that are billed apart (tests/unit/openais_own.py).
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import httpx

UPSTREAM = "upstream"
"""In `x-keyforge-error` of an error in a provider's own words."""


class Refusal(NamedTuple):
    """`field`: its path, without indexes."""

    provider: str
    type: str
    field: str


_FILES = ("unbounded_content", "messages[].content[].type")

REFUSED: Mapping[Refusal, int] = {
    # a document or a film is as many tokens as it has pages or frames
    Refusal("openai", *_FILES): 7,
    Refusal("mistral", *_FILES): 4,
    Refusal("openrouter", *_FILES): 2,
    # searches, and other models that the provider asks, are billed apart
    Refusal("openai", "field_unsupported", "web_search_options"): 3,
    Refusal("groq", "field_unsupported", "search_settings"): 1,
    Refusal("openrouter", "field_unsupported", "tools[].parameters"): 7,
    # another model, or another host with a price of its own, than the one that was priced
    Refusal("openrouter", "field_unsupported", "models"): 2,
    Refusal("openrouter", "field_unsupported", "provider"): 6,
    Refusal("openrouter", "field_unsupported", "preset"): 1,
    Refusal("groq", "field_unsupported", "service_tier"): 2,
    # a cache for an hour
}


def refusal_of(provider: str, answer: httpx.Response) -> Refusal | None:
    """Return what we refused a request for; None: we did not, whatever its provider answered."""
    if answer.is_success or answer.headers.get("x-keyforge-error") == UPSTREAM:
        return None
    error = answer.json()["error"]
    if error["type"].startswith("upstream_"):
        return None
    return Refusal(provider, error["type"], re.sub(r"\[\d+\]", "[]", error["param"] or ""))


def expected(provider: str) -> Counter[Refusal]:
    """Return the refusals of one provider's recordings."""
    return Counter({row: count for row, count in REFUSED.items() if row.provider == provider})
