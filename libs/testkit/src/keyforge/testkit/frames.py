"""The logs as text: what their frames say, which no search of the files or the raw messages finds.

A test that looks for what must not be in a log looks here, and for something that must be, so that it cannot be blind.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import Final

from keyforge.contracts import members, subjects
from keyforge.contracts.compression import CompressionError, decompress
from keyforge.eventlog import meta
from keyforge.eventlog.jetstream import JetStreamLog
from keyforge.eventlog.log import Message
from keyforge.eventlog.nats.client import NatsClient
from keyforge.testkit.stack import Stack

READ_WITHIN_S: Final = 60.0


def text_of(message: bytes) -> bytes:
    """Return the JSON of a frame; any other message, such as a bucket's, as it is."""
    try:
        return decompress(message)
    except CompressionError:
        return message


async def messages_of(log: JetStreamLog, stream: str) -> list[Message]:
    """Return all that a log has now."""
    found: list[Message] = []
    end = await log.end(stream)
    if end:
        async with asyncio.timeout(READ_WITHIN_S), aclosing(log.read(stream)) as batches:
            async for batch in batches:
                found += batch
                if batch[-1].seq >= end:
                    break
    return found


async def log_texts(log: JetStreamLog, partitions: int) -> dict[str, bytes]:
    """Return the JSON of all frames of each log, by the name of its stream."""
    streams = [*map(subjects.log_stream, range(partitions)), subjects.PLATFORM_STREAM]
    return {
        stream: b"\n".join(decompress(message.data) for message in await messages_of(log, stream)) for stream in streams
    }


async def partitions_of(log: JetStreamLog) -> int:
    """Return how many partitions a log was declared with."""
    made_with = await meta.read(log)
    assert made_with is not None, "a stack that runs has declared its log"
    return made_with.partitions


@asynccontextmanager
async def log_of(stack: Stack) -> AsyncGenerator[JetStreamLog]:
    """The log of a running stack, as the administrator reads it."""
    password = (stack.home / "secrets" / f"nats_{members.ADMIN}").read_text("ascii").strip()
    prefix = subjects.inbox_prefix(members.ADMIN)
    client = NatsClient([stack.url("nats")], user=members.ADMIN, password=password, inbox_prefix=prefix)
    await client.open(within_s=READ_WITHIN_S)
    try:
        yield JetStreamLog(client)
    finally:
        await client.close()


def texts_of(stack: Stack) -> dict[str, bytes]:
    """Return what the frames in the logs of a running stack say, by the name of the stream."""

    async def read() -> dict[str, bytes]:
        async with log_of(stack) as log:
            return await log_texts(log, await partitions_of(log))

    return asyncio.run(read())
