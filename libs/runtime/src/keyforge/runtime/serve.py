"""Serves an ASGI app until SIGTERM or SIGINT, then ends in steps, so that no caller behind a load balancer notices.

signal ──▶ draining   /readyz is 503, all else is served, each answer closes its connection: for the delay
       ──▶ ending     no connection is accepted, idle ones are closed, open requests go on: up to the limit
       ──▶ cutting    what is left ends with an error; then the service stores what is to be stored
"""

import asyncio
import contextlib
import errno
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, Final

import uvicorn

from keyforge.runtime import logs
from keyforge.runtime.protocol import DRAINING, BoundedProtocol
from keyforge.runtime.settings import ServiceSettings

KEEP_ALIVE_S: Final = 65
"""Chosen: longer than the 60 s for which load balancers (AWS's by default) keep idle connections, so that they close
first."""
BACKLOG: Final = 4096
"""Connections that wait to be accepted: Linux's own maximum (net.core.somaxconn) since 5.4."""


CUT_S: Final = 2
"""How long what was cut may take to tell its caller; then it is cancelled. Chosen: as long as the edge takes at most
for the last bytes of a stream (`relay.CLOSE_S`)."""
FAILED: Final = 1
"""The exit code after a fault while a service ran."""
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
"""What asks a service to end."""


class CannotListenError(Exception):
    """A port cannot be listened on. The text names the setting."""


class StopFailedError(Exception):
    """A service ended without having done all that it must do before. The text says what is missing."""


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling, which would raise the signal again at the end, and with our steps."""

    def __init__(
        self, config: uvicorn.Config, *, delay_s: float, limit_s: float, cut: Callable[[], None] | None
    ) -> None:
        super().__init__(config)
        self._delay_s = delay_s
        self._limit_s = limit_s
        self._cut = cut

    def drain(self) -> None:
        """Begin to end, in order. Calling it again changes nothing."""
        state = self.lifespan.state
        if DRAINING in state:
            return
        state[DRAINING] = True
        for connection in self.server_state.connections:
            if isinstance(connection, BoundedProtocol):
                connection.drain()
        if self._delay_s:
            logs.get("serve").info("draining", delay_s=self._delay_s)
        asyncio.get_running_loop().call_later(self._delay_s, self.end)

    def end(self) -> None:
        """Accept no more connections; uvicorn looks ten times a second."""
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let open requests end; cut those that have not within the limit."""
        self.lifespan.state[DRAINING] = True
        cutting = asyncio.get_running_loop().call_later(self._limit_s, self._cut_all)
        try:
            await super().shutdown(sockets)
        finally:
            cutting.cancel()

    def _cut_all(self) -> None:
        for connection in list(self.server_state.connections):
            if isinstance(connection, BoundedProtocol):
                connection.cut()
        if self._cut is not None:
            self._cut()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run(main: Coroutine[Any, Any, int]) -> int:
    """Run a service's main coroutine on uvloop; return its exit code.

    A signal before it serves ends it at once, with 0: nothing was begun. A start may wait for long, and the first
    process of a container ignores a signal that it does not handle.
    """
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_until_a_signal(main))


async def _until_a_signal(main: Coroutine[Any, Any, int]) -> int:
    """Await `main`, which takes the signals over once it serves."""
    starting, asked = asyncio.ensure_future(main), False

    def end() -> None:
        nonlocal asked
        asked = True
        starting.cancel()

    for number in _SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, end)
    try:
        return await starting
    except asyncio.CancelledError:
        if not asked:
            raise
        logs.get("serve").info("stopped before it served")
        return 0


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
    except UnicodeError:
        raise CannotListenError(f"KEYFORGE_HOST: cannot listen on port {port} of {host}: not a host name") from None
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
    cut: Callable[[], None] | None = None,
    failed: "asyncio.Future[None] | None" = None,
    protocol: type[asyncio.Protocol] | None = None,
) -> int:
    """Serve `app` until a signal; then end in the steps of this module, and await `stop()`.

    `stop` raises StopFailedError if it could not do all that it must; the exit code is then `FAILED`.
    `cut`: ends, each with an error of its own, the requests that are still open at the limit. What has not ended
    `CUT_S` later, or at the limit if there is no `cut`, is cancelled.
    `protocol`: the class of a connection, if not `BoundedProtocol`.
    `failed`: a future that ends the service when it is done, without the delay; the exit code is `FAILED` if it failed.
    Raises CannotListenError before anything was served.
    """
    logger = logs.get("serve")
    sockets = listen(settings.host, settings.port)
    server = _Server(
        _config(app, protocol, settings.shutdown_time_limit_s + (CUT_S if cut else 0)),
        delay_s=settings.shutdown_delay_s,
        limit_s=settings.shutdown_time_limit_s,
        cut=cut,
    )
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, server.drain)
    code = 0
    if failed is not None:

        def on_failed(future: "asyncio.Future[None]") -> None:
            nonlocal code
            if not future.cancelled() and (error := future.exception()) is not None:
                logger.error("service failed", error=_why(error))
                code = FAILED
            server.end()

        failed.add_done_callback(on_failed)
    logger.info("serving", host=settings.host, port=settings.port)
    await server.serve(sockets)
    try:
        await stop()
    except StopFailedError as error:
        logger.critical("stopping failed", error=str(error))
        code = FAILED
    except Exception:  # it ran: no fault from here on is one at a start
        logger.exception("stopping failed")
        code = FAILED
    logger.info("stopped")
    return code


def _why(fault: BaseException) -> str:
    """Return the text of a fault; of a group, those of all that are in it, since its own says nothing."""
    if isinstance(fault, BaseExceptionGroup):
        return "; ".join(dict.fromkeys(_why(one) for one in fault.exceptions))
    return str(fault) or type(fault).__name__


def _config(app: Any, protocol: type[asyncio.Protocol] | None, cancel_s: int) -> uvicorn.Config:
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
        timeout_graceful_shutdown=cancel_s,
    )
