"""What a golden file holds of one exchange: its exact bytes, with a placeholder for what differs from run to run."""

import difflib
import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from tests.e2e.golden_wire import Received

HEX_DIGITS: Final = 32
DIFF_LINES_MAX: Final = 40
OWN_ERROR_FIELDS: Final = {"code", "type", "message", "param", "metadata"}
"""An error that the gateway itself words has these; its words may change, its type and status may not."""
OF_THE_PROVIDER: Final = b"x-keyforge-error: upstream"
_HOST: Final = re.compile(rb"^(host: 127\.0\.0\.1):\d+(?=\r$)", re.IGNORECASE | re.MULTILINE)
_IDS: Final = re.compile(rb"^((?:x-)?request-id): ([^\r\n]+)(?=\r$)", re.MULTILINE)
_DATE: Final = re.compile(rb"^(date): [^\r\n]+(?=\r$)", re.MULTILINE)
_DEPENDS_ON_WORDS: Final = re.compile(rb"^(content-length|retry-after): \d+(?=\r$)", re.MULTILINE)
_EVENT_DATA: Final = re.compile(rb"^data: (\{.*\})$", re.MULTILINE)


class Exchange(NamedTuple):
    """One request through the edge: what the provider received (nothing: it was not called), and the agent."""

    status: int
    outcome: str
    """`answered`, `upstream` (the provider's own error, handed on), or the type of the gateway's error."""
    sent: bytes
    received: bytes

    @classmethod
    def of(cls, sent: bytes, answer: Received) -> "Exchange":
        """Put placeholders in. Raises AssertionError for an answer that does not carry one id under both its names."""
        ids = [found[1] for found in _IDS.findall(answer.head)]
        assert len(ids) == 2, f"both names of the request's id are expected once: {answer.head!r}"
        assert ids[0] == ids[1], f"one request has one id: {answer.head!r}"
        head = _DATE.sub(rb"\1: <date>", _IDS.sub(rb"\1: <request id>", answer.head))
        body, outcome = answer.body, "answered"
        if OF_THE_PROVIDER in head:
            outcome = "upstream"
        elif answer.status >= 400:
            outcome = own_error(body)
            head = _DEPENDS_ON_WORDS.sub(rb"\1: <number>", head)
            body = b"<error %s>" % outcome.encode()
        else:
            body = _EVENT_DATA.sub(_without_words, body)
        return cls(answer.status, outcome, _HOST.sub(rb"\1:<port>", sent), head + body)


def own_error(body: bytes) -> str:
    """Return the type of an error that the gateway words. Raises AssertionError if it is none."""
    error = _error_in(body)
    assert error is not None, f"no error of the gateway's: {body[:300]!r}"
    return str(error["type"])


def _without_words(data: "re.Match[bytes]") -> bytes:
    error = _error_in(data[1])
    return data[0] if error is None else b"data: <error %s>" % str(error["type"]).encode()


def _error_in(body: bytes) -> dict[str, Any] | None:
    try:
        error = json.loads(body).get("error")
    except (ValueError, AttributeError):
        return None
    return error if isinstance(error, dict) and set(error) == OWN_ERROR_FIELDS else None


def digest(data: bytes) -> str:
    """Return what stands for bytes in a golden file; `-` for none at all."""
    return hashlib.sha256(data).hexdigest()[:HEX_DIGITS] if data else "-"


def readable(exchange: Exchange) -> str:
    """Write an exchange out in full. The digests are of the exact bytes, whatever could not be shown as text."""
    sent = _shown(exchange.sent) if exchange.sent else "(nothing)\n"
    return (
        f"=== to the provider, sha256 {digest(exchange.sent)}\n{sent}"
        f"=== to the agent, sha256 {digest(exchange.received)}\n{_shown(exchange.received)}"
    )


def _shown(data: bytes) -> str:
    """Show bytes as text: CRLF in the head as a line's end, CR in the body as `␍`, no last LF as a remark."""
    head, separator, body = data.partition(b"\r\n\r\n")
    text = (head + separator).replace(b"\r\n", b"\n") + body.replace(b"\r", "␍".encode())
    shown = text.decode("utf-8", "backslashreplace")
    return shown if shown.endswith("\n") else f"{shown}\n\\ no newline at the end\n"


def differences(name: str, before: str, after: str) -> str:
    """Return a diff to be read; long lines of JSON are broken before each key."""
    lines = difflib.unified_diff(
        list(_broken(before)), list(_broken(after)), f"{name}, golden", f"{name}, now", n=1, lineterm=""
    )
    shown = list(lines)
    more = [f"... and {len(shown) - DIFF_LINES_MAX} lines more"] if len(shown) > DIFF_LINES_MAX else []
    return "\n".join([*shown[:DIFF_LINES_MAX], *more])


def _broken(text: str) -> Iterator[str]:
    for line in text.splitlines():
        yield from re.split(r'(?<=,)(?=")', line)
