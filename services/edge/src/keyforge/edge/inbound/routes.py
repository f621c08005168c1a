"""What is served: the agents' API as a raw ASGI callable; probes and metrics by the FastAPI app after it."""

import asyncio
from collections.abc import Mapping
from typing import Final

from keyforge.contracts.errors import problem
from keyforge.contracts.ids import RequestIds
from keyforge.edge.application.call import AgentGone, Call, refuse
from keyforge.edge.application.flow import RequestFlow
from keyforge.edge.application.models import ModelList
from keyforge.edge.core import cors
from keyforge.edge.core.cors import Cors
from keyforge.edge.core.dialects import registry
from keyforge.edge.core.dialects.registry import AgentRoute
from keyforge.edge.inbound import paths
from keyforge.edge.inbound.asgi_call import AsgiCall, Message, Receive, Send
from keyforge.edge.metrics import Metrics
from keyforge.runtime import logs
from keyforge.runtime.body import App
from keyforge.runtime.clock import Clock

MODELS: Final = "models"
BUSY_RETRY_S: Final = 1
"""The `retry-after` of a request that is refused with `edge_busy`."""
READS: Final = ("GET", "HEAD")
"""The methods of what is only read."""
METHODS: Final = (*READS, "POST")
"""The methods of all routes together."""


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
        cors: Cors | None = None,
    ) -> None:
        self.new_id = ids.next
        """Return an id for a request."""
        self.monotonic = clock.monotonic
        """Return the time that a request began."""
        self.body_time_limit_s = body_s
        self.unread_time_limit_s = stall_s
        self.cors: Final = cors
        """Which pages of other origins may call."""
        self._flow = flow
        self._models = models
        self._rest = rest
        self._metrics = metrics
        self._open_requests_max = open_requests_max
        self._logger = logs.get("routes")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request over ASGI."""
        if scope["type"] != "http" or (path := scope["path"]) in paths.OPERATORS:
            await self._rest(scope, receive, send)
            return
        on = registry.ROUTES.get(path)
        model = None if on else paths.model_of(path)
        fields = dict(scope["headers"])
        shared = self.cors.of_answer(fields.get(b"origin", b"")) if self.cors else []
        call = AsgiCall(receive, send, self.new_id(), self.monotonic(), fields, shared)
        if scope["method"] == "OPTIONS" and (asked := self._preflight(fields)) is not None:
            await call.empty(cors.of_preflight(METHODS, asked))  # wherever it is: the page can then read what is wrong
        elif on is None and model is None:
            await refuse(call, paths.unknown(path))
        else:
            await self._serve(call, scope["method"], on, model or "")

    def _preflight(self, fields: Mapping[bytes, bytes]) -> bytes | None:
        """Return which headers a page that may call asks to send; None: this is no preflight of one."""
        if self.cors is None or b"access-control-request-method" not in fields:
            return None
        origin = fields.get(b"origin", b"")
        return fields.get(b"access-control-request-headers", b"") if self.cors.allows(origin) else None

    async def _serve(self, call: AsgiCall, method: str, on: AgentRoute | None, model: str) -> None:
        """Serve a request for a route (None: for models)."""
        allowed = _methods(on)
        if method in allowed:
            await self.carry(call, on, model)
            return
        allow = (b"allow", ", ".join((*allowed, "OPTIONS")).encode())
        if method == "OPTIONS":
            await call.empty([allow])
        else:
            accepted = " and ".join(f"`{one}`" for one in allowed)
            await refuse(call, problem("method_not_allowed", f"This route accepts only {accepted}."), [allow])
        self._metrics.requests[on.endpoint if on else MODELS, call.status] += 1

    async def carry(self, call: Call, on: AgentRoute | None, model: str = "") -> None:
        """Carry a call on a route (None: a model, or the list of them) to its end, within the bound on open requests. A
        fault of ours ends it as such."""
        metrics = self._metrics
        metrics.open_requests += 1
        try:
            if metrics.open_requests > self._open_requests_max:
                await refuse(call, problem("edge_busy", retry_after_s=BUSY_RETRY_S))
            elif on is None:
                await self._models.serve(call, model)
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


def _methods(on: AgentRoute | None) -> tuple[str, ...]:
    return (on.method,) if on else READS
