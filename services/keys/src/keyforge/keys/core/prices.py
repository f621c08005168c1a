"""Decisions about prices. An operator's price replaces the price data's, and no feed changes it after that."""

from collections.abc import Iterable, Mapping

import msgspec

from keyforge.contracts import money
from keyforge.contracts.errors import Problem, problem
from keyforge.contracts.events import PriceSet
from keyforge.contracts.ids import MODEL_NAME, MODEL_NAME_FORM, ModelName, PriceId, ProviderId, TokenId
from keyforge.contracts.usage import UnitPrices
from keyforge.keys.core.facts import Price, Provider, price_bytes

BY_OPERATOR = "operator"
FEED_TOKEN = TokenId("price-feed")
BOOK_BYTES_MAX = 1_000_000
"""All prices of one provider: its price book must fit one message, and nats-server accepts 1 MiB unless configured."""

_BOOK_FULL = f"The provider's price book is full: it can have {BOOK_BYTES_MAX} bytes, some 500 per model."


class NewPrice(msgspec.Struct, frozen=True, kw_only=True):
    """A price as `PUT /v1/prices/...` requests it: dollars per million tokens and per request, as decimal strings."""

    input_per_mtok: str
    output_per_mtok: str
    cache_read_per_mtok: str | None = None
    cache_write_per_mtok: str | None = None
    cache_write_1h_per_mtok: str | None = None
    reasoning_per_mtok: str | None = None
    input_audio_per_mtok: str | None = None
    output_audio_per_mtok: str | None = None
    per_request: str | None = None
    max_output_tokens: int | None = None
    max_thinking_tokens: int | None = None
    context_tokens: int | None = None


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """A price as the price data has it."""

    model: ModelName
    prices: UnitPrices
    context_tokens: int | None


def put(
    provider: Provider | None, model: str, current: Price | None, new: NewPrice, *, book_bytes: int, by: TokenId
) -> PriceSet | Problem | None:
    """Set a model's price for an operator; None if nothing would change. `book_bytes`: the size of the price book."""
    if provider is None:
        return problem("not_found", "Provider not found: register it first.")
    if MODEL_NAME.fullmatch(model) is None:
        return problem("request_invalid", f"`model` {MODEL_NAME_FORM}.", param="model")
    if current is None and book_bytes + price_bytes(provider.provider, model) > BOOK_BYTES_MAX:
        return problem("request_invalid", _BOOK_FULL)
    prices = unit_prices(new)
    if isinstance(prices, Problem):
        return prices
    price = price_set(
        provider.provider,
        ModelName(model),
        current,
        prices,
        max_output_tokens=new.max_output_tokens,
        max_thinking_tokens=new.max_thinking_tokens,
        context_tokens=new.context_tokens,
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
    """Return what the price data changes: models without a price, and prices of its own that differ.

    `current` holds at least the prices that the proposed models have, `book_bytes` is the size of the provider's price
    book. What does not fit there is left out.
    """
    changes: list[PriceSet] = []
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
            max_thinking_tokens=None,
            context_tokens=proposal.context_tokens,
            source=source,
            by=FEED_TOKEN,
        )
        changes.append(price)
    return changes


def price_set(
    provider: ProviderId,
    model: ModelName,
    current: Price | None,
    prices: UnitPrices,
    *,
    max_output_tokens: int | None,
    max_thinking_tokens: int | None,
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
        max_thinking_tokens=max_thinking_tokens,
        context_tokens=context_tokens,
        source=source,
        by=by,
    )


def price_version(id_: PriceId) -> int:
    """Return the count in a price id; 0 if it has none."""
    count = id_.rpartition("@")[2]
    return int(count) if count.isascii() and count.isdigit() else 0


def unit_prices(new: NewPrice) -> UnitPrices | Problem:
    """Read the decimal strings; a usage bucket without a price of its own costs what its tokens are billed as."""
    read: dict[str, int] = {}
    for field in NewPrice.__struct_fields__:
        text = getattr(new, field)
        if isinstance(text, str):
            try:
                read[field] = money.nusd(text)
            except money.MoneyError as error:
                return problem(
                    "request_invalid",
                    f'`{field}` must be a decimal string of dollars, such as "0.15": {error}.',
                    param=field,
                )
    inputs, outputs = read["input_per_mtok"], read["output_per_mtok"]
    cache_write = read.get("cache_write_per_mtok", inputs)
    return UnitPrices(
        input_nusd=inputs,
        cache_read_nusd=read.get("cache_read_per_mtok", inputs),
        cache_write_1h_nusd=read.get("cache_write_1h_per_mtok", max(inputs, cache_write)),
        cache_write_nusd=cache_write,
        input_audio_nusd=read.get("input_audio_per_mtok", inputs),
        output_nusd=outputs,
        reasoning_nusd=read.get("reasoning_per_mtok", outputs),
        output_audio_nusd=read.get("output_audio_per_mtok", outputs),
        request_nusd=read.get("per_request", 0),
    )


def _same(current: Price, price: PriceSet) -> bool:
    fields = ("prices", "max_output_tokens", "max_thinking_tokens", "context_tokens", "source")
    return all(getattr(current, field) == getattr(price, field) for field in fields)
