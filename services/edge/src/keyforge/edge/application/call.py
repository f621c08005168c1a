"""One request of an agent, as the use cases see it: its head read once, its body bounded, its answer written.

Two implementations: `inbound.asgi_call.AsgiCall` over ASGI, and `inbound.fast_path.FastCall` for requests that need
nothing special.
"""

from collections.abc import Iterable
from typing import Protocol

import msgspec

from keyforge.contracts.errors import Problem
from keyforge.contracts.ids import RequestId

Headers = list[tuple[bytes, bytes]]


class AgentGone(Exception):
    """The agent hung up before its request was read."""


class RequestHead(msgspec.Struct, frozen=True, gc=False):
    """The headers of a request, as far as the edge reads them. `content_length` -1: absent, or no length.

    `content_encoding`: how its body is compressed, in lower case; empty: it is not.
    `expects`: the agent waits for an interim response (100-continue) before it sends its body.
    """

    key_text: bytes
    idempotency_key: bytes
    content_length: int
    expects: bool
    content_encoding: bytes = b""


class Call(Protocol):
    """One request, and the way back to its agent."""

    request_id: RequestId
    head: RequestHead
    began: float
    """When its head was read (monotonic seconds)."""
    status: int
    """What it was answered with; 0: nothing yet."""

    async def body(self, bytes_max: int, time_limit_s: float) -> bytes | Problem:
        """Return the whole body. Raises AgentGone."""
        ...

    async def gone(self) -> None:
        """Wait until the agent hangs up. Only after `body`."""
        ...

    async def answer(self, status: int, body: bytes, headers: Headers | None = None) -> None:
        """Answer with a whole JSON body."""
        ...

    async def start(self, status: int, headers: Headers) -> None:
        """Send the head of a stream; the request id goes with every one."""
        ...

    async def piece(self, data: bytes) -> None:
        """Send a piece of a stream; waits while the agent does not read."""
        ...

    async def end(self) -> None:
        """End a stream."""
        ...


async def refuse(call: Call, wrong: Problem, more: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """Answer with a problem, its headers and `more`."""
    await call.answer(wrong.kind.status, wrong.body(), [*headers_of(wrong), *more])


def headers_of(wrong: Problem) -> Headers:
    """Return the headers of a problem."""
    return [(name.encode(), value.encode()) for name, value in wrong.headers()]
