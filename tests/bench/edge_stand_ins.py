"""What stands in for sockets and the bus in `edge_pieces_bench`: a provider's bytes, a log, a budget, a connection."""

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

from keyforge.contracts.reserve import Answer, decode_reserves, encode_answers
from keyforge.eventlog.log import Appended
from keyforge.eventlog.nats.protocol import Delivery
from tests.bench import bodies

ANSWER = json.dumps(bodies.ANSWER).encode()
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Mon, 23 Nov 2026 18:00:00 GMT\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\nConnection: keep-alive\r\n\r\n%s" % (len(ANSWER), ANSWER)
)
CHUNKS = 100


def _chunk(delta: dict[str, str], **more: object) -> bytes:
    """Return an event of a stream as HTTP carries it."""
    choices = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None if delta else "stop"}]
    head = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1_763_860_000, "model": bodies.MODEL}
    event = b"data: %s\n\n" % json.dumps({**head, "choices": choices, **more}).encode()
    return b"%x\r\n%s\r\n" % (len(event), event)


STREAM = (
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
    *[_chunk({"content": f" word{number}"}) for number in range(CHUNKS)],
    _chunk({}, usage={"prompt_tokens": 187, "completion_tokens": CHUNKS, "total_tokens": 187 + CHUNKS}),
    b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n",
)


class Bus:
    """In place of a connection to NATS: allows every reserve, two turns of the loop later."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    async def request(self, _subject: str, payload: bytes, *, timeout_s: float) -> Delivery:
        del timeout_s
        asks = decode_reserves(payload).asks
        answers = encode_answers([Answer("allow", "", 5, index) for index in range(len(asks))])
        answer: asyncio.Future[Delivery] = self._loop.create_future()
        self._loop.call_soon(answer.set_result, Delivery(1, "", "", answers, b""))
        return await answer


class Log:
    """Stores every frame."""

    async def append(self, *_: object, **__: object) -> Appended:
        await asyncio.sleep(0)
        return Appended(1)


class Always:
    """Leases that are held, a control feed that is current."""

    epoch = 1

    def of(self, _partition: int) -> "Always":
        return self

    def stale(self, _partition: int) -> bool:
        return False

    def unreadable(self) -> bool:
        return False


class Transport:
    """One end of a connection that leads nowhere; `wrote` gets what is written."""

    def __init__(self, wrote: Callable[[bytes], None], named: dict[str, Any] | None = None) -> None:
        self._wrote = wrote
        self._named = named or {}

    def write(self, data: bytes) -> None:
        self._wrote(data)

    def writelines(self, pieces: Sequence[bytes]) -> None:
        self._wrote(b"".join(pieces))

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: object = None) -> Any:
        return self._named.get(name, default)

    def resume_reading(self) -> None:
        """Nothing was paused."""
