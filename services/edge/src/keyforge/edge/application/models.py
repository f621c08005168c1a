"""Lists and shows the models that a key can call."""

from typing import Any, Final

import msgspec

from keyforge.contracts.directory import KeyEntry
from keyforge.contracts.errors import Problem, problem
from keyforge.contracts.ids import ProviderId
from keyforge.edge.application.call import Call, refuse
from keyforge.edge.application.callers import Callers
from keyforge.edge.application.ports import ProviderRegistry
from keyforge.edge.core.dialects import registry
from keyforge.edge.core.routing import policy
from keyforge.edge.core.routing.catalogue import Route
from keyforge.runtime.clock import Clock

_ENCODER: Final = msgspec.json.Encoder()


class ModelList:
    """Answers `GET /v1/models` and `GET /v1/models/{model}`, in OpenAI's shape."""

    __slots__ = ("_callers", "_clock", "_providers")

    def __init__(self, callers: Callers, providers: ProviderRegistry, clock: Clock) -> None:
        self._callers = callers
        self._providers = providers
        self._clock = clock

    async def serve(self, call: Call, name: str = "") -> None:
        """Answer one request: for the model that `name` means, or for all of them."""
        key = await self._callers.identify(call)
        if key is None:
            return
        if refused := policy.refuse_key(key, now=self._clock.now()):
            await self._callers.refuse(call, key, refused)
        elif not name:
            routes = policy.usable(key, self._providers.catalogue)
            reached = {provider for provider in self._providers.catalogue.providers if self._reached(provider)}
            models = [_shown(route) for route in routes if route.provider in reached]
            await call.answer(200, _ENCODER.encode({"object": "list", "data": models}))
        elif isinstance(found := self._find(name, key), Problem):
            await refuse(call, found)  # nothing was refused that could have cost anything: the log need not know
        else:
            await call.answer(200, _ENCODER.encode(_shown(found)))

    def _find(self, name: str, key: KeyEntry) -> Route | Problem:
        """Return the model that a request with this name would be for. One that the key may not use, or that cannot be
        called at all, is as unknown as any other."""
        route = policy.resolve(name, key, self._providers.catalogue)
        if isinstance(route, Problem):
            return route if route.kind.type == "model_ambiguous" else _unknown()
        return route if self._reached(route.provider) else _unknown()

    def _reached(self, provider: ProviderId) -> bool:
        """Return whether calls to a registered provider can be made: it has an address, a dialect that this version
        speaks, and a credential. One that rests counts: it will be used again."""
        ports, entry = self._providers, self._providers.catalogue.providers[provider]
        return (
            registry.reaches(entry.dialects) and ports.address(provider) is not None and len(ports.pool(provider)) > 0
        )


def _shown(route: Route) -> dict[str, Any]:
    """Return OpenAI's `Model`. When a model was made is not known: 0."""
    return {"id": route.full_name, "object": "model", "created": 0, "owned_by": route.provider}


def _unknown() -> Problem:
    return problem(
        "model_unknown",
        "This key can call no model of this name. `GET /v1/models` lists those that it can.",
        param="model",
    )
