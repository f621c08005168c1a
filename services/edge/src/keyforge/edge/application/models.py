"""Lists the models that a key may use."""

from typing import Final

import msgspec

from keyforge.edge.application.call import Call
from keyforge.edge.application.callers import Callers
from keyforge.edge.application.ports import ProviderRegistry
from keyforge.edge.core.routing import policy
from keyforge.runtime.clock import Clock

_ENCODER: Final = msgspec.json.Encoder()


class ModelList:
    """Answers `GET /v1/models`, in OpenAI's shape."""

    __slots__ = ("_callers", "_clock", "_providers")

    def __init__(self, callers: Callers, providers: ProviderRegistry, clock: Clock) -> None:
        self._callers = callers
        self._providers = providers
        self._clock = clock

    async def serve(self, call: Call) -> None:
        """Answer one request."""
        key = await self._callers.identify(call)
        if key is None:
            return
        if refused := policy.refuse_key(key, now=self._clock.now()):
            await self._callers.refuse(call, key, refused)
            return
        models = [
            {"id": route.full_name, "object": "model", "created": 0, "owned_by": route.provider}
            for route in policy.usable(key, self._providers.catalogue)
        ]
        await call.answer(200, _ENCODER.encode({"object": "list", "data": models}))
