"""Requests as they go to a provider of some kind, and errors in OpenAI's shape."""

import json
from typing import Any

from keyforge.contracts.directory import PriceEntry
from keyforge.contracts.errors import Problem
from keyforge.contracts.ids import ModelName, PriceId
from keyforge.contracts.usage import UnitPrices
from keyforge.edge.core.dialects.additions import NOTHING, Concessions
from keyforge.edge.core.judge import OutgoingRequest, outgoing_for
from keyforge.edge.core.routing.catalogue import Route
from tests.unit.edge_twins import CHAT, FREE, KEY, PROVIDER


def prepared(
    kind: str,
    /,
    concessions: Concessions = NOTHING,
    *,
    prices: UnitPrices = FREE,
    thinking_max: int | None = None,
    **fields: Any,
) -> OutgoingRequest | Problem:
    """Return what would be sent of a chat with these fields. `thinking_max`: what the model thinks beside the cap."""
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}], **fields}
    parsed = CHAT.parse(json.dumps(body).encode())
    assert not isinstance(parsed, Problem), parsed
    price = PriceEntry(
        price_id=PriceId("p"),
        prices=prices,
        max_output_tokens=None,
        context_tokens=None,
        max_thinking_tokens=thinking_max,
    )
    return outgoing_for(CHAT, parsed, Route(PROVIDER, ModelName("m"), kind, price), KEY, concessions)


def outgoing(kind: str = "other", /, concessions: Concessions = NOTHING, **fields: Any) -> OutgoingRequest:
    """Return what is sent; see `prepared`."""
    found = prepared(kind, concessions, **fields)
    assert isinstance(found, OutgoingRequest), found
    return found


def openai_error(message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """Return an error as OpenAI words it."""
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}
