"""Prices of a provider's models from genai-prices, never below what can be charged.

The library is loaded on first use (0.1 s), works from the data in its wheel, and never goes online.
The highest price that can apply is taken: of all tiers, of all times of day, of all routes that a provider may take, of
the date in force and those to come. A model whose data has no price
for text in and out is left out: unknown is not zero. So is one whose name stands for something that the data prices too
low or not at all: sound, images, searches by themselves. Prices for batch or priority processing are left out, since
edges do not forward such requests. An operator can still price what is left out.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import date
from decimal import ROUND_CEILING, Decimal
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from keyforge.contracts.ids import MODEL_NAME, ModelName
from keyforge.contracts.money import NUSD_PER_USD, USD_MAX
from keyforge.contracts.usage import UnitPrices
from keyforge.keys.core.prices import Proposal

if TYPE_CHECKING:
    from genai_prices import types

_REQUESTS_PER_KCOUNT: Final = 1000
_REQUESTED: Final = frozenset(("processing", "service_tier", "speed"))
"""Conditions that only a request can set, which edges do not forward: prices under these are left out."""


_UNPRICED_NAMES: Final = re.compile(
    r"(?:^|[-/:.])(?:audio|batch|image|live|realtime|search|sonar|transcribe|tts)(?:$|[-:.])|deep-research"
)
"""Names of models that bill more than tokens of text, or bill other tokens at another price: the data has some sound
and images at the price of text, and no fee for a search. Also OpenRouter's listings for batches, which edges do not
serve."""


class GenaiPrices:
    """The price data of the installed genai-prices."""

    def feeds(self) -> frozenset[str]:
        """Return the names of the providers that the data has."""
        from genai_prices.data import providers

        return frozenset(provider.id for provider in providers)

    def source(self) -> str:
        """Return the name and version of the price data, as events record it."""
        return f"genai-prices {version('genai-prices')}"

    def proposals(self, feed: str, today: date) -> list[Proposal]:
        """Return the price of every model that the data can price, once for each of its exact names."""
        from genai_prices.data import providers

        found: dict[str, Proposal] = {}
        for provider in providers:
            if provider.id != feed:
                continue
            for model in provider.models:
                prices = _unit_prices(model, [*_in_force(model, today), *_variants(model)])
                if prices is None:
                    continue
                for name in _names(model):
                    if MODEL_NAME.fullmatch(name) and name not in found and not _UNPRICED_NAMES.search(name):
                        proposal = Proposal(model=ModelName(name), prices=prices, context_tokens=model.context_window)
                        found[name] = proposal
        return list(found.values())


def _in_force(model: "types.ModelInfo", today: date) -> "Iterator[types.ModelPrice]":
    """Yield the prices that can apply from today on. The library tries conditions from the last to the first."""
    from genai_prices.types import StartDateConstraint

    if not isinstance(model.prices, list):
        yield model.prices
        return
    for conditional in reversed(model.prices):
        yield conditional.prices
        condition = conditional.constraint
        if condition is None or (isinstance(condition, StartDateConstraint) and condition.start_date <= today):
            return


def _variants(model: "types.ModelInfo") -> "Iterator[types.ModelPrice]":
    """Yield prices that replace usual ones under a condition that edges do not control, such as the route."""
    for variant in model.price_variants or ():
        if not _REQUESTED & variant.when.keys():
            yield variant.prices


def _names(model: "types.ModelInfo") -> Iterator[str]:
    """Yield the model's id and the names that its matching rule lists."""
    from genai_prices.types import ClauseEquals, ClauseOr

    yield model.id
    clauses = model.match.or_ if isinstance(model.match, ClauseOr) else [model.match]
    for clause in clauses:
        if isinstance(clause, ClauseEquals):
            yield clause.equals


def _unit_prices(model: "types.ModelInfo", candidates: "list[types.ModelPrice]") -> UnitPrices | None:
    def highest(*units: str) -> int | None:
        values = [value for prices in candidates for unit in units for value in _values(getattr(prices, unit, None))]
        return _nusd(max(values)) if values else None

    inputs = highest("input_mtok", "input_image_mtok", "input_video_mtok")
    outputs = highest("output_mtok", "output_image_mtok", "output_video_mtok", "output_citation_mtok")
    if outputs is None and "embed" in model.id:
        outputs = 0
    if inputs is None or outputs is None:
        return None
    cache_read = highest("cache_read_mtok", "cache_audio_read_mtok", "cache_image_read_mtok")
    cache_write = _or(highest("cache_write_mtok"), inputs)
    requests = highest("requests_kcount") or 0
    return UnitPrices(
        input_nusd=inputs,
        cache_read_nusd=inputs if cache_read is None else cache_read,
        cache_write_1h_nusd=_or(highest("cache_write_1h_mtok"), max(inputs, cache_write)),
        cache_write_nusd=cache_write,
        input_audio_nusd=_or(highest("input_audio_mtok"), inputs),
        output_nusd=outputs,
        reasoning_nusd=_or(highest("output_reasoning_mtok"), outputs),
        output_audio_nusd=_or(highest("output_audio_mtok"), outputs),
        request_nusd=-(-requests // _REQUESTS_PER_KCOUNT),
    )


def _or(value: int | None, otherwise: int) -> int:
    return otherwise if value is None else value


def _values(price: object) -> Iterable[Decimal]:
    """Return every price that a unit can have: itself, or all its tiers."""
    from genai_prices.types import TieredPrices

    if isinstance(price, TieredPrices):
        return [price.base, *(tier.price for tier in price.tiers)]
    return [price] if isinstance(price, Decimal) else []


def _nusd(dollars: Decimal) -> int:
    return int((min(dollars, USD_MAX) * NUSD_PER_USD).to_integral_value(ROUND_CEILING))
