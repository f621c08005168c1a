"""Decisions about prices. An operator's price wins over the price data's, for good: a feed never changes it."""

from collections.abc import Iterable, Mapping

import msgspec

from keyforge.contracts import money
from keyforge.contracts.errors import Problem, problem
from keyforge.contracts.events import PriceSet
from keyforge.contracts.ids import MODEL_NAME, ModelName, PriceId, ProviderId, TokenId
from keyforge.contracts.usage import UnitPrices
from keyforge.keys.core.facts import Price, Provider, price_bytes

BY_OPERATOR = "operator"
FEED_TOKEN = TokenId("price-feed")
BOOK_BYTES_MAX = 1_000_000
"""All prices of one provider: its price book must fit one message, of which a server takes 1 MiB."""


class PriceAsk(msgspec.Struct, frozen=True, kw_only=True):
    """What `PUT /v1/prices/...` asks for: dollars per million tokens, and per request, as decimal strings."""

    input_per_mtok: str
    output_per_mtok: str
    cache_read_per_mtok: str | None = None
    cache_write_per_mtok: str | None = None
    reasoning_per_mtok: str | None = None
    input_audio_per_mtok: str | None = None
    output_audio_per_mtok: str | None = None
    per_request: str | None = None
    max_output_tokens: int | None = None
    context_tokens: int | None = None


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """A price as the price data has it."""

    model: ModelName
    prices: UnitPrices
    context_tokens: int | None


def put(
    provider: Provider | None, model: str, current: Price | None, ask: PriceAsk, *, book_bytes: int, by: TokenId
) -> PriceSet | Problem | None:
    """Set a model's price by an operator's word; None if it has it. `book_bytes`: what the provider's prices take."""
    if provider is None:
        return problem("not_found", "This provider is not registered.")
    if MODEL_NAME.fullmatch(model) is None:
        return problem("request_invalid", "This cannot be a model's name.", param="model")
    if current is None and book_bytes + price_bytes(provider.provider, model) > BOOK_BYTES_MAX:
        return problem("request_invalid", "This provider has prices for as many models as fit one message.")
    prices = unit_prices(ask)
    if isinstance(prices, Problem):
        return prices
    price = price_set(
        provider.provider,
        ModelName(model),
        current,
        prices,
        max_output_tokens=ask.max_output_tokens,
        context_tokens=ask.context_tokens,
        source=BY_OPERATOR,
        by=by,
    )
    return None if current is not None and _same(current, price) else price


def feed(
    provider: ProviderId,
    current: Mapping[ModelName, Price],
    proposals: Iterable[Proposal],
    *,
    book_bytes: int,
    source: str,
) -> list[PriceSet]:
    """Return what the price data has to say that is not known: models without a price, and its own that changed.

    `current` holds at least the prices that there are of the models proposed, `book_bytes` is what all prices of the
    provider take. What finds no room is left out.
    """
    said: list[PriceSet] = []
    room_bytes = BOOK_BYTES_MAX - book_bytes
    for proposal in proposals:
        known = current.get(proposal.model)
        size = price_bytes(provider, proposal.model) if known is None else 0
        if size > room_bytes:
            continue
        if known is not None and (
            known.source == BY_OPERATOR
            or (known.prices, known.context_tokens) == (proposal.prices, proposal.context_tokens)
        ):
            continue
        room_bytes -= size
        price = price_set(
            provider,
            proposal.model,
            known,
            proposal.prices,
            max_output_tokens=None,
            context_tokens=proposal.context_tokens,
            source=source,
            by=FEED_TOKEN,
        )
        said.append(price)
    return said


def price_set(
    provider: ProviderId,
    model: ModelName,
    current: Price | None,
    prices: UnitPrices,
    *,
    max_output_tokens: int | None,
    context_tokens: int | None,
    source: str,
    by: TokenId,
) -> PriceSet:
    """Make the event. Its price id is the model's name and a count, so an admission shows which price it pinned."""
    return PriceSet(
        provider=provider,
        model=model,
        price_id=PriceId(f"{provider}/{model}@{(current.version if current else 0) + 1}"),
        prices=prices,
        max_output_tokens=max_output_tokens,
        context_tokens=context_tokens,
        source=source,
        by=by,
    )


def price_version(id_: PriceId) -> int:
    """Return the count in a price id; 0 if it has none."""
    count = id_.rpartition("@")[2]
    return int(count) if count.isascii() and count.isdigit() else 0


def unit_prices(ask: PriceAsk) -> UnitPrices | Problem:
    """Read the decimal strings; a bucket without a price costs what it is billed as."""
    read: dict[str, int] = {}
    for field in PriceAsk.__struct_fields__:
        text = getattr(ask, field)
        if isinstance(text, str):
            try:
                read[field] = money.nusd(text)
            except money.MoneyError as error:
                return problem("request_invalid", f"A price is a decimal string of dollars: {error}.", param=field)
    inputs, outputs = read["input_per_mtok"], read["output_per_mtok"]
    return UnitPrices(
        input_nusd=inputs,
        cache_read_nusd=read.get("cache_read_per_mtok", inputs),
        cache_write_nusd=read.get("cache_write_per_mtok", inputs),
        input_audio_nusd=read.get("input_audio_per_mtok", inputs),
        output_nusd=outputs,
        reasoning_nusd=read.get("reasoning_per_mtok", outputs),
        output_audio_nusd=read.get("output_audio_per_mtok", outputs),
        request_nusd=read.get("per_request", 0),
    )


def _same(current: Price, price: PriceSet) -> bool:
    fields = ("prices", "max_output_tokens", "context_tokens", "source")
    return all(getattr(current, field) == getattr(price, field) for field in fields)
