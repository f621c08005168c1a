"""What is served: the agents' hot routes as a raw ASGI callable, all else by the FastAPI app behind it."""

from typing import Final

import msgspec

from keyforge.contracts.errors import problem
from keyforge.contracts.events import Endpoint
from keyforge.edge.core import policy
from keyforge.edge.edge import Edge
from keyforge.edge.flow import caller, serve
from keyforge.edge.inbound.call import AgentGone, Call, Message, Receive, Send
from keyforge.runtime import logs
from keyforge.runtime.body import App

MODELS: Final = "models"
BUSY_RETRY_S: Final = 1
_ENCODER: Final = msgspec.json.Encoder()

_ROUTES: Final[dict[str, tuple[str, Endpoint | None]]] = {
    "/chat/completions": ("POST", "chat.completions"),
    "/embeddings": ("POST", "embeddings"),
    "/models": ("GET", None),
}
ROUTES: Final = {f"{prefix}{path}": route for prefix in ("/v1", "/api/v1") for path, route in _ROUTES.items()}
"""The agents' routes, each with its method and what it is billed as (None: it costs nothing)."""


class Front:
    """The ASGI application."""

    def __init__(self, edge: Edge, rest: App) -> None:
        self._edge = edge
        self._rest = rest
        self._log = logs.get("front")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request."""
        route = ROUTES.get(scope["path"]) if scope["type"] == "http" else None
        if route is None:
            await self._rest(scope, receive, send)
            return
        method, endpoint = route
        edge, metrics = self._edge, self._edge.metrics
        call = Call(scope, receive, send, edge.ids.next())
        if scope["method"] != method:
            await call.refuse(problem("method_not_allowed"))
        elif metrics.open_requests >= edge.bounds.open_requests_max:
            await call.refuse(problem("edge_busy", retry_after_s=BUSY_RETRY_S))
        else:
            metrics.open_requests += 1
            try:
                await (serve(edge, call, endpoint) if endpoint else models(edge, call))
            except AgentGone:
                pass
            except Exception as fault:
                self._log.exception("fault", request_id=call.request_id, error=type(fault).__name__)
                if call.status:
                    raise
                await call.refuse(problem("internal"))
            finally:
                metrics.open_requests -= 1
        metrics.requests[endpoint or MODELS, call.status] += 1


async def models(edge: Edge, call: Call) -> None:
    """List what this key may use."""
    key = await caller(edge, call)
    if key is None:
        return
    if refused := policy.refuse_key(key, now=edge.clock.now()):
        await edge.refuse(call, key, refused)
        return
    listed = [
        {"id": route.full_name, "object": "model", "created": 0, "owned_by": route.provider}
        for route in policy.usable(key, edge.providers.catalogue)
    ]
    await call.answer(200, _ENCODER.encode({"object": "list", "data": listed}))
