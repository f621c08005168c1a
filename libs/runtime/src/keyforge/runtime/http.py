"""What every operators' API shares: errors in the catalogue's shape, request ids, health, metrics, the operator."""

import asyncio
import os
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from keyforge.contracts.errors import Problem, problem
from keyforge.contracts.ids import RequestIds
from keyforge.runtime import logs
from keyforge.runtime.body import App, Message, Receive, Send, StrictBody
from keyforge.runtime.clock import epoch_ms
from keyforge.runtime.error_model import ERROR_RESPONSES
from keyforge.runtime.log_fill import LogFill
from keyforge.runtime.protocol import DRAINING
from keyforge.runtime.tokens import Operator, TokenVerifier

OperatorOf = Callable[[Request], Awaitable[Operator]]

MESSAGE_CHARS_MAX: Final = 200
PARAM_CHARS_MAX: Final = 100
"""What a validation error shows of a caller's own text. Chosen: a line or two of a terminal; halved, the path of a
nested field is cut, doubled, one wrong field fills a log's line."""
_UNKNOWN: Final = (
    "The service had to end before the request was answered. The change may have been stored or not: "
    "read it back before you repeat it."
)
_NUMBERS: Final = {
    "integer": (re.compile(r"-?[0-9]+"), "must be an integer in decimal digits"),
    "number": (re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?"), "must be a decimal number"),
}
"""How a query parameter of a type is written: as in JSON, but for zeros in front. pydantic would take `1_0` for ten."""
_BY_STATUS: Final = {404: "route_unknown", 405: "method_not_allowed", 413: "body_too_large"}


class ProblemError(Exception):
    """Ends a handler with a problem of the catalogue. For inbound code only: the core returns its refusals."""

    def __init__(self, wrong: Problem) -> None:
        super().__init__(wrong.kind.type)
        self.problem = wrong


class Health(Protocol):
    """What a service reports about itself."""

    def checks(self) -> dict[str, bool]:
        """Return what must be true to be ready, by name."""
        ...

    def details(self) -> dict[str, Any]:
        """Return what operators should know and does not make the service unready; empty if there is nothing."""
        ...


def fail(type_: str, message: str = "", **particulars: Any) -> ProblemError:
    """Return the exception that answers with a problem of the catalogue."""
    return ProblemError(problem(type_, message, **particulars))


def new_app(title: str, health: Health, registry: CollectorRegistry, fill: LogFill | None = None) -> FastAPI:
    """Return an app with errors, /healthz, /readyz and /metrics. Serve it through `with_http_guards`.

    `fill`: the logs whose fill it reports, in metrics, and once one reaches an alarm as `log_size` in the `details` of
    /readyz. That does not make a service unready: a log that fills is served until it is full.
    """
    app = FastAPI(
        title=title,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=ERROR_RESPONSES,
        dependencies=[Depends(_strict_query)],
    )
    logger = logs.get("http")
    if fill is not None:
        registry.register(fill.metrics())

    async def on_problem(_request: Request, error: Exception) -> Response:
        return respond(error.problem if isinstance(error, ProblemError) else problem("internal"))

    async def on_invalid(request: Request, error: Exception) -> Response:
        if not isinstance(error, RequestValidationError):
            return respond(problem("request_invalid"))
        return respond(_invalid(error, request.headers.get("content-type", "")))

    async def on_http(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        response = respond(problem(_BY_STATUS.get(status, "request_invalid" if status < 500 else "internal")))
        if status == 405 and isinstance(error, HTTPException):
            response.headers["allow"] = _allowed(app, request, (error.headers or {}).get("Allow", ""))
        return response

    async def on_fault(request: Request, error: Exception) -> Response:
        logger.error("request failed", path=request.url.path, error=type(error).__name__, exc_info=error)
        return respond(problem("internal"))

    app.add_exception_handler(ProblemError, on_problem)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(Exception, on_fault)

    _add_health(app, health, registry, fill)
    return app


def _add_health(app: FastAPI, health: Health, registry: CollectorRegistry, fill: LogFill | None) -> None:
    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz", include_in_schema=False)
    async def readyz(request: Request, response: Response) -> dict[str, Any]:
        checks = health.checks()
        if DRAINING in request.scope.get("state", {}):
            checks["in_service"] = False
        ready = all(checks.values())
        response.status_code = 200 if ready else 503
        filling = fill.details() if fill is not None else {}
        details = health.details() | ({"log_size": filling} if filling else {})
        return {"ready": ready, "checks": checks, "details": details}

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def respond(wrong: Problem) -> Response:
    """Return a problem as a response."""
    return Response(wrong.body(), wrong.kind.status, dict(wrong.headers()), media_type="application/json")


def _allowed(app: FastAPI, request: Request, of_first: str) -> str:
    """Return the methods that a path takes: a 405 must name them (RFC 9110 section 15.5.6), and of several routes of
    one path the framework names those of the first, `of_first`, which is all there is outside of the API's description.
    Where GET is HEAD is."""
    paths: dict[str, dict[str, Any]] = app.openapi()["paths"]
    of_path = (methods for path, methods in paths.items() if compile_path(path)[0].fullmatch(request.url.path))
    allowed = {method.upper() for methods in of_path for method in methods} or set(of_first.split(", "))
    return ", ".join(sorted(allowed | ({"HEAD"} if "GET" in allowed else set())))


async def _strict_query(request: Request) -> None:
    """Refuse a query parameter that the route does not take, one that is given twice, and a number that is none.

    A filter that is passed over in silence answers another question: `?tennant=acme` would be the spend of all.
    """
    query = request.query_params.multi_items()
    given = [name for name, _ in query]
    route = request.scope["route"]
    if not given or not route.include_in_schema:  # probes and scrapers may add what they like
        return
    operation = request.app.openapi()["paths"][route.path_format][request.method.lower()]
    parameters = [parameter for parameter in operation.get("parameters", ()) if parameter["in"] == "query"]
    taken = {parameter["name"]: parameter["schema"] for parameter in parameters}
    for name, value in query:
        param = f"query.{name}"[:PARAM_CHARS_MAX].encode(errors="replace").decode()
        if name not in taken:
            known = f"this route takes {', '.join(taken)}" if taken else "this route takes no query parameters"
            raise fail("request_invalid", f"`{param}` is not known: {known}.", param=param)
        if given.count(name) > 1:
            raise fail("request_invalid", f"`{param}` must not be given more than once.", param=param)
        for one in taken[name].get("anyOf", [taken[name]]):  # one of them is `null`: it need not be given
            form, rule = _NUMBERS.get(one.get("type"), (None, ""))
            if form is not None and form.fullmatch(value) is None:
                raise fail("request_invalid", f"`{param}` {rule}.", param=param)


def _invalid(error: RequestValidationError, content_type: str) -> Problem:
    first = error.errors()[0]
    if tuple(first["loc"]) == ("body",):
        if "json" not in content_type.lower():
            return problem("request_invalid", "The body must be sent with `Content-Type: application/json`.")
        return problem("request_invalid", "The body must be a JSON object.")
    param = ".".join(str(part) for part in first["loc"] if part != "body")[:PARAM_CHARS_MAX]
    message = str(first["msg"]).removeprefix("Value error, ")[:MESSAGE_CHARS_MAX].rstrip(".")
    return problem("request_invalid", f"`{param}`: {message}." if param else f"{message}.", param=param or None)


def operator_of(verifier: TokenVerifier, *, writes: bool = False) -> OperatorOf:
    """Return a FastAPI dependency that yields the operator, or ends with 401, 403 or 503."""

    async def operator(request: Request) -> Operator:
        found = await verifier.verify(request.headers.get("authorization"))
        if isinstance(found, Problem):
            raise ProblemError(found)
        if writes and not found.writes:
            raise fail("forbidden")
        return found

    return operator


class RequestIdHeaders:
    """ASGI middleware: `x-request-id` and `request-id` on every response. SDKs read one or the other.

    A request that is cancelled, since the service ends, is answered as well.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._ids = RequestIds(epoch_ms, os.urandom)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = self._ids.next().encode()
        begun = False

        async def send_with_id(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = [
                    *message.get("headers", []),
                    (b"x-request-id", request_id),
                    (b"request-id", request_id),
                ]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except asyncio.CancelledError:  # by uvicorn, at the end of its patience: nothing runs after this
            if begun:
                raise
            reads = scope["method"] in ("GET", "HEAD")
            await respond(problem("shutting_down", "" if reads else _UNKNOWN))(scope, receive, send_with_id)


def with_http_guards(app: FastAPI) -> App:
    """Return `app` with request ids and strict reading of bodies in front of it: what is served."""
    return RequestIdHeaders(StrictBody(_head_as_get(app)))


def _head_as_get(app: App) -> App:
    """Answer HEAD as GET is (RFC 9110 section 9.1: every server must); uvicorn leaves the body out."""

    async def answer(scope: Message, receive: Receive, send: Send) -> None:
        as_get = {**scope, "method": "GET"} if scope.get("method") == "HEAD" else scope
        await app(as_get, receive, send)

    return answer
