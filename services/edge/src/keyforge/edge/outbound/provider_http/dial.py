"""Makes one connection to an origin: name resolved, each address checked, TLS verified, all in one time limit."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from typing import Final, TypeVar

from keyforge.edge.application.provider_errors import (
    UpstreamAddressForbidden,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamTls,
)
from keyforge.edge.core.routing.origin import Origin
from keyforge.net import addresses

P = TypeVar("P", bound=asyncio.Protocol)

ADDRESSES_MAX: Final = 4
"""How many of a name's addresses are tried; chosen: each gets at least a quarter of the time limit."""

KEEP_ALIVE: Final = (("SO_KEEPALIVE", 1), ("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 60), ("TCP_KEEPCNT", 5))
"""Seconds and tries of TCP's own probes: a model may think for minutes, and address translation forgets a connection
that is silent for a minute or more (openai/openai-python#3270). Precedent: what Anthropic's SDK for Python sets."""


def tls_context(ca_file: str | None = None) -> ssl.SSLContext:
    """Return the context for all TLS to providers: certificates and host names verified, TLS 1.2 or newer.

    `ca_file` adds one authority of the operator's to the system's.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context


class Names:
    """Looks names up, each once at a time: a name server that hangs holds one thread for its name, not one for each
    request, and the few threads there are for all names stay free for other providers."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._looking: dict[tuple[str, int], asyncio.Future[list[str]]] = {}

    async def resolve(self, origin: Origin) -> list[str]:
        """Return the addresses of an origin that may be connected to, best first.

        They are connected to literally, so that a name cannot lead elsewhere between the check and the connection.
        """
        known = [origin.host] if _is_address(origin.host) else await self._known(origin)
        usable = [address for address in known if addresses.allowed(address, allow_insecure=origin.allow_insecure)]
        if not usable:
            raise UpstreamAddressForbidden(f"{origin.host} leads to {', '.join(known[:ADDRESSES_MAX])}")
        return usable[:ADDRESSES_MAX]

    async def _known(self, origin: Origin) -> list[str]:
        """Return the addresses of a name; requests for it at the same time share the answer."""
        name = (origin.host, origin.port)
        looking = self._looking.get(name)
        if looking is None:
            looking = self._looking[name] = self._loop.create_task(self._look(*name))
            looking.add_done_callback(partial(self._looked, name))
        try:
            return await asyncio.shield(looking)
        except (OSError, UnicodeError) as error:
            raise UpstreamRefused(f"{origin.host} has no address") from error

    async def _look(self, host: str, port: int) -> list[str]:
        found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(info[4][0]) for info in found))

    def _looked(self, name: tuple[str, int], looking: "asyncio.Future[list[str]]") -> None:
        del self._looking[name]
        if not looking.cancelled():
            looking.exception()  # else asyncio logs an error that everybody has stopped waiting for


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


async def dial(
    origin: Origin, protocol: Callable[[], P], context: ssl.SSLContext, names: Names, *, time_limit_s: float
) -> P:
    """Connect and return the protocol. Nothing of a request was sent if this raises."""
    loop = asyncio.get_running_loop()
    until = loop.time() + time_limit_s
    try:
        async with asyncio.timeout_at(until):
            usable = await names.resolve(origin)
            failed: UpstreamError | None = None
            for tried, address in enumerate(usable):
                # Each address gets its share of the time, so that one that swallows packets leaves some for the next.
                share_s = max(until - loop.time(), 0.0) / (len(usable) - tried)
                try:
                    async with asyncio.timeout(share_s):
                        return await _connect(loop, origin, address, protocol, context)
                except TimeoutError:
                    failed = UpstreamTimeout("connect")
                except UpstreamError as error:
                    failed = error
            assert failed is not None, "there was at least one address"
            raise failed
    except TimeoutError as error:
        raise UpstreamTimeout("connect") from error


async def _connect(
    loop: asyncio.AbstractEventLoop,
    origin: Origin,
    address: str,
    protocol: Callable[[], P],
    context: ssl.SSLContext,
) -> P:
    secure = origin.scheme == "https"
    try:
        transport, made = await loop.create_connection(
            protocol,
            address,
            origin.port,
            ssl=context if secure else None,
            server_hostname=origin.host if secure else None,
        )
    except ssl.SSLError as error:
        raise UpstreamTls(f"{origin.host}: {error.reason or type(error).__name__}") from error
    except OSError as error:
        raise UpstreamRefused(f"{origin.host} at {address}: {error.strerror or type(error).__name__}") from error
    _probe(transport.get_extra_info("socket"))
    return made


def _probe(made: socket.socket) -> None:
    """Have the kernel probe a silent connection, as far as it can: not every system has every option."""
    for name, value in KEEP_ALIVE:
        option = getattr(socket, name, None)
        if option is not None:
            with suppress(OSError):
                made.setsockopt(socket.SOL_SOCKET if name.startswith("SO_") else socket.IPPROTO_TCP, option, value)
