"""What is served: the agents' hot routes as a raw ASGI callable, all else by the FastAPI app after it."""

import asyncio
from typing import Final

from keyforge.contracts.errors import problem
from keyforge.contracts.events import Endpoint
from keyforge.contracts.ids import RequestIds
from keyforge.edge.application.call import AgentGone, Call, headers_of, refuse
from keyforge.edge.application.flow import RequestFlow
from keyforge.edge.application.models import ModelList
from keyforge.edge.inbound.asgi_call import AsgiCall, Message, Receive, Send
from keyforge.edge.metrics import Metrics
from keyforge.runtime import logs
from keyforge.runtime.body import App
from keyforge.runtime.clock import Clock

MODELS: Final = "models"
BUSY_RETRY_S: Final = 1
"""The `retry-after` of a request that is refused with `edge_busy`."""

_ROUTES: Final[dict[str, tuple[str, Endpoint | None]]] = {
    "/chat/completions": ("POST", "chat.completions"),
    "/embeddings": ("POST", "embeddings"),
    "/models": ("GET", None),
}
ROUTES: Final = {f"{prefix}{path}": route for prefix in ("/v1", "/api/v1") for path, route in _ROUTES.items()}
"""The agents' routes, each with its method and what it is billed as (None: it costs nothing)."""


class AgentRoutes:
    """The ASGI application, and what `fast_path.EdgeProtocol` asks of it."""

    fast: Final = {path.encode(): method.encode() for path, (method, endpoint) in ROUTES.items() if endpoint}
    """Targets that may take the fast path, with their method."""
    endpoint_of: Final = {path.encode(): endpoint for path, (_, endpoint) in ROUTES.items()}

    def __init__(
        self,
        flow: RequestFlow,
        models: ModelList,
        rest: App,
        metrics: Metrics,
        ids: RequestIds,
        clock: Clock,
        *,
        open_requests_max: int,
        body_s: float,
        stall_s: float,
    ) -> None:
        self.new_id = ids.next
        """Return an id for a request."""
        self.monotonic = clock.monotonic
        """Return the time that a request began."""
        self.body_time_limit_s = body_s
        self.unread_time_limit_s = stall_s
        self._flow = flow
        self._models = models
        self._rest = rest
        self._metrics = metrics
        self._open_requests_max = open_requests_max
        self._logger = logs.get("routes")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request over ASGI."""
        route = ROUTES.get(scope["path"]) if scope["type"] == "http" else None
        if route is None:
            await self._rest(scope, receive, send)
            return
        method, endpoint = route
        call = AsgiCall(scope, receive, send, self.new_id(), self.monotonic())
        if scope["method"] == method or (scope["method"] == "HEAD" and method == "GET"):
            await self.carry(call, endpoint)
        else:
            wrong, allowed = problem("method_not_allowed"), b"GET, HEAD" if method == "GET" else method.encode()
            await call.answer(wrong.kind.status, wrong.body(), [*headers_of(wrong), (b"allow", allowed)])
            self._metrics.requests[endpoint or MODELS, call.status] += 1

    async def carry(self, call: Call, endpoint: Endpoint | None) -> None:
        """Carry a call to its end, within the bound on open requests. A fault of ours ends it as such."""
        metrics = self._metrics
        metrics.open_requests += 1
        try:
            if metrics.open_requests > self._open_requests_max:
                await refuse(call, problem("edge_busy", retry_after_s=BUSY_RETRY_S))
            elif endpoint is None:
                await self._models.serve(call)
            else:
                await self._flow.serve(call, endpoint)
        except AgentGone:
            pass
        except asyncio.CancelledError:  # the edge ends: nothing runs after this
            if not call.status:
                await refuse(call, problem("shutting_down"))
        except Exception as fault:
            self._logger.exception("request failed", request_id=call.request_id, error=type(fault).__name__)
            if not call.status:
                await refuse(call, problem("internal"))
        finally:
            metrics.open_requests -= 1
            metrics.requests[endpoint or MODELS, call.status] += 1
