"""What keys decides about limits, providers, credentials and prices."""

from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from keyforge.contracts.directory import encode
from keyforge.contracts.errors import Problem
from keyforge.contracts.events import KeyStatus, Role
from keyforge.contracts.ids import CredentialId, ModelName, PriceId, ProviderId, TokenId
from keyforge.contracts.limits import LIMITS_MAX
from keyforge.contracts.usage import UnitPrices
from keyforge.keys.core import prices, providers
from keyforge.keys.core.entries import price_book
from keyforge.keys.core.facts import Credential, OperatorToken, Price, Provider, price_bytes
from keyforge.keys.core.limits import NewLimit, cap_text, limits_of
from keyforge.keys.core.names import prices_of
from keyforge.keys.core.prices import NewPrice, Proposal
from keyforge.keys.core.providers import EncryptedCredential, NewProvider
from keyforge.keys.inbound.requests import TOKENS_MAX
from keyforge.keys.outbound.fact_cache import FactCache
from tests.unit.keys_outcomes import names_its_field, outcome

NOW = datetime(2030, 1, 1, tzinfo=UTC)
BY = TokenId("op")
MESSAGE_BYTES_MAX = 1024 * 1024
"""What a NATS server takes if nobody tells it otherwise, headers with it."""
HEADER_BYTES = 1_000
PROVIDER = Provider(
    id="provider:p",
    version=1,
    created_at=NOW,
    updated_at=NOW,
    provider=ProviderId("p"),
    kind="openai",
    base_url="https://api.example.com/v1",
    allow_insecure=False,
    dialects=("openai-chat",),
    auth="bearer",
    price_feed="openai",
)


@pytest.mark.parametrize(
    ("ask", "comes"),
    [
        pytest.param(("usd", "month", "5"), ("usd", "month", 5_000_000_000), id="dollars"),
        pytest.param(("usd", "total", "0.0000000001"), ("usd", "total", 1), id="less than a nano-dollar"),
        pytest.param(("usd", "day", "0"), ("usd", "day", 0), id="nothing at all"),
        pytest.param(("requests", "minute", 60), ("requests", "minute", 60), id="requests"),
        pytest.param(("concurrency", None, 4), ("concurrency", "total", 4), id="concurrency without a window"),
        pytest.param(("concurrency", "total", 4), ("concurrency", "total", 4), id="concurrency in total"),
        pytest.param(("concurrency", "day", 4), "limits.0.window", id="concurrency per day"),
        pytest.param(("tokens", None, 4), "limits.0.window", id="tokens without a window"),
        pytest.param(("tokens", "day", "4"), "limits.0.cap", id="tokens as text"),
        pytest.param(("usd", "day", 4), "limits.0.cap", id="dollars as a number"),
        pytest.param(("usd", "day", "-1"), "limits.0.cap", id="negative dollars"),
        pytest.param(("usd", "day", "1e99"), "limits.0.cap", id="too many dollars"),
        pytest.param(("usd", "day", "NaN"), "limits.0.cap", id="no number"),
        pytest.param(("requests", "day", -1), "limits.0.cap", id="negative requests"),
        pytest.param(("requests", "day", 10**30), "limits.0.cap", id="too many requests"),
    ],
)
def test_limits(ask: tuple[Any, Any, Any], comes: Any) -> None:
    found = limits_of([NewLimit(*ask)])
    if isinstance(found, Problem):
        assert found.param == comes
        assert names_its_field(found), found
    else:
        assert [(limit.unit, limit.window, limit.cap) for limit in found] == [comes]


def test_limits_are_bounded_before_each_is_read() -> None:
    many = limits_of([NewLimit("requests", "day", "x")] * (LIMITS_MAX + 1))
    assert outcome(many if isinstance(many, Problem) else None) == ("request_invalid", "limits")


def test_limits_are_unique_and_written_as_read() -> None:
    twice = limits_of([NewLimit("requests", "day", 1), NewLimit("requests", "day", 2)])
    assert outcome(twice if isinstance(twice, Problem) else None) == ("request_invalid", "limits.1")
    found = limits_of([NewLimit("usd", "day", "5.50"), NewLimit("tokens", "day", 7)])
    assert not isinstance(found, Problem)
    assert [cap_text(limit) for limit in found] == ["5.5", 7]


def test_register_provider() -> None:
    same = NewProvider(provider=PROVIDER.provider, kind="openai", base_url=PROVIDER.base_url + "/")
    moved = NewProvider(provider=PROVIDER.provider, kind="openai", base_url="https://eu.example.com")
    assert outcome(providers.register(None, same, by=BY)) == "ProviderRegistered"
    assert providers.register(PROVIDER, same, by=BY) is None
    registered = providers.register(PROVIDER, moved, by=BY)
    assert not isinstance(registered, Problem)
    assert registered is not None
    assert (registered.revision, registered.base_url) == (2, "https://eu.example.com")
    insecure = NewProvider(provider=PROVIDER.provider, kind="openai", base_url="http://127.0.0.1:1")
    assert outcome(providers.register(None, insecure, by=BY)) == ("request_invalid", "base_url")


