"""Serves an ASGI app until SIGTERM or SIGINT, then lets open requests end within a bound."""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, Final

import uvicorn

from keyforge.runtime import logs
from keyforge.runtime.protocol import BoundedProtocol
from keyforge.runtime.settings import ServiceSettings

KEEP_ALIVE_S: Final = 65
"""Chosen: longer than the 60 s for which load balancers commonly keep idle connections, so that they close first."""
BACKLOG: Final = 4096
"""Connections that wait to be accepted: Linux's own maximum (net.core.somaxconn) since 5.4."""


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
    `failed`: a future that ends the service when it fails; the exit code is then 1, else 0.
    """
    logger = logs.get("serve")
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
                code = 1
            end()

        failed.add_done_callback(on_failed)
    logger.info("serving", host=settings.host, port=settings.port)
    await server.serve()
    await stop()
    logger.info("stopped")
    return code


def _config(app: Any, settings: ServiceSettings, protocol: type[asyncio.Protocol] | None) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
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
