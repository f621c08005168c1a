"""One chunk of a stream: read, its text counted in bytes, and written again without its usage."""

import json
from typing import Any, Final, Literal

import msgspec

from keyforge.contracts.unreadable import UNREADABLE
from keyforge.edge.core.dialects import usage_table
from keyforge.edge.core.dialects.provider_error import (
    UNKNOWN_STATUS,
    ProviderError,
    as_json,
    error_in,
    error_of,
)
from keyforge.edge.core.dialects.stream_bounds import TOKEN_BYTES_MAX

_NOT_TEXT: Final = frozenset(("role", "type", "id", "index"))
"""Fields of a delta that the model did not write."""
_NO_TOKENS: Final = _NOT_TEXT | {
    "images",
    "image_url",
    "data",
    "signature",
    "thought_signature",
    "encrypted_content",
    "annotations",
    "citations",
    "executed_tools",
}
"""Fields whose bytes are no text of tokens: pictures (OpenRouter), sound (OpenAI), signed or encrypted thoughts
(Anthropic's and Gemini's), what a tool or a search of the provider found (OpenRouter, Perplexity, Groq)."""
_NO_FINISH: Final = frozenset(("", "null"))
"""Reasons to finish that are none: several send "" with each chunk, DashScope's own API "null"."""


class ChatChoice(msgspec.Struct):
    """What one completion goes on with."""

    delta: dict[str, Any] | None = None
    text: str | None = None
    finish_reason: Any = None
    index: Any = 0
    error: Any = None
    usage: Any = None


class ChatChunk(msgspec.Struct):
    """One event's data, as far as it is metered."""

    choices: list[ChatChoice] | None = None
    usage: Any = None
    x_groq: Any = None
    error: Any = None
    usage_metadata: Any = None
    gemini: Any = msgspec.field(name="usageMetadata", default=None)
    bedrock: Any = msgspec.field(name="amazon-bedrock-invocationMetrics", default=None)


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


def finishes(choice: ChatChoice) -> bool:
    """Return whether a completion ends here."""
    reason = choice.finish_reason
    return bool(reason) and not (isinstance(reason, str) and reason in _NO_FINISH)


def groqs_error(chunk: ChatChunk) -> Any:
    """Return why a stream was stopped early, where Groq says it (API reference, chat completion chunk); else None."""
    return chunk.x_groq.get("error") if isinstance(chunk.x_groq, dict) else None


def failure_of(chunk: ChatChunk | Literal["not_a_chunk"], data: bytes) -> ProviderError | None:
    """Return the error that an event carries; None: none. The usual chunk is not read a second time for it."""
    if isinstance(chunk, ChatChunk):
        if groqs := groqs_error(chunk):
            return error_in({"error": groqs})
        if not chunk.error and not _may_fail(chunk):
            return None
    return error_in(as_json(data))


def failure_in_place(data: bytes, *, named: bool) -> ProviderError | None:
    """Return the error that stands where a chunk should be. None: there is none, or it is JSON that is damaged.

    `named`: by an event whose name is `error`; then it is one in whatever JSON, else in text alone.
    """
    document = as_json(data)
    if isinstance(document, dict):
        return error_in(document) or (error_in({"error": document}) if named and any(document.values()) else None)
    text = data.strip()
    is_text = isinstance(document, str) or (document is None and not text.startswith((b"{", b"[")))
    return error_of(data, UNKNOWN_STATUS) if text not in (b"", b"null") and (is_text or named) else None


def written_bytes(choice: ChatChoice) -> int:
    """Count the bytes of every text that the model wrote, wherever it is: content, reasoning, arguments. What is no
    text, such as an image, counts as one byte: it is looked for only in what is too long to be a token."""
    written = _utf8_bytes(choice.text) if choice.text else 0
    if choice.delta:
        for name, value in choice.delta.items():
            if value and name not in _NOT_TEXT:
                written += _utf8_bytes(value) if isinstance(value, str) else _text_bytes(value, _NOT_TEXT)
    if written > TOKEN_BYTES_MAX:
        return max(1, written - _text_bytes(choice.delta, _NOT_TEXT) + _text_bytes(choice.delta, _NO_TOKENS))
    return written


def has_text(choice: object) -> bool:
    """Return whether a decoded choice, of a chunk or of a whole answer, holds text that the model wrote."""
    if not isinstance(choice, dict):
        return False
    parts = (choice.get(name) for name in ("delta", "message", "text"))
    return any(_text_bytes(part, _NOT_TEXT) for part in parts)


def may_hide_usage(chunk: ChatChunk) -> bool:
    """Return whether a chunk has a usage that may exist because it was asked for. Where Groq has it in `x_groq` as well
    it comes unasked (recorded traffic)."""
    return chunk.usage is not None and not (isinstance(chunk.x_groq, dict) and chunk.x_groq.get("usage"))


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
    return _encode(event).replace(b"\n", b" ").replace(b"\r", b" ")


def _may_fail(chunk: ChatChunk) -> bool:
    """Return whether there can be an error beside `error`: nothing was written, or a completion failed."""
    if not chunk.choices:
        return chunk.choices is None or chunk.usage is None
    return any(choice.error or choice.finish_reason == "error" for choice in chunk.choices)


def _text_bytes(value: object, but: frozenset[str]) -> int:
    """Count the bytes of all strings in a value, but for what is in some fields."""
    written, rest = 0, [value]
    while rest:
        value = rest.pop()
        if isinstance(value, str):
            written += _utf8_bytes(value)
        elif isinstance(value, dict):
            rest += [inner for name, inner in value.items() if name not in but]
        elif isinstance(value, list):
            rest += value
    return written


def may_bill(data: bytes) -> bool:
    """Return whether an event, or a whole answer, holds text that the model wrote, or a usage in whichever place."""
    document = as_json(data)
    if not isinstance(document, dict):
        return False
    choices = document.get("choices")
    if isinstance(choices, list) and any(map(has_text, choices)):
        return True
    return not all(map(usage_table.is_blank, usage_table.places(document)))


def _utf8_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
