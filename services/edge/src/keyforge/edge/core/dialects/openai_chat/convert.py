"""Turns a whole completion into a stream, and a stream into a whole completion, where a provider sent the other one.

Some servers ignore `stream`, or stream whatever was asked. Both are answers, with content that was billed; agents read
the form that they asked for. What is written here has the provider's own fields; text and numbers keep their values.
"""

import json
from typing import Any, Final

import msgspec

from keyforge.edge.core.dialects.base import Converted, MeteredAnswer
from keyforge.edge.core.dialects.openai_chat.answer import read_chat
from keyforge.edge.core.dialects.openai_chat.chunk import ChatChunk, read_chunk
from keyforge.edge.core.dialects.openai_chat.merge import merged
from keyforge.edge.core.dialects.openai_chat.stream import StreamMeter
from keyforge.edge.core.dialects.provider_error import ProviderError, as_json, error_in
from keyforge.edge.core.dialects.sse import events
from keyforge.edge.core.pricing.workload import Workload

DONE: Final = b"data: [DONE]\n\n"
_ENVELOPE: Final = frozenset(("choices", "usage", "object", "error"))
"""Fields of a completion that its chunks have otherwise."""


def as_stream(body: bytes, workload: Workload, *, shows_usage: bool) -> Converted | ProviderError | None:
    """Return a whole completion as the events of a stream: a chunk for each choice, the usage if the agent asked for
    it, and the end. ProviderError: it is an error; None: it is neither."""
    whole = as_json(body)
    if failure := error_in(whole):
        return failure
    choices = whole.get("choices") if isinstance(whole, dict) else None
    if not isinstance(whole, dict) or not isinstance(choices, list) or not all(map(_is_choice, choices)):
        return None
    envelope = _envelope(whole)
    chunks = [{**envelope, "choices": [_chunk_choice(place, choice)]} for place, choice in enumerate(choices)]
    if shows_usage and whole.get("usage"):
        chunks.append({**envelope, "choices": [], "usage": whole["usage"]})
    try:
        stream = b"".join([b"data: " + _encode(chunk) + b"\n\n" for chunk in chunks]) + DONE
    except RecursionError:
        return None
    return Converted(stream, read_chat(body, workload) or MeteredAnswer())


def as_completion(body: bytes, workload: Workload) -> Converted | ProviderError | None:
    """Return a whole stream as the completion that its chunks make. ProviderError: it holds an error, in whatever
    place; None: it is no stream."""
    meter = StreamMeter(
        keep_usage=True,
        completions=workload.completions,
        cache_1h=workload.cache_1h,
        event_bytes_max=max(1, len(body)),
    )
    stream = meter.feed(body) + meter.end()
    if meter.failure is not None:
        return meter.failure
    read = [data for _, data in events(stream + b"\n\n") if isinstance(read_chunk(data), ChatChunk)]
    chunks = [chunk for data in read if isinstance(chunk := as_json(data), dict) and "choices" in chunk]
    if meter.malformed or not chunks:
        return None
    metered = MeteredAnswer(meter.usage, meter.reported_cost_nusd)
    try:
        completion = _encode(merged(chunks))
    except RecursionError:
        return None
    return Converted(completion, metered, meter.finished or meter.done)


def _is_choice(choice: object) -> bool:
    return isinstance(choice, dict) and isinstance(choice.get("message"), dict)


def _envelope(whole: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in whole.items() if name not in _ENVELOPE}
    return {**kept, "object": "chat.completion.chunk"}


def _chunk_choice(place: int, choice: dict[str, Any]) -> dict[str, Any]:
    """Return a choice as a stream has it: tool calls name their index, which clients put them together by."""
    delta = dict(choice["message"])
    calls = delta.get("tool_calls")
    if isinstance(calls, list):
        delta["tool_calls"] = [
            {"index": number, **call} if isinstance(call, dict) else call for number, call in enumerate(calls)
        ]
    rest = {name: value for name, value in choice.items() if name != "message"}
    return {"index": place, "finish_reason": None, **rest, "delta": delta}


def _encode(document: object) -> bytes:
    """Write JSON on one line; half of a surrogate pair, which clients accept, is written as an escape."""
    try:
        return msgspec.json.encode(document)
    except UnicodeEncodeError:
        return json.dumps(document, separators=(",", ":")).encode()
