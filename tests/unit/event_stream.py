"""A reader of event streams, written from the standard alone (WHATWG HTML, 9.2.6), and events to write them from."""

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from keyforge.edge.core.dialects.openai_chat.stream import StreamMeter

USED = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
DONE = b"data: [DONE]\n\n"


def standard(stream: bytes) -> list[tuple[str, str]]:
    """Return the events that a client which follows the standard dispatches: type and data."""
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    found: list[tuple[str, str]] = []
    type_, data, line, place = "", "", "", 0
    while place < len(text):
        char = text[place]
        place += 1
        if char not in "\r\n":
            line += char
            continue
        if char == "\r" and text[place : place + 1] == "\n":
            place += 1
        if not line:
            if data:
                found.append((type_ or "message", data[:-1]))
            type_, data = "", ""
        elif not line.startswith(":"):
            name, colon, value = line.partition(":")
            value = value[1:] if colon and value.startswith(" ") else value
            if name == "event":
                type_ = value
            elif name == "data":
                data += value + "\n"
        line = ""
    return found


def event(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> bytes:
    """Return a chunk as an event; without a delta it has no choices."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return data({"id": "c", "choices": choices, **more})


def data(document: object) -> bytes:
    """Return an event with a document."""
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def run(stream: bytes, cuts: Sequence[int] = (), *, keep_usage: bool = True) -> tuple[bytes, StreamMeter]:
    """Meter a stream in pieces; return what came out."""
    meter = StreamMeter(keep_usage=keep_usage)
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    out = b"".join([meter.feed(stream[start:end]) for start, end in pairwise(edges)])
    return out + meter.end(), meter


def reading(meter: StreamMeter) -> tuple[Any, ...]:
    """Return everything that a meter found."""
    return (
        meter.usage, meter.output_bytes, meter.deltas, meter.begun, meter.finished, meter.done, meter.fault,
        meter.error, meter.failure, bytes(meter.stray),
    )  # fmt: skip
