"""The edge's own HTTP/1.1 client: narrow, bounded, verified; a request that it is given is written once."""

import asyncio
import math
import ssl
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Final

from keyforge.edge.application.provider_call import UpstreamRequest, UpstreamResponse
from keyforge.edge.application.provider_errors import UpstreamBusy
from keyforge.edge.core.routing.origin import Origin, check_target
from keyforge.edge.outbound.provider_http.connection import ProviderConnection
from keyforge.edge.outbound.provider_http.content_coding import DecodedResponse
from keyforge.edge.outbound.provider_http.dial import Names, dial, tls_context
from keyforge.edge.outbound.provider_http.pool import OriginPool, PoolLimits
from keyforge.runtime import logs

ORIGINS_MAX: Final = 256
"""Origins with a pool of connections, of which those without any are forgotten first. Chosen: halved, an installation
with 200 providers in use at once would be refused calls; doubled, an edge may hold twice the connections."""

REPORT_S: Final = 60.0
"""How often it is logged of one provider that its answers cannot be decoded; each of them has its outcome besides.
Chosen: at most 1,440 lines a day of each provider."""


class HttpUpstream:
    """`Upstream` on asyncio and httptools. Belongs to the event loop it is made in; deadlines are on `monotonic`."""

    def __init__(
        self,
        monotonic: Callable[[], float],
        limits: PoolLimits | None = None,
        *,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._monotonic = monotonic
        self._loop = asyncio.get_running_loop()
        self._limits = limits or PoolLimits()
        self._context = context or tls_context()
        self._names = Names(self._loop)
        self._pools: dict[Origin, OriginPool] = {}
        self._reported: dict[Origin, float] = {}
        self._logger = logs.get("provider_http")

    async def send(self, request: UpstreamRequest) -> UpstreamResponse:
        head = _head(request.method, request.target, request.origin) + b"%scontent-length: %d\r\n\r\n" % (
            request.headers.raw,
            len(request.body),
        )
        pool = self._pools.get(request.origin) or self._pool(request.origin)
        connection = None if request.fresh else pool.take()
        if connection is None:
            until = min(self._monotonic() + request.limits.connect_s, request.deadline)
            connection = await (pool.obtain_new(until) if request.fresh else pool.obtain(until))
        exchange = connection.start(request, head)
        try:
            while not exchange.status:
                await exchange.more()
        except asyncio.CancelledError:
            exchange.abandon()
            raise
        if not exchange.coding:
            return exchange
        return DecodedResponse(exchange, exchange.coding, request.body_bytes_max, partial(self._report, request.origin))

    def _report(self, origin: Origin, detail: str) -> None:
        """Log why a body could not be read, for each provider now and then."""
        now = self._monotonic()
        if now - self._reported.get(origin, -math.inf) < REPORT_S:
            return
        self._reported = {one: at for one, at in self._reported.items() if now - at < REPORT_S} | {origin: now}
        self._logger.warning("an answer cannot be decoded", provider=origin.authority, reason=detail)

    async def close(self) -> None:
        """Drop the free connections. Exchanges under way go on, and their connections go with them."""
        for pool in self._pools.values():
            pool.close()

    def _pool(self, origin: Origin) -> OriginPool:
        if len(self._pools) >= ORIGINS_MAX:
            for known in [known for known, pool in self._pools.items() if not pool.open]:
                del self._pools[known]
            if len(self._pools) >= ORIGINS_MAX:
                raise UpstreamBusy("too many origins at once")

        async def make(pool: OriginPool, time_limit_s: float) -> ProviderConnection:
            def connection() -> ProviderConnection:
                return ProviderConnection(self._loop, self._monotonic, pool.give_back, pool.lost)

            return await dial(origin, connection, self._context, self._names, time_limit_s=time_limit_s)

        return self._pools.setdefault(origin, OriginPool(self._loop, self._monotonic, self._limits, make))


@lru_cache(maxsize=256)
def _head(method: str, target: str, origin: Origin) -> bytes:
    check_target(target)
    return f"{method} {target} HTTP/1.1\r\nhost: {origin.authority}\r\naccept-encoding: identity\r\n".encode("ascii")
