"""What the price data says, in prices that never come out too low."""

from datetime import UTC, date, datetime
from itertools import product

import pytest

from keyforge.contracts.ids import ModelName
from keyforge.keys.core.presets import PRESETS, preset_of
from keyforge.keys.outbound.price_data import GenaiPrices


@pytest.mark.parametrize(
    ("id_", "kind", "feed"),
    [
        ("openai", "openai", "openai"),
        ("mine", "openai", "openai"),
        ("groq", "openai-compatible", "groq"),
        ("gemini", "gemini", "google"),
        ("simulator", "openai-compatible", None),
    ],
)
def test_which_price_data_a_provider_has(id_: str, kind: str, feed: str | None) -> None:
    assert preset_of(kind, id_).price_feed == feed


def test_every_preset_has_prices_in_the_data() -> None:
    assert {preset.price_feed for preset in PRESETS.values()} <= GenaiPrices().feeds()


@pytest.mark.parametrize("feed", ["openai", "anthropic", "groq", "mistral", "deepseek", "openrouter", "google"])
def test_price_data_is_never_below_what_the_library_charges(feed: str) -> None:
    """For each model, as many tokens as cross every tier, at any hour, by any route that a provider may take: what we
    pin is at least what it would cost."""
    from genai_prices import Usage
    from genai_prices.data import providers

    today = date(2026, 11, 23)
    found = {proposal.model: proposal for proposal in GenaiPrices().proposals(feed, today)}
    assert len(found) > 5
    (source,) = [one for one in providers if one.id == feed]
    compared = 0
    asked_for = {"processing", "service_tier", "speed"}  # what edges take nothing but the usual of
    for model in source.models:
        proposal = found.get(ModelName(model.id))
        if proposal is None:
            continue
        routes = [one.when for one in model.price_variants or () if not asked_for & one.when.keys()]
        for hour, tokens, route in product((3, 12, 20), (1_000, 3_000_000), (None, *routes)):
            cost = model.calc_price(
                Usage(input_tokens=tokens, output_tokens=tokens),
                source,
                genai_request_timestamp=datetime(2026, 11, 23, hour, tzinfo=UTC),
                price_context=route,
            )
            ours = tokens * (proposal.prices.input_nusd + proposal.prices.output_nusd) // 1_000_000
            assert ours + proposal.prices.request_nusd + 1 >= cost.total_price * 1_000_000_000, (model.id, route)
            compared += 1
    assert compared


@pytest.mark.parametrize(("feed", "hours"), [("anthropic", 20), ("openrouter", 2), ("openai", 0)])
def test_writes_of_minutes_and_of_an_hour_are_priced_apart(feed: str, hours: int) -> None:
    """An hour costs twice an input token, minutes 1.25 times: at Anthropic, and wherever the data knows it."""
    found = [proposal.prices for proposal in GenaiPrices().proposals(feed, date(2026, 11, 23))]
    known = [one for one in found if one.knows_cache_1h]
    assert len(known) >= hours
    for one in known:
        assert one.cache_write_1h_nusd > one.cache_write_nusd > one.input_nusd
    for one in found:
        assert one.cache_write_1h_nusd >= max(one.input_nusd, one.cache_write_nusd)


@pytest.mark.parametrize(
    ("feed", "left_out", "kept"),
    [
        ("openai", ["gpt-4o-audio-preview", "gpt-4o-search-preview", "o3-deep-research", "gpt-image-1"], "gpt-4o-mini"),
        ("openrouter", ["openai/gpt-audio", "perplexity/sonar", "openai/gpt-4o:batch"], "nousresearch/hermes-4-70b"),
        ("google", ["gemini-2.5-flash-image", "gemini-2.5-flash-tts"], "gemini-2.5-flash"),
    ],
)
def test_models_that_bill_what_the_data_does_not_price_are_left_out(feed: str, left_out: list[str], kept: str) -> None:
    found = {proposal.model for proposal in GenaiPrices().proposals(feed, date(2026, 11, 23))}
    assert kept in found
    assert not found.intersection(left_out)
