"""Turns a fault into what goes out: a head, and a body or the events of a stream with their pauses."""

import gzip
import zlib
from collections.abc import Iterator
from datetime import datetime, timedelta
from email.utils import format_datetime
from string import Template
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import UNSET

from keyforge.simulator.faults.fault import END, HEY, PAUSE, USAGE, ProviderFault, completion
from keyforge.simulator.faults.table import NumberedFault, UnknownFaultError

DIMENSIONS: Final = 8
"""Of an embedding."""
_STREAM: Final = (HEY, *END)
_encode = msgspec.json.Encoder().encode
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
"""zlib's way to say that the container is gzip's."""


class Replayed(NamedTuple):
    """What goes out. `body` is None for a stream; `events` has bytes, and seconds to pause."""

    headers: dict[str, str]
    content_type: str
    body: bytes | None
    events: Iterator[bytes | float] = iter(())


def replay(chosen: NumberedFault, *, stream: bool, embeddings: int | None, now: datetime) -> Replayed:
    """Return what is sent to a request that asked for a stream, for so many embeddings, or for neither.

    Raises UnknownFaultError where embeddings are asked for and the fault is one of completions.
    """
    fault, filled = chosen.fault, variables(chosen, now)
    headers = {name: Template(value).substitute(filled) for name, value in fault.headers.items()}
    if fault.gzip:
        headers["content-encoding"] = "gzip"
    if fault.status == 200 and embeddings is None and (fault.form == "stream" or (stream and fault.form == "asked")):
        events = _events(fault, chosen.number, filled)
        events = _gzipped(events) if fault.gzip else events
        return Replayed(headers, fault.content_type or "text/event-stream", None, events)
    body = _body(fault, embeddings)
    content_type = fault.content_type if fault.events is UNSET else None  # else it is the stream's
    content_type = content_type or ("application/json" if not isinstance(body, str) else _type_of(body))
    text = Template(body if isinstance(body, str) else _encode(body).decode()).safe_substitute(filled).encode()
    return Replayed(headers, content_type, gzip.compress(text, mtime=0) if fault.gzip else text)


def variables(chosen: NumberedFault, now: datetime) -> dict[str, str]:
    """Return what the templates of a fault are filled with: its number, as a wait from now on in each spelling."""
    fault, number = chosen
    if fault.size_bytes is not None:
        return {"filler": "A" * int(number)}
    until = now + timedelta(seconds=number)
    minutes, seconds = divmod(number, 60)
    return {
        "seconds": f"{number:.10g}",
        "ms": f"{number * 1000:.0f}",
        "duration": f"{minutes:.0f}m{seconds:.10g}s" if minutes else f"{seconds:.10g}s",
        "date": format_datetime(until, usegmt=True),
        "rfc3339": until.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "epoch_s": f"{until.timestamp():.0f}",
        "epoch_ms": f"{until.timestamp() * 1000:.0f}",
    }


def _body(fault: ProviderFault, embeddings: int | None) -> Any:
    usage = USAGE if fault.usage is UNSET else fault.usage
    if embeddings is None or fault.status != 200 or fault.billed == (0, 0):
        if fault.body is not UNSET:
            return fault.body
        return completion(usage=usage)
    if fault.body is not UNSET or fault.form == "stream":
        raise UnknownFaultError("This fault is one of chat completions; embeddings have none like it.")
    data = [{"object": "embedding", "index": at, "embedding": [0.125] * DIMENSIONS} for at in range(embeddings)]
    return {"object": "list", "model": "sim-fault", "data": data, "usage": usage}


def _type_of(body: str) -> str:
    return "text/html" if body.startswith("<") else "text/plain"


def _events(fault: ProviderFault, pause_s: float, filled: dict[str, str]) -> Iterator[bytes | float]:
    for event in _STREAM if fault.events is UNSET else fault.events:
        if event == PAUSE:
            yield pause_s
            continue
        text = event if isinstance(event, str) else f"data: {_encode(event).decode()}\n\n"
        yield Template(text).safe_substitute(filled).encode()


def _gzipped(events: Iterator[bytes | float]) -> Iterator[bytes | float]:
    """Compress a stream so that each event can be read when it comes."""
    coder = zlib.compressobj(wbits=_GZIP_WINDOW)
    for event in events:
        yield event if isinstance(event, float) else coder.compress(event) + coder.flush(zlib.Z_SYNC_FLUSH)
    yield coder.flush()
