"""One chunk of a stream: read, its text counted in bytes, and written again without its usage."""

import json
from typing import Any, Final, Literal

import msgspec

from keyforge.contracts.unreadable import UNREADABLE

_NOT_TEXT: Final = frozenset(("role", "type", "id", "index"))
"""Fields of a delta that the model did not write."""


class ChatChoice(msgspec.Struct):
    """What one completion goes on with."""

    delta: dict[str, Any] | None = None
    text: str | None = None
    finish_reason: Any = None
    index: Any = 0


class ChatChunk(msgspec.Struct):
    """One event's data, as far as it is metered."""

    choices: list[ChatChoice] | None = None
    usage: Any = None
    x_groq: Any = None
    error: Any = None


decode_chunk: Final = msgspec.json.Decoder(ChatChunk).decode
"""Read a chunk. Raises what is in UNREADABLE."""
_decode_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


def read_chunk(data: bytes) -> ChatChunk | Literal["not_a_chunk"] | None:
    """Read a chunk; None: it is not JSON. Clients accept what the strict decoder refuses, such as half of a surrogate
    pair, so that is read as well."""
    try:
        return decode_chunk(data)
    except msgspec.ValidationError:
        return "not_a_chunk"
    except UNREADABLE:
        try:
            return msgspec.convert(json.loads(data), ChatChunk)
        except msgspec.ValidationError:
            return "not_a_chunk"
        except (ValueError, RecursionError):
            return None


def written_bytes(choice: ChatChoice) -> int:
    """Count the bytes of every text that the model wrote, wherever it is: content, reasoning, arguments."""
    written = _utf8_bytes(choice.text) if choice.text else 0
    rest: list[Any] = [choice.delta] if choice.delta else []
    while rest:
        value = rest.pop()
        if isinstance(value, str):
            written += _utf8_bytes(value)
        elif isinstance(value, dict):
            rest += [inner for name, inner in value.items() if name not in _NOT_TEXT]
        elif isinstance(value, list):
            rest += value
    return written


def without_usage(data: bytes) -> bytes:
    """Write a chunk again without its usage, on one line; all other values stay the bytes they were, where the decoder
    allows. A string of JSON holds no line feed, so one between its parts can be a space."""
    try:
        event = _decode_raw(data)
    except UNREADABLE:
        lenient = json.loads(data)
        lenient.pop("usage", None)
        return json.dumps(lenient).encode()
    event.pop("usage", None)
    return _encode(event).replace(b"\n", b" ")


def _utf8_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
