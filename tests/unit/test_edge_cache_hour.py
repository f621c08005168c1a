"""A request that asks a provider to keep something for an hour is seen, and its worst case has the price of that."""

from typing import Any

import msgspec
import pytest

from keyforge.contracts.errors import Problem
from keyforge.edge.core.dialects.base import ParsedRequest
from keyforge.edge.core.dialects.openai_chat import NAME, workload
from keyforge.edge.core.dialects.openai_chat.request import (
    CacheControl,
    ChatMessage,
    ChatRequest,
    ImagePart,
    Part,
    TextPart,
    Tool,
)
from keyforge.edge.core.dialects.quirks import quirks_of
from keyforge.edge.core.pricing import worst_case
from keyforge.edge.core.pricing.workload import Workload
from keyforge.edge.core.pricing.worst_case import WorstCase
from tests.unit.test_edge_worst_case import PRICES, chat, prepared, rendered, route


def test_a_cache_for_an_hour_costs_more_where_one_is_asked_for() -> None:
    body, cap = 1_000_000, 10
    quirks = quirks_of("openrouter")
    known = [worst_case.worst_case(Workload(cache_1h=asked), body, cap, quirks, PRICES) for asked in (False, True)]
    minutes, hours = (one.nusd if isinstance(one, WorstCase) else 0 for one in known)
    given_ = body + worst_case.REQUEST_TOKENS + worst_case.MESSAGE_TOKENS
    million = PRICES.request_nusd * 1_000_000 + cap * PRICES.reasoning_nusd
    assert minutes == -(-(million + given_ * PRICES.cache_write_nusd) // 1_000_000)
    assert hours == -(-(million + given_ * PRICES.cache_write_1h_nusd) // 1_000_000)


def test_a_cache_for_an_hour_without_a_price_is_refused() -> None:
    prices = msgspec.structs.replace(PRICES, cache_write_1h_nusd=PRICES.cache_write_nusd)
    refused = worst_case.worst_case(Workload(cache_1h=True), 1_000, 10, quirks_of("openrouter"), prices)
    assert isinstance(refused, Problem)
    assert (refused.kind.type, refused.param) == ("field_unsupported", "cache_control.ttl")


@pytest.mark.parametrize("where", ["a message", "a part", "an image", "a tool"])
@pytest.mark.parametrize("kind", ["openrouter", "openai", "groq", "other"])
def test_an_hour_is_taken_where_it_has_a_price_and_refused_where_not(where: str, kind: str) -> None:
    mark = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    body: dict[str, Any] = {
        "a message": {"messages": [{"role": "user", "content": "a", **mark}]},
        "a part": chat([{"type": "text", "text": "a", **mark}]),
        "an image": chat([{"type": "image_url", "image_url": "https://a/b.png", **mark}]),
        "a tool": chat(tools=[{"type": "function", "function": {"name": "f"}, **mark}]),
    }[where]
    taken = rendered(body, route(kind))
    assert b'"ttl":"1h"' in taken.body
    assert taken.workload.cache_1h
    prices = msgspec.structs.replace(PRICES, cache_write_1h_nusd=PRICES.cache_write_nusd)
    unpriced = msgspec.structs.replace(route(kind), price=msgspec.structs.replace(route(kind).price, prices=prices))
    refused = prepared(body, unpriced)
    assert isinstance(refused, Problem)
    assert (refused.kind.type, refused.param) == ("field_unsupported", "cache_control.ttl")


def test_minutes_are_no_hour() -> None:
    """Wherever a mark may stand: in a message, in a part of one, at a tool."""
    for ttl in ({}, {"ttl": "5m"}, {"ttl": None}):
        mark = {"cache_control": {"type": "ephemeral", **ttl}}
        tool = {"type": "function", "function": {"name": "f"}, **mark}
        found = rendered(chat([{"type": "text", "text": "a", **mark}], tools=[tool]))
        assert not found.workload.cache_1h


@pytest.mark.parametrize("where", ["a message", "a part", "an image", "a tool"])
def test_an_hour_is_seen_wherever_it_is_asked_for(where: str) -> None:
    hour: Any = "1h"
    mark = CacheControl(type="ephemeral", ttl=hour)
    text = ChatMessage(role="user", content="a")
    asked: dict[str, ChatMessage | Part | Tool] = {
        "a message": msgspec.structs.replace(text, cache_control=mark),
        "a part": TextPart(text="a", cache_control=mark),
        "an image": ImagePart(image_url="https://a/b.png", cache_control=mark),
        "a tool": Tool(cache_control=mark),
    }
    one = asked[where]
    message = one if isinstance(one, ChatMessage) else text
    if isinstance(one, TextPart | ImagePart):
        message = msgspec.structs.replace(text, content=[one])
    request = ChatRequest(model="m", messages=[message], tools=[one] if isinstance(one, Tool) else None)
    assert workload.of_chat(ParsedRequest(NAME, "m", request)).cache_1h
