"""What is served: the agents' hot routes as a raw ASGI callable, all else by the FastAPI app after it."""

import asyncio
from typing import Final

from keyforge.contracts.errors import problem
from keyforge.contracts.ids import RequestIds
from keyforge.edge.application.call import AgentGone, Call, headers_of, refuse
from keyforge.edge.application.flow import RequestFlow
from keyforge.edge.application.models import ModelList
from keyforge.edge.core.dialects import registry
from keyforge.edge.core.dialects.registry import AgentRoute
from keyforge.edge.inbound.asgi_call import AsgiCall, Message, Receive, Send
from keyforge.edge.metrics import Metrics
from keyforge.runtime import logs
from keyforge.runtime.body import App
from keyforge.runtime.clock import Clock

MODELS: Final = "models"
BUSY_RETRY_S: Final = 1
"""The `retry-after` of a request that is refused with `edge_busy`."""

MODEL_PATHS: Final = frozenset(f"{prefix}/models" for prefix in registry.PREFIXES)
"""Where models are listed, which costs nothing."""


class AgentRoutes:
    """The ASGI application, and what `fast_path.EdgeProtocol` asks of it."""

    fast: Final = {path.encode(): route for path, route in registry.ROUTES.items()}
    """The routes that may take the fast path, by target."""

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
        path = scope["path"] if scope["type"] == "http" else ""
        on = registry.ROUTES.get(path)
        if on is None and path not in MODEL_PATHS:
            await self._rest(scope, receive, send)
            return
        allowed = (on.method,) if on else ("GET", "HEAD")
        call = AsgiCall(scope, receive, send, self.new_id(), self.monotonic())
        if scope["method"] in allowed:
            await self.carry(call, on)
        else:
            wrong = problem("method_not_allowed")
            headers = [*headers_of(wrong), (b"allow", ", ".join(allowed).encode())]
            await call.answer(wrong.kind.status, wrong.body(), headers)
            self._metrics.requests[on.endpoint if on else MODELS, call.status] += 1

    async def carry(self, call: Call, on: AgentRoute | None) -> None:
        """Carry a call on a route (None: the list of models) to its end, within the bound on open requests. A fault of
        ours ends it as such."""
        metrics = self._metrics
        metrics.open_requests += 1
        try:
            if metrics.open_requests > self._open_requests_max:
                await refuse(call, problem("edge_busy", retry_after_s=BUSY_RETRY_S))
            elif on is None:
                await self._models.serve(call)
            else:
                await self._flow.serve(call, on)
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
            metrics.requests[on.endpoint if on else MODELS, call.status] += 1
