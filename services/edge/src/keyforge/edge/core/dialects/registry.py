"""Which dialects there are: what agents speak on each route, and what providers speak. A new one is entered here."""

from collections.abc import Iterable, Mapping
from typing import Final, Literal

import msgspec

from keyforge.contracts.events import Endpoint
from keyforge.edge.core.dialects.base import AgentDialect, Parser, Pricer, ProviderDialect
from keyforge.edge.core.dialects.openai_chat.agent import OpenAIAgent
from keyforge.edge.core.dialects.openai_chat.provider import OpenAIProvider

ErrorShape = Literal["openai", "openrouter"]
"""Whose statuses a route's errors have. OpenRouter's clients expect 403 where a key's own cap on usd is reached."""


class IncompleteRoute(Exception):
    """A route that could not be served, priced or metered; the text names what it lacks."""


class AgentRoute(msgspec.Struct, frozen=True):
    """A route that costs money."""

    method: str
    path: str
    endpoint: Endpoint
    errors: ErrorShape
    agent: AgentDialect
    parse: Parser
    price: Pricer


def route(
    method: str,
    path: str,
    endpoint: Endpoint,
    agent: AgentDialect,
    providers: Iterable[ProviderDialect],
    *,
    errors: ErrorShape = "openai",
) -> AgentRoute:
    """Return a route. Raises IncompleteRoute where nothing reads and prices its requests, or no provider's dialect
    calls its endpoint and reads the usage of answers."""
    asked = agent.asked(endpoint)
    if asked is None:
        raise IncompleteRoute(f"{method} {path}: {agent.name} has no parser and no pricer for {endpoint}")
    if not any(one.served(endpoint) for one in providers):
        raise IncompleteRoute(f"{method} {path}: no provider's dialect has a usage reader for {endpoint}")
    return AgentRoute(method, path, endpoint, errors, agent, asked.parse, asked.price)


_OPENAI: Final = OpenAIAgent()

PROVIDERS: Final[Mapping[str, ProviderDialect]] = {one.name: one for one in (OpenAIProvider(),)}
"""By name, as providers are registered with it."""

_ENDPOINTS: Final[Mapping[str, tuple[Endpoint, AgentDialect]]] = {
    "/chat/completions": ("chat.completions", _OPENAI),
    "/embeddings": ("embeddings", _OPENAI),
}
PREFIXES: Final[Mapping[str, ErrorShape]] = {"/v1": "openai", "/api/v1": "openrouter"}
"""Whose API an agent calls, by its base URL's path."""

ROUTES: Final[Mapping[str, AgentRoute]] = {
    prefix + path: route("POST", prefix + path, endpoint, agent, PROVIDERS.values(), errors=errors)
    for prefix, errors in PREFIXES.items()
    for path, (endpoint, agent) in _ENDPOINTS.items()
}
"""The agents' routes that cost money, by path."""


def spoken(dialects: Iterable[str], agent: str) -> ProviderDialect | None:
    """Return in which of its dialects a provider is asked: the agent's own, as nothing needs to be translated then.
    None: it has none that this version can use."""
    return PROVIDERS.get(agent) if agent in dialects else None


def reaches(dialects: Iterable[str]) -> bool:
    """Return whether any route leads to a provider that speaks these."""
    asked = ((spoken(dialects, on.agent.name), on.endpoint) for on in ROUTES.values())
    return any(speaks is not None and speaks.served(endpoint) is not None for speaks, endpoint in asked)
