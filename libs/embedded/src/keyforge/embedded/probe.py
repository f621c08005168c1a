"""Requests the health of a process on a loopback port: one small HTTP request, without a client library to load."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final

from keyforge.contracts.visible import visible
from keyforge.embedded.ports import HOST

TIMEOUT_S: Final = 2.0
"""Chosen: twice what the kubelet waits for a probe by default (timeoutSeconds), since six processes start at once."""
EVIDENCE: Final = ("halted", "disagreeing", "first")
"""The details of audit that are about evidence."""
WHAT_TO_DO: Final = "the store disagrees with the log (what to do: docs/operations.md)"
CONDITION_CHARS_MAX: Final = 1000
"""Of what is shown of one answer. Chosen: 12 lines of 80 characters, half of a terminal."""
ANSWER_BYTES_MAX: Final = 256 * 1024
"""Chosen: some 50 times /varz, the largest of the answers, which has a few KiB."""


async def get(port: int, path: str) -> tuple[int, Any]:
    """Return status and JSON body (None if it is not JSON); status 0 if there is no answer in time."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await _get(port, path)
    except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return 0, None


async def _get(port: int, path: str) -> tuple[int, Any]:
    reader, writer = await asyncio.open_connection(HOST, port, limit=ANSWER_BYTES_MAX)
    try:
        writer.write(f"GET {path} HTTP/1.0\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        length = _length(head)
        if length is not None and length > ANSWER_BYTES_MAX:
            raise ValueError("too long")
        body = await (_to_the_end(reader) if length is None else reader.readexactly(length))
    finally:
        writer.close()
    status = int(head.split(b" ", 2)[1]) if head.startswith(b"HTTP/") else 0
    try:
        return status, json.loads(body)
    except (ValueError, RecursionError):
        return status, None


async def _to_the_end(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while len(body) <= ANSWER_BYTES_MAX and (more := await reader.read(ANSWER_BYTES_MAX)):
        body += more
    return body


def _length(head: bytes) -> int | None:
    """Return the length of the body after a head; None if it is not given, and the body ends with the connection."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return None


def condition(status: int, body: Any) -> str:
    """Return in words what an answer of /readyz says beside that all is well: why it is not ready, and its details."""
    said = [] if status == 200 else [why_not(status, body)]
    details = body.get("details") if isinstance(body, dict) else None
    if isinstance(details, dict) and details:
        said += evidence(details)
        others = sorted(name for name in details if name not in EVIDENCE)
        said += [", ".join(f"{name} {_words(details[name])}" for name in others)] if others else []
    return visible("; ".join(said))[:CONDITION_CHARS_MAX]


def evidence(details: Mapping[str, Any]) -> list[str]:
    """Return in words what audit reports of a store and logs that disagree; empty if they agree."""
    halted, count, first = (details.get(name) for name in EVIDENCE)
    said = [f"{log} is halted: {why}" for log, why in halted.items()] if isinstance(halted, dict) else []
    if count:
        chains = "1 chain is" if count == 1 else f"{count} chains are"
        examples = "; ".join(map(str, first)) if isinstance(first, list) else ""
        said.append(f"{chains} stored differently than in the log: {examples}".rstrip(": "))
    return [f"{WHAT_TO_DO}: {said[0]}", *said[1:]] if said else []


def _words(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def why_not(status: int, body: Any) -> str:
    """Return in words why an answer of /readyz is not a healthy one."""
    if status == 0:
        return "it does not answer"
    checks = body.get("checks") if isinstance(body, dict) else None
    if isinstance(checks, dict):
        wrong = ", ".join(sorted(str(name) for name, passed in checks.items() if not passed))
        if wrong:
            return f"not healthy yet: {visible(wrong)}"
    return f"it answers {status}"
