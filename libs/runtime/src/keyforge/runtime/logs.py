"""Structured logs: one JSON object per line on stderr, with everything that looks like a secret removed."""

import contextlib
import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, TextIO, cast

import structlog

REDACTED: Final = "[redacted]"
DEPTH_MAX: Final = 6
"""Deeper values are redacted as a whole. Chosen: twice the three levels that the deepest of our lines has."""

_SECRET: Final = re.compile(
    r"(?:vk|kfa)_[0-9A-Za-z]{8,}_[0-9A-Za-z]{8,}"  # our keys and tokens
    r"|\b(?:sk|gsk|pk|rk|xai)[-_][0-9A-Za-z_-]{12,}|\bAIza[0-9A-Za-z_-]{12,}"  # providers' credentials
    r"|(?i:\bbearer\s+)\S+|(?i:\bbasic\s+)[A-Za-z0-9+/=]{8,}"
    r"|(?<=://)[^/\s]+(?=@)"  # user and password, or a token, in a URL: up to the last @, which a password may contain
)
_FIELDS: Final = re.compile(
    r"(?i)secret|password|authorization|api[_-]?key|credential_text|token$|cookie|prompt|messages$"
)


def redact(value: Any, depth: int = 0) -> Any:
    """Return `value` without what looks like a secret, at any depth of mappings and sequences."""
    if isinstance(value, str):
        return _SECRET.sub(REDACTED, value)
    if isinstance(value, (bytes, bytearray)):
        return f"[{len(value)} bytes]"
    if depth >= DEPTH_MAX:
        return REDACTED
    if isinstance(value, Mapping):
        return {
            _SECRET.sub(REDACTED, str(name)): REDACTED if _FIELDS.search(str(name)) else redact(item, depth + 1)
            for name, item in value.items()
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        return [redact(item, depth + 1) for item in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return _SECRET.sub(REDACTED, str(value))


def _redacting(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> Mapping[str, Any]:
    cleaned: Mapping[str, Any] = redact(dict(line))
    return cleaned


class _Lines:
    """Stderr, where a line that cannot be written is lost, as with the standard library's handlers.

    A disk that is full, a collector whose end of the pipe has closed, or no stderr at all must not end what was to be
    logged: the step after a line may be the one that settles a request, or ends the service.
    """

    def __init__(self, stderr: TextIO | None) -> None:
        self._stderr = stderr

    def write(self, text: str) -> int:
        """Write a line, or lose it."""
        if self._stderr is not None:
            with contextlib.suppress(OSError):
                self._stderr.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush it, or lose it."""
        if self._stderr is not None:
            with contextlib.suppress(OSError):
                self._stderr.flush()


def configure(service: str, level: str) -> None:
    """Send structlog and the standard library's logging to stderr as JSON. Called once, by `__main__`."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _redacting,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _Lines(sys.stderr))),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _redacting,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(logging.getLevelNamesMapping()[level], logging.INFO))
    for noisy in ("httpx", "httpcore", "uvicorn.access", "nats"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def get(name: str) -> Any:
    """Return a logger; `name` is the part of the service that logs."""
    return structlog.get_logger().bind(part=name)
