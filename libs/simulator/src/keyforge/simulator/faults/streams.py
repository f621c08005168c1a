"""Streams that the standard for server-sent events allows, or that providers send all the same."""

import json
from typing import Any, Final

from keyforge.simulator.faults.fault import (
    DONE,
    END,
    HEY,
    PAUSE,
    STOP,
    USED,
    ProviderFault,
    chunk,
    completion,
    streamed,
)


def _data(event: object, end: str = "\n\n") -> str:
    return f"data: {json.dumps(event)}{end}"


_IMAGE: Final[dict[str, Any]] = {"type": "image_url", "image_url": {"url": "data:image/png;base64,$filler"}}
_HALF: Final = json.dumps(HEY).replace(', "choices"', ',\ndata: "choices"')

STREAMS: Final = {
    "stream-bom": streamed("a byte order mark before the first event", "\ufeff" + _data(HEY), *END),
    "stream-fields": streamed("a field that the standard does not know", "x-trace: 12\n" + _data(HEY), *END),
    "stream-named": streamed(
        "events with other names, one of them with text",
        "event: ping\ndata: ping\n\n",
        HEY,
        'event: x.tool\ndata: {"tool":"w"}\n\n',
        *END,
    ),
    "stream-retry": streamed("`retry` and `id` without data", "retry: 3000\n\n", "id: 7\n\n", HEY, *END),
    "stream-comments": streamed(
        "comments between events (OpenRouter)", ": OPENROUTER PROCESSING\n\n", HEY, ":\n\n", *END
    ),
    "stream-crlf": streamed(
        "lines that end in CR LF", *(_data(event, "\r\n\r\n") for event in (HEY, STOP, USED)), "data: [DONE]\r\n\r\n"
    ),
    "stream-cr": streamed(
        "lines that end in a lone CR", *(_data(event, "\r\r") for event in (HEY, STOP, USED)), "data: [DONE]\r\r"
    ),
    "stream-lines": streamed("an event with two lines of data", f"data: {_HALF}\n\n", *END),
    "stream-no-space": streamed("no space after `data:`", f"data:{json.dumps(HEY)}\n\n", *END),
    "stream-no-done": streamed("the end without `[DONE]`", HEY, STOP, USED),
    "stream-no-end": streamed("the last line has no end", HEY, STOP, USED, "data: [DONE]"),
    "stream-large": streamed(
        "an event as large as a picture (OpenRouter); the name may end in its bytes",
        HEY,
        chunk(choices=[{"index": 0, "delta": {"images": [_IMAGE]}, "finish_reason": None}]),
        *END,
        size_bytes=1_500_000,
    ),
    "stream-finish-empty": streamed('`finish_reason` is "" until the end', chunk("he", ""), chunk("y", ""), *END),
    "stream-after-done": streamed("a chunk with words after `[DONE]`", HEY, STOP, USED, DONE, chunk(" more")),
    "stream-not-utf8-type": streamed(
        "another charset in the type of the content", HEY, *END, content_type="text/event-stream; charset=ISO-8859-1"
    ),
}
TIMES: Final = {
    "silence-head": ProviderFault(about="silence before the head", waits=True, seconds=20.0),
    "silence-first": streamed("silence after the head, before the first event", PAUSE, HEY, *END, seconds=20.0),
    "silence-events": streamed("silence between two events", HEY, PAUSE, chunk(" you"), *END, seconds=20.0),
    "silence-end": streamed("silence before the end", HEY, STOP, USED, PAUSE, DONE, seconds=20.0),
    "silence-503": ProviderFault(
        about="silence, then a 503",
        status=503,
        body={"error": {"message": "overloaded"}},
        waits=True,
        seconds=20.0,
        billed=(0, 0),
    ),
}
_GZIP_ERROR: Final = {"error": {"message": "bad schema", "type": "invalid_request_error", "param": None, "code": None}}
_GZIP_SLOW: Final = {"error": {"message": "slow down", "type": "rate_limit_exceeded", "param": None, "code": None}}
CONNECTIONS: Final = {
    "gzip": ProviderFault(about="a gzipped answer, whole or streamed, that nobody asked for", gzip=True),
    "gzip-400": ProviderFault(about="a gzipped 400", status=400, body=_GZIP_ERROR, gzip=True, billed=(0, 0)),
    "gzip-429": ProviderFault(
        about="a gzipped 429",
        status=429,
        body=_GZIP_SLOW,
        headers={"retry-after": "$seconds"},
        seconds=7.0,
        gzip=True,
        billed=(0, 0),
    ),
    "body-bom": ProviderFault(
        about="a byte order mark before the JSON of a whole answer",
        body="\ufeff" + json.dumps(completion()),
        content_type="application/json",
        form="whole",
    ),
    "next-reset": ProviderFault(
        about="the connection is reset in the instant of its second request, unread", after="reset"
    ),
    "next-close": ProviderFault(
        about="the connection is closed in the instant of its second request, unread", after="close"
    ),
    "keep-alive": ProviderFault(
        about="`Keep-Alive: timeout=`, and the connection is closed after so long",
        headers={"keep-alive": "timeout=$seconds"},
        seconds=1.0,
        after="idle",
    ),
}
