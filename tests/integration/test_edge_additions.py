"""A provider that refuses what an edge adds: one request pays for that with a second call, later ones do not."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from keyforge.contracts.ids import CredentialId, ProviderId
from keyforge.contracts.usage import Usage
from tests.integration.edge_stack import EdgeStack

STRICT = ProviderId("strict")
HEAD = "HTTP/1.1 {} X\r\ncontent-type: {}\r\ncontent-length: {}\r\n\r\n"
CHUNK = {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]}
USAGE = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
STREAM = f"data: {json.dumps(CHUNK)}\n\ndata: {json.dumps({'choices': [], 'usage': USAGE})}\n\ndata: [DONE]\n\n"


def answered(body: dict[str, Any]) -> tuple[int, str, str]:
    """Return what a strict provider answers with: status, type, body."""
    unknown = [name for name in ("stream_options", "max_tokens") if name in body]
    if unknown:
        wrong = [
            {"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs are not permitted"}
            for name in unknown
        ]
        return 422, "application/json", json.dumps({"detail": wrong})
    return 200, "text/event-stream", STREAM


@asynccontextmanager
async def strict_provider() -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """Serve it; yield its address, and the bodies that it gets."""
    seen: list[dict[str, Any]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            body = json.loads(await reader.readexactly(int(length.partition(b":")[2])))
            seen.append(body)
            status, type_, text = answered(body)
            writer.write(HEAD.format(status, type_, len(text)).encode() + text.encode())

    async def serve_until_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve_until_closed, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", seen
    finally:
        server.close()


async def test_a_provider_that_is_strict(tmp_path: Path) -> None:
    async with (
        strict_provider() as (url, seen),
        EdgeStack(tmp_path, KEYFORGE_OUTPUT_TOKENS_DEFAULT="77") as stack,
    ):
        await stack.provider(STRICT, ["one"], url=url, kind="openai-compatible")
        await stack.credential(STRICT, CredentialId("c"), "fixture-secret", url=url)
        await stack.knows("one")
        key = await stack.key()
        statuses: list[list[int]] = []
        for _ in range(2):
            answer = await stack.chat(key, model="strict/one", stream=True)
            assert (answer.status_code, answer.text) == (200, STREAM)
            assert answer.headers["x-keyforge-max-output-tokens"] == "77"
            ended = await stack.ending(answer.headers["x-request-id"])
            assert ended.usage == Usage(input_tokens=3, output_tokens=1)
            statuses.append([attempt.status for attempt in ended.attempts])
        assert statuses == [[422, 200], [200]]
        assert [sorted(body.keys() & {"stream_options", "max_tokens", "max_completion_tokens"}) for body in seen] == [
            ["max_tokens", "stream_options"],
            ["max_completion_tokens"],
            ["max_completion_tokens"],
        ]
        assert all(body.get("max_tokens", 77) == body.get("max_completion_tokens", 77) == 77 for body in seen)