@pytest.mark.parametrize(
    ("provider", "url", "held", "comes"),
    [
        pytest.param(PROVIDER, PROVIDER.base_url, 0, "CredentialAdded", id="added"),
        pytest.param(None, PROVIDER.base_url, 0, ("not_found", None), id="no provider"),
        pytest.param(PROVIDER, "https://old.example.com", 0, ("conflict", None), id="encrypted for what it was"),
        pytest.param(PROVIDER, PROVIDER.base_url, 200, ("request_invalid", None), id="too many"),
    ],
)
def test_add_credential(provider: Provider | None, url: str, held: int, comes: Any) -> None:
    ask = EncryptedCredential(
        credential=CredentialId("c"), base_url=url, encrypted="s", encrypted_to="t", weight=1, quota_group="c"
    )
    assert outcome(providers.add_credential(provider, ask, credentials=held, by=BY)) == comes


def credential(status: KeyStatus) -> Credential:
    return Credential(
        id="credential:c",
        version=1,
        created_at=NOW,
        updated_at=NOW,
        credential=CredentialId("c"),
        provider=PROVIDER.provider,
        base_url=PROVIDER.base_url,
        encrypted="s",
        encrypted_to="t",
        weight=1,
        quota_group="c",
        status=status,
    )


@pytest.mark.parametrize(
    ("known", "provider", "comes"),
    [
        pytest.param(credential("active"), "p", "CredentialRevoked", id="ended"),
        pytest.param(credential("revoked"), "p", None, id="has ended"),
        pytest.param(credential("active"), "q", ("not_found", None), id="of another provider"),
        pytest.param(None, "p", ("not_found", None), id="no such credential"),
    ],
)
def test_revoke_credential(known: Credential | None, provider: str, comes: Any) -> None:
    assert outcome(providers.revoke_credential(known, provider, reason="", by=BY)) == comes


def operator(role: Role, status: KeyStatus = "active") -> OperatorToken:
    token = TokenId("o")
    return OperatorToken(
        id="operator:o",
        version=1,
        created_at=NOW,
        updated_at=NOW,
        token_id=token,
        role=role,
        digest="d",
        status=status,
    )


@pytest.mark.parametrize(
    ("known", "admins", "comes"),
    [
        pytest.param(operator("platform-admin"), 2, "OperatorRevoked", id="one of two admins"),
        pytest.param(operator("platform-admin"), 1, ("last_admin", None), id="the last admin"),
        pytest.param(operator("platform-auditor"), 1, "OperatorRevoked", id="an auditor"),
        pytest.param(operator("platform-admin", "revoked"), 1, None, id="has ended, and one admin is left"),
        pytest.param(None, 2, ("not_found", None), id="no such token"),
    ],
)
def test_revoke_operator(known: OperatorToken | None, admins: int, comes: Any) -> None:
    assert outcome(providers.revoke_operator(known, admins_live=admins, reason="", by=BY)) == comes


def test_a_bucket_without_a_price_costs_what_it_is_billed_as() -> None:
    ask = NewPrice(input_per_mtok="0.15", output_per_mtok="0.6", reasoning_per_mtok="1", per_request="0.0000000011")
    assert prices.unit_prices(ask) == UnitPrices(
        input_nusd=150_000_000,
        cache_read_nusd=150_000_000,
        cache_write_1h_nusd=150_000_000,
        cache_write_nusd=150_000_000,
        input_audio_nusd=150_000_000,
        output_nusd=600_000_000,
        reasoning_nusd=1_000_000_000,
        output_audio_nusd=600_000_000,
        request_nusd=2,
    )
    wrong = prices.unit_prices(NewPrice(input_per_mtok="1", output_per_mtok="1", cache_read_per_mtok="-1"))
    assert isinstance(wrong, Problem)
    assert wrong.param == "cache_read_per_mtok"


def priced(dollars: int) -> UnitPrices:
    found = prices.unit_prices(NewPrice(input_per_mtok=str(dollars), output_per_mtok=str(dollars)))
    assert isinstance(found, UnitPrices)
    return found


def known(dollars: int, source: str) -> Price:
    return Price(
        id="price:p/m",
        version=1,
        created_at=NOW,
        updated_at=NOW,
        provider=ProviderId("p"),
        model=ModelName("m"),
        price_id=PriceId("p/m@1"),
        prices=priced(dollars),
        max_output_tokens=None,
        context_tokens=None,
        source=source,
    )


