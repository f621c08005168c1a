"""The second implementation of `Upstream`, on httpx: independent of our parser, and held to the same tests."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any, Final, Self

import httpcore
import httpx

from keyforge.edge.application.provider_call import UpstreamRequest, UpstreamResponse
from keyforge.edge.application.provider_errors import (
    UpstreamBodyTooLarge,
    UpstreamBusy,
    UpstreamCut,
    UpstreamError,
    UpstreamHeaderTooLarge,
    UpstreamMalformed,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamTls,
)
from keyforge.edge.outbound.provider_http.content_coding import DecodedResponse
from keyforge.edge.outbound.provider_http.dial import Names, tls_context
from keyforge.edge.outbound.provider_http.exchange import UNREAD_S
from keyforge.edge.outbound.provider_http.pool import PoolLimits
from keyforge.edge.outbound.provider_http.reader import ResponseFault, check_head

_HEAD_OVERFLOW: Final = "Receive buffer too long"
"""How h11 reports that a head has no end; the only text of its errors that is read, beside two words below."""


class HttpxUpstream:
    """`Upstream` on `httpx.AsyncClient`. An address is judged and then used literally; Host and SNI carry the name."""

    def __init__(
        self,
        monotonic: Callable[[], float],
        limits: PoolLimits | None = None,
        *,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._monotonic = monotonic
        bounds = limits or PoolLimits()
        self._names = Names(asyncio.get_running_loop())
        verify = context or tls_context()
        self._client = _client(verify, bounds, bounds.free_max)
        self._fresh = _client(verify, bounds, 0)

    async def send(self, request: UpstreamRequest) -> UpstreamResponse:
        async with _within(request.deadline - self._monotonic(), sent=False):
            address = await self._address(request)
        origin, limits = request.origin, request.limits
        host = f"[{address}]" if ":" in address else address
        outgoing = httpx.Request(
            request.method,
            f"{origin.scheme}://{host}:{origin.port}{request.target}",
            headers=[
                (b"host", origin.authority.encode()),
                (b"accept-encoding", b"identity"),
                *request.headers.pairs,
                (b"content-length", b"%d" % len(request.body)),
            ],
            content=request.body,
            extensions={
                "sni_hostname": origin.host,
                "timeout": {
                    "connect": limits.connect_s,
                    "pool": limits.connect_s,
                    "read": limits.first_byte_s,
                    "write": limits.first_byte_s,
                },
            },
        )
        client, exchange = self._fresh if request.fresh else self._client, _Exchange()
        began = self._monotonic()
        token = _CURRENT.set(exchange)
        try:
            async with _within(request.deadline - began, sent=True):
                with _translated(None):
                    answer = await client.send(outgoing, stream=True)
        except UpstreamCut as cut:
            cut.reused = not exchange.connected
            cut.unread = cut.reused and not exchange.answered and self._monotonic() - began <= UNREAD_S
            raise
        finally:
            _CURRENT.reset(token)
        headers = [(name.lower(), value) for name, value in answer.headers.raw]
        head = check_head(answer.status_code, headers, request.body_bytes_max)
        if isinstance(head, ResponseFault):
            await answer.aclose()
            raise head.error(head.detail, sent=True, status=answer.status_code)
        found = HttpxResponse(answer, headers, request, self._monotonic)
        return DecodedResponse(found, head.coding, request.body_bytes_max, lambda _: None) if head.coding else found

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()
        await self._fresh.aclose()

    async def _address(self, request: UpstreamRequest) -> str:
        try:
            async with asyncio.timeout(request.limits.connect_s):
                return (await self._names.resolve(request.origin))[0]
        except TimeoutError as error:
            raise UpstreamTimeout("connect") from error


class _Exchange:
    """What the network shows of one request: whether a connection was made for it, and a byte came back."""

    connected = answered = False


_CURRENT: Final[ContextVar[_Exchange]] = ContextVar("exchange")


class _Network(httpcore.AsyncNetworkBackend):
    """httpcore's network, watched."""

    def __init__(self) -> None:
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(self, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
        stream = await self._backend.connect_tcp(*args, **kwargs)
        _CURRENT.get().connected = True
        return _Stream(stream)

    async def sleep(self, seconds: float) -> None:
        await self._backend.sleep(seconds)


class _Stream(httpcore.AsyncNetworkStream):
    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109  # httpcore's own
        data = await self._stream.read(max_bytes, timeout)
        if data and (current := _CURRENT.get(None)) is not None:
            current.answered = True
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109  # likewise
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(self, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
        return _Stream(await self._stream.start_tls(*args, **kwargs))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _client(verify: ssl.SSLContext, bounds: PoolLimits, keep: int) -> httpx.AsyncClient:
    limits = httpx.Limits(
        max_connections=bounds.connections_max, max_keepalive_connections=keep, keepalive_expiry=bounds.free_s
    )
    transport = httpx.AsyncHTTPTransport(verify=verify, trust_env=False, limits=limits)
    transport._pool._network_backend = _Network()
    return httpx.AsyncClient(transport=transport, trust_env=False, follow_redirects=False)


class HttpxResponse:
    """`UpstreamResponse` over an httpx response that is being streamed."""

    def __init__(
        self,
        answer: httpx.Response,
        headers: list[tuple[bytes, bytes]],
        request: UpstreamRequest,
        monotonic: Callable[[], float],
    ) -> None:
        self._monotonic = monotonic
        self.status = answer.status_code
        self.headers = headers
        self._answer = answer
        self._pieces = answer.aiter_raw()
        self._body_bytes = 0
        self._deadline = request.deadline
        self._idle_s = request.limits.idle_s
        self._body_bytes_max = request.body_bytes_max
        self._closing: asyncio.Task[None] | None = None

    def header(self, name: bytes) -> bytes | None:
        for known, value in self.headers:
            if known == name:
                return value
        return None

    async def read(self) -> bytes:
        return b"".join([piece async for piece in self])

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while True:
            async with _within(min(self._deadline - self._monotonic(), self._idle_s), sent=True, status=self.status):
                with _translated(self.status):
                    piece = await anext(self._pieces)
            self._body_bytes += len(piece)
            if self._body_bytes > self._body_bytes_max:
                self.abandon()
                raise UpstreamBodyTooLarge("a body over the bound", sent=True, status=self.status)
            if piece:
                return piece

    def abandon(self) -> None:
        if not self._answer.is_closed and self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._answer.aclose())


@asynccontextmanager
async def _within(seconds: float, *, sent: bool, status: int | None = None) -> AsyncIterator[None]:
    """Bound what happens inside."""
    try:
        async with asyncio.timeout(max(seconds, 0.0)):
            yield
    except TimeoutError as error:
        raise UpstreamTimeout("total", sent=sent, status=status) from error


@contextmanager
def _translated(status: int | None) -> Iterator[None]:
    """Turn httpx's errors into ours; `status` once the head has come."""
    try:
        yield
    except httpx.TransportError as error:
        raise _translate(error, status) from error


def _translate(error: httpx.TransportError, status: int | None) -> UpstreamError:
    match error:
        case httpx.PoolTimeout():
            return UpstreamBusy("no connection became free in time")
        case httpx.ConnectTimeout():
            return UpstreamTimeout("connect")
        case httpx.ConnectError() if "ssl" in str(error).lower() or "certificate" in str(error).lower():
            return UpstreamTls("the handshake failed")
        case httpx.ConnectError():
            return UpstreamRefused("no connection")
        case httpx.TimeoutException():
            return UpstreamTimeout("first byte" if status is None else "idle", sent=True, status=status)
        case httpx.RemoteProtocolError() if _HEAD_OVERFLOW in str(error):
            return UpstreamHeaderTooLarge("no end of the head within the bound", sent=True, status=status)
        case httpx.RemoteProtocolError() if "disconnected" in str(error) or "closed" in str(error):
            return UpstreamCut("the connection ended early", sent=True, status=status)
        case httpx.RemoteProtocolError() | httpx.LocalProtocolError():
            return UpstreamMalformed("not an answer", sent=True, status=status)
        case _:
            return UpstreamCut(type(error).__name__, sent=True, status=status)
