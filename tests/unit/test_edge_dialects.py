"""The seam of dialects: no route without all of its parts, no provider asked in what it does not speak."""

import json

import msgspec
import pytest

from keyforge.contracts.directory import PriceEntry
from keyforge.contracts.errors import Problem
from keyforge.contracts.events import Endpoint
from keyforge.contracts.ids import ModelName, PriceId
from keyforge.contracts.providers import DIALECTS
from keyforge.edge.core.dialects import registry
from keyforge.edge.core.dialects.base import AskedEndpoint, ServedEndpoint
from keyforge.edge.core.dialects.openai_chat.agent import OpenAIAgent
from keyforge.edge.core.dialects.openai_chat.provider import OpenAIProvider
from keyforge.edge.core.judge import OutgoingRequest, outgoing_for
from keyforge.edge.core.routing.catalogue import Route
from tests.unit.edge_twins import CHAT, FREE, KEY, PROVIDER

PRICE = PriceEntry(price_id=PriceId("p"), prices=FREE, max_output_tokens=None, context_tokens=None)


class MuteAgent(OpenAIAgent):
    """A dialect without endpoints."""

    def asked(self, endpoint: Endpoint) -> AskedEndpoint | None:
        return None


class MuteProvider(OpenAIProvider):
    """A dialect without endpoints."""

    def served(self, endpoint: Endpoint) -> ServedEndpoint | None:
        return None


@pytest.mark.parametrize(
    ("agent", "provider", "why"),
    [
        (MuteAgent(), OpenAIProvider(), "no parser and no pricer for embeddings"),
        (OpenAIAgent(), MuteProvider(), "usage reader for embeddings"),
    ],
)
def test_a_route_that_cannot_be_priced_or_metered_is_not_registered(
    agent: OpenAIAgent, provider: OpenAIProvider, why: str
) -> None:
    with pytest.raises(registry.IncompleteRoute, match=why):
        registry.route("POST", "/v1/embeddings", "embeddings", agent, [provider])


def test_no_part_of_an_endpoint_may_be_left_out() -> None:
    with pytest.raises(TypeError, match="price"):
        AskedEndpoint(CHAT.parse)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="read_usage"):
        ServedEndpoint("/chat/completions")  # type: ignore[call-arg]


def test_every_dialect_that_a_provider_may_be_registered_with_is_there() -> None:
    assert set(registry.PROVIDERS) == set(DIALECTS)


def outgoing(dialects: tuple[str, ...]) -> OutgoingRequest | Problem:
    parsed = CHAT.parse(json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}]}).encode())
    assert not isinstance(parsed, Problem)
    return outgoing_for(CHAT, parsed, Route(PROVIDER, ModelName("m"), "openai", PRICE, dialects), KEY)


def test_a_provider_is_asked_in_the_agents_own_dialect_or_not_at_all() -> None:
    for spoken in (("openai-chat",), ("of-a-later-version", "openai-chat")):
        found = outgoing(spoken)
        assert isinstance(found, OutgoingRequest)
        assert found.speaks.name == CHAT.agent.name
        assert found.served.target == "/chat/completions"
    for unknown in ((), ("of-a-later-version",)):
        wrong = outgoing(unknown)
        assert isinstance(wrong, Problem)
        assert (wrong.kind.type, wrong.kind.status) == ("endpoint_unsupported", 400)
    silent = msgspec.structs.replace(CHAT, endpoint="responses")  # one that nobody serves
    parsed = CHAT.parse(b'{"model": "m", "messages": [{"role": "user", "content": "hello"}]}')
    assert not isinstance(parsed, Problem)
    assert isinstance(outgoing_for(silent, parsed, Route(PROVIDER, ModelName("m"), "openai", PRICE), KEY), Problem)
