"""Serves an ASGI app until SIGTERM or SIGINT, then lets open requests end within a bound."""

import asyncio
import contextlib
import errno
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, Final

import uvicorn

from keyforge.runtime import logs
from keyforge.runtime.protocol import BoundedProtocol
from keyforge.runtime.settings import ServiceSettings

KEEP_ALIVE_S: Final = 65
"""Chosen: longer than the 60 s for which load balancers (AWS's by default) keep idle connections, so that they close
first."""
BACKLOG: Final = 4096
"""Connections that wait to be accepted: Linux's own maximum (net.core.somaxconn) since 5.4."""


FAILED: Final = 1
"""The exit code after a fault while a service ran."""


class CannotListenError(Exception):
    """A port cannot be listened on. The text names the setting."""


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling, which would raise the signal again at the end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run(main: Coroutine[Any, Any, int]) -> int:
    """Run a service's main coroutine on uvloop; return its exit code."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def listen(host: str, port: int, variable: str = "KEYFORGE_PORT") -> list[socket.socket]:
    """Return sockets that are bound to every address of `host`. `variable` is what set the port.

    Raises CannotListenError if another program listens there, or the addresses are not this machine's.
    """
    bound: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, number, _, address in dict.fromkeys(found):
            bound.append(socket.socket(family, kind, number))
            bound[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                bound[-1].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            bound[-1].bind(address)
    except OSError as error:
        for one in bound:
            one.close()
        no_address = isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL
        what = "KEYFORGE_HOST" if no_address else variable
        raise CannotListenError(f"{what}: cannot listen on port {port} of {host}: {error.strerror}") from None
    return bound


async def serve(
    app: Any,
    settings: ServiceSettings,
    *,
    stop: Callable[[], Awaitable[None]],
    failed: "asyncio.Future[None] | None" = None,
    protocol: type[asyncio.Protocol] | None = None,
) -> int:
    """Serve `app` until a signal; then accept no more requests, let open ones finish, and await `stop()`.

    `protocol`: the class of a connection, if not `BoundedProtocol`.
    `failed`: a future that ends the service when it fails; the exit code is then `FAILED`, else 0.
    Raises CannotListenError before anything was served.
    """
    logger = logs.get("serve")
    sockets = listen(settings.host, settings.port)
    server = _Server(_config(app, settings, protocol))
    loop = asyncio.get_running_loop()

    def end() -> None:
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    code = 0
    if failed is not None:

        def on_failed(future: "asyncio.Future[None]") -> None:
            nonlocal code
            if not future.cancelled() and (error := future.exception()) is not None:
                logger.error("service failed", error=str(error) or type(error).__name__)
                code = FAILED
            end()

        failed.add_done_callback(on_failed)
    logger.info("serving", host=settings.host, port=settings.port)
    await server.serve(sockets)
    try:
        await stop()
    except Exception:  # it ran: no fault from here on is one at a start
        logger.exception("stopping failed")
        code = FAILED
    logger.info("stopped")
    return code


def _config(app: Any, settings: ServiceSettings, protocol: type[asyncio.Protocol] | None) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="none",
        http=protocol or BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=settings.shutdown_time_limit_s,
    )