@pytest.mark.parametrize(
    ("current", "book_bytes", "said"),
    [
        pytest.param(None, 0, ["p/m@1"], id="a new model"),
        pytest.param(known(2, "genai-prices 1"), 1, ["p/m@2"], id="its own price changed"),
        pytest.param(known(1, "genai-prices 1"), 1, [], id="its own price as it was"),
        pytest.param(known(2, prices.BY_OPERATOR), 1, [], id="an operator's word"),
        pytest.param(None, prices.BOOK_BYTES_MAX - price_bytes("p", "m"), ["p/m@1"], id="room for one"),
        pytest.param(None, prices.BOOK_BYTES_MAX, [], id="no room"),
        pytest.param(known(2, "genai-prices 1"), prices.BOOK_BYTES_MAX, ["p/m@2"], id="another price takes no room"),
    ],
)
def test_the_feed_never_overrules_an_operator(current: Price | None, book_bytes: int, said: list[str]) -> None:
    proposal = Proposal(model=ModelName("m"), prices=priced(1), context_tokens=None)
    by_model = {current.model: current} if current else {}
    found = prices.feed(ProviderId("p"), by_model, [proposal], book_bytes=book_bytes, source="genai-prices 2")
    assert [price.price_id for price in found] == said


def test_put_price() -> None:
    ask = NewPrice(input_per_mtok="1", output_per_mtok="1")
    assert outcome(prices.put(None, "m", None, ask, book_bytes=0, by=BY)) == ("not_found", None)
    assert outcome(prices.put(PROVIDER, "", None, ask, book_bytes=0, by=BY)) == ("request_invalid", "model")
    assert outcome(prices.put(PROVIDER, "a b", None, ask, book_bytes=0, by=BY)) == ("request_invalid", "model")
    assert outcome(prices.put(PROVIDER, "m", known(1, prices.BY_OPERATOR), ask, book_bytes=1, by=BY)) is None
    assert outcome(prices.put(PROVIDER, "m", known(1, "genai-prices 1"), ask, book_bytes=1, by=BY)) == "PriceSet"
    full = prices.BOOK_BYTES_MAX
    assert outcome(prices.put(PROVIDER, "m", None, ask, book_bytes=full, by=BY)) == ("request_invalid", None)
    assert outcome(prices.put(PROVIDER, "m", known(2, "genai-prices 1"), ask, book_bytes=full, by=BY)) == "PriceSet"


def longest(model: str) -> Price:
    """A price whose every number is as long as it can be."""
    most = UnitPrices(**dict.fromkeys(UnitPrices.__struct_fields__, 9_000_000_000 * 1_000_000_000))
    provider, price_id = ProviderId("p" * 63), PriceId(f"{'p' * 63}/{model}@{10**9}")
    changes = {"id": f"price:{model}", "provider": provider, "model": ModelName(model), "price_id": price_id}
    tokens = dict.fromkeys(("max_output_tokens", "max_thinking_tokens"), TOKENS_MAX)
    return replace(known(1, "x"), **changes, **tokens, prices=most, context_tokens=10**12)


@pytest.mark.parametrize("chars", [1, 30, 200])
def test_a_full_price_book_fits_one_message(chars: int) -> None:
    book = FactCache()
    for number in range(prices.BOOK_BYTES_MAX):
        size = book.shared_bytes(prices_of("p" * 63))
        found = longest(f"{number:x}".rjust(chars, "m"))
        ask = NewPrice(input_per_mtok="1", output_per_mtok="1")
        owner = replace(PROVIDER, provider=found.provider)
        if isinstance(prices.put(owner, found.model, None, ask, book_bytes=size, by=BY), Problem):
            break
        book.accept(found)
    shown = price_book(ProviderId("p" * 63), (fact for fact in book if isinstance(fact, Price)))
    assert len(shown.models) > 1_000
    assert len(encode(shown)) < MESSAGE_BYTES_MAX - HEADER_BYTES


def test_a_bucket_without_a_price_costs_what_its_tokens_are_billed_as() -> None:
    found = prices.unit_prices(NewPrice(input_per_mtok="1", output_per_mtok="2"))
    assert isinstance(found, UnitPrices)
    assert {found.input_nusd, found.cache_read_nusd, found.cache_write_nusd, found.input_audio_nusd} == {10**9}
    assert found.cache_write_1h_nusd == 10**9
    assert not found.knows_cache_1h
    assert {found.output_nusd, found.reasoning_nusd, found.output_audio_nusd} == {2 * 10**9}
    assert found.request_nusd == 0


@pytest.mark.parametrize(
    ("write", "hour", "pinned", "known"),
    [
        (None, None, 1, False),
        ("1.25", None, 1.25, False),
        ("0.5", None, 1, False),
        (None, "2", 2, True),
        ("1.25", "2", 2, True),
        ("1.25", "0", 0, True),
        ("1.25", "1.25", 1.25, False),
    ],
)
def test_a_write_for_an_hour(write: str | None, hour: str | None, pinned: float, known: bool) -> None:
    """Without a price of its own it has the highest of those that can apply."""
    ask = NewPrice(input_per_mtok="1", output_per_mtok="9", cache_write_per_mtok=write, cache_write_1h_per_mtok=hour)
    found = prices.unit_prices(ask)
    assert isinstance(found, UnitPrices)
    assert (found.cache_write_1h_nusd, found.knows_cache_1h) == (pinned * 10**9, known)
