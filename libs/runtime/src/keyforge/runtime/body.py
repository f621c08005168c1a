"""Reads a JSON body before FastAPI sees it: bounded in bytes and time, complete, no duplicate keys, not too deep."""

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from keyforge.contracts.errors import Problem, problem
from keyforge.contracts.json_text import BOM, encoding_fault

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

BODY_BYTES_MAX: Final = 256 * 1024
"""Chosen: a key with 24 limits and 500 models takes about 140 KiB."""
BODY_S_MAX: Final = 30.0
"""A body is read before its sender is known, so the wait for it is bounded. Chosen: 9 KiB a second suffice."""
DEPTH_MAX: Final = 32
"""Chosen: eight times the four levels that a body of these APIs has."""

_MARKED: Final = "The request body begins with a byte order mark, which JSON must not have."


class _DuplicateKeyError(ValueError):
    pass


def check_json(body: bytes) -> Problem | None:
    """Return the error of a JSON body, or None. It must be UTF-8 without a byte order mark (RFC 8259 section 8.1): of
    bytes Python's parser would guess the encoding."""
    try:
        parsed = json.loads(body.decode(), object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant)
    except _DuplicateKeyError as error:
        return problem("json_duplicate_key", param=str(error))
    except RecursionError:
        return _too_deep()
    except ValueError:
        return problem("json_invalid", _MARKED if body.startswith(BOM) else encoding_fault(body))
    return _too_deep() if _depth(parsed) > DEPTH_MAX else None


def _too_deep() -> Problem:
    return problem("json_too_deep", f"The request body is nested more than {DEPTH_MAX} levels deep.")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                # JSON can encode half of a surrogate pair, which no response can contain
                raise _DuplicateKeyError(name[:64].encode(errors="replace").decode())
            seen.add(name)
    return found


def _refuse_constant(_name: str) -> float:
    raise ValueError("NaN and Infinity are not JSON")


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level and depth <= DEPTH_MAX:
        depth += 1
        level = [
            item
            for one in level
            if isinstance(one, (dict, list))
            for item in (one.values() if isinstance(one, dict) else one)
        ]
    return depth


class StrictBody:
    """ASGI middleware: refuses an invalid body with its own error, and passes a valid one on in one piece."""

    def __init__(self, app: App, *, body_bytes_max: int = BODY_BYTES_MAX, body_s_max: float = BODY_S_MAX) -> None:
        self._app = app
        self._body_bytes_max = body_bytes_max
        self._body_s_max = body_s_max

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "DELETE", "OPTIONS"):
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._body_s_max):
                body = await self._read(receive)
        except TimeoutError:
            body = problem("body_incomplete", f"The request body did not arrive within {self._body_s_max:g} s.")
        wrong = body if isinstance(body, Problem) else (check_json(body) if body else None)
        if wrong is not None:
            await answer(send, wrong)
            return
        passed_on = False

        async def replay() -> Message:
            nonlocal passed_on
            if passed_on:
                return await receive()
            passed_on = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replay, send)

    async def _read(self, receive: Receive) -> bytes | Problem:
        chunks: list[bytes] = []
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return problem("body_incomplete", "The connection was closed before the end of the request body.")
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > self._body_bytes_max:
                return problem(
                    "body_too_large",
                    f"The request body is larger than {self._body_bytes_max} bytes.",
                    metadata={"body_bytes_max": self._body_bytes_max},
                )
            chunks.append(chunk)
            more = message.get("more_body", False)
        return b"".join(chunks)


async def answer(send: Send, wrong: Problem) -> None:
    """Send a problem as the complete response of an ASGI request."""
    body = wrong.body()
    headers = [(name.encode(), value.encode()) for name, value in wrong.headers()]
    headers += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": wrong.kind.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
