"""What is served: the agents' hot routes as a raw ASGI callable, all else by the FastAPI app behind it."""

from typing import Final

import msgspec

from keyforge.contracts.errors import problem
from keyforge.contracts.events import Endpoint
from keyforge.contracts.ids import RequestId
from keyforge.edge.application.call import AgentGone, AsgiCall, Call, Message, Receive, Send, refuse
from keyforge.edge.application.context import Edge
from keyforge.edge.application.flow import caller, serve
from keyforge.edge.core.routing import policy
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
    """The ASGI application, and what `wire.EdgeProtocol` asks for its short way."""

    short: Final = {path.encode(): method.encode() for path, (method, endpoint) in ROUTES.items() if endpoint}
    """Targets that may go the short way, with their method."""
    endpoint_of: Final = {path.encode(): endpoint for path, (_, endpoint) in ROUTES.items()}

    def __init__(self, edge: Edge, rest: App) -> None:
        self.body_time_limit_s = edge.bounds.body_s
        self.unread_time_limit_s = edge.bounds.stall_s
        self._edge = edge
        self._rest = rest
        self._log = logs.get("front")

    def new_id(self) -> RequestId:
        """Return an id for a request."""
        return self._edge.ids.next()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request over ASGI."""
        route = ROUTES.get(scope["path"]) if scope["type"] == "http" else None
        if route is None:
            await self._rest(scope, receive, send)
            return
        method, endpoint = route
        call = AsgiCall(scope, receive, send, self.new_id())
        if scope["method"] == method:
            await self.carry(call, endpoint)
        else:
            await refuse(call, problem("method_not_allowed"))
            self._edge.metrics.requests[endpoint or MODELS, call.status] += 1

    async def carry(self, call: Call, endpoint: Endpoint | None) -> None:
        """Carry a call to its end, within the bound on open requests. A fault of ours ends it as such."""
        edge, metrics = self._edge, self._edge.metrics
        metrics.open_requests += 1
        try:
            if metrics.open_requests > edge.bounds.open_requests_max:
                await refuse(call, problem("edge_busy", retry_after_s=BUSY_RETRY_S))
            elif endpoint is None:
                await models(edge, call)
            else:
                await serve(edge, call, endpoint)
        except AgentGone:
            pass
        except Exception as fault:  # noqa: BLE001 - whatever it is, the agent is told, and the next one served
            self._log.exception("fault", request_id=call.request_id, error=type(fault).__name__)
            if not call.status:
                await refuse(call, problem("internal"))
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
