"""Requests to an edge as bytes, and a bare connection to send them on."""

import asyncio
import json
from typing import Any, Self

from keyforge.contracts.keyformat import Minted
from tests.integration.edge_facts import MODEL
from tests.integration.edge_stack import EdgeStack


def body(content: str = "hello", **fields: Any) -> bytes:
    return json.dumps({"model": MODEL, "messages": [{"role": "user", "content": content}], **fields}).encode()


def request(
    key: Minted | None,
    data: bytes,
    *more: str,
    target: str = "/v1/chat/completions",
    version: str = "1.1",
    length: bool = True,
) -> bytes:
    lines = [f"POST {target} HTTP/{version}", "Host: x", *more]
    if key is not None:
        lines.append(f"Authorization: Bearer {key.text}")
    if length:
        lines.append(f"Content-Length: {len(data)}")
    return "\r\n".join([*lines, "", ""]).encode() + data


class Connection:
    """A bare connection to the edge."""

    def __init__(self, stack: EdgeStack) -> None:
        self._port = stack.edge_port
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    async def head(self) -> tuple[int, dict[str, str]]:
        text = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        status, *lines = text.strip().split("\r\n")
        return int(status.split(" ")[1]), dict(line.split(": ", 1) for line in lines)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        status, headers = await self.head()
        if "content-length" in headers:
            return status, headers, await self.reader.readexactly(int(headers["content-length"]))
        pieces = []
        while size := int(await self.reader.readline(), 16):
            pieces.append(await self.reader.readexactly(size))
            await self.reader.readline()
        await self.reader.readline()
        return status, headers, b"".join(pieces)

    async def ended(self) -> bool:
        """Say whether the edge closed the connection."""
        async with asyncio.timeout(60):
            try:
                return await self.reader.read(1) == b""
            except ConnectionResetError:
                return True
