"""What the head of a request must meet before any service serves it, and the answer to one that does not (RFC 9112)."""

import os
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from keyforge.contracts.errors import Problem, problem
from keyforge.contracts.ids import RequestIds
from keyforge.runtime.clock import epoch_ms

ONE_VALUE: Final = frozenset(
    (
        b"api-key",
        b"authorization",
        b"content-encoding",
        b"content-type",
        b"idempotency-key",
        b"x-api-key",
        b"x-clickhouse-key",
        b"x-clickhouse-user",
    )
)
"""The headers that services read as one value. The parser refuses a second Content-Length; those that are lists may
come in several lines."""
NO_HOST: Final = "1.0"
"""The version of HTTP that needs no Host."""
CODING_BYTES_MAX: Final = 50
"""What an error shows of a transfer coding. Chosen: the longest registered name, `x-compress`, five times."""


def wrong_head(headers: Sequence[tuple[bytes, bytes]], version: str) -> Problem | None:
    """Return what is wrong with a head, or None. `headers`: names in lower case; `version`: such as `1.1`.

    One with a Host, without a transfer coding, and without a header that comes twice has nothing to be looked at.
    """
    values: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        values.setdefault(name, []).append(value)
    hosts = len(values.get(b"host", ()))
    if hosts > 1:
        return _wrong("host", "`Host` must not be sent more than once.")
    if not hosts and version != NO_HOST:
        return _wrong("host", f"`Host` must be sent with HTTP/{version}.")
    for name in ONE_VALUE & values.keys():
        if len(set(values[name])) > 1:
            text = name.decode()
            return _wrong(text, f"`{text.title()}` must not be sent with two values.")
    return _wrong_coding(b",".join(values[b"transfer-encoding"])) if b"transfer-encoding" in values else None


def _wrong_coding(value: bytes) -> Problem | None:
    codings = [coding.strip().lower() for coding in value.split(b",")]
    if codings == [b"chunked"]:
        return None
    for coding in codings:
        if coding not in (b"chunked", b""):
            shown = coding[:CODING_BYTES_MAX].decode("ascii", "replace")
            message = f"`Transfer-Encoding` must be `chunked`; `{shown}` is not supported."
            return problem("transfer_coding_unsupported", message, param="header.transfer-encoding")
    return _wrong("transfer-encoding", "`Transfer-Encoding` must be `chunked`, once.")


def _wrong(name: str, message: str) -> Problem:
    return problem("request_invalid", message, param=f"header.{name}")


def last_answer(wrong: Problem) -> bytes:
    """Return a problem as the bytes of an answer after which the connection ends."""
    body, request_id = wrong.body(), RequestIds(epoch_ms, os.urandom).next()
    lines = [
        f"HTTP/1.1 {wrong.kind.status} {HTTPStatus(wrong.kind.status).phrase}",
        *(f"{name}: {value}" for name, value in wrong.headers()),
        "content-type: application/json",
        f"content-length: {len(body)}",
        f"x-request-id: {request_id}",
        f"request-id: {request_id}",
        "connection: close",
        "\r\n",
    ]
    return "\r\n".join(lines).encode() + body
