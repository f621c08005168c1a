"""Which web pages may call the agents' API, by the CORS protocol of the Fetch standard (https://fetch.spec.whatwg.org).

A browser asks first (a preflight: OPTIONS with the method and the headers that a page would send), and shows a page no
answer that does not allow its origin. That protects users of browsers and not the edge: every request still needs a
key. Credentials of a browser, such as cookies, are never allowed; no answer depends on any.
"""

import re
from collections.abc import Iterable
from typing import Final

import msgspec

Headers = list[tuple[bytes, bytes]]

ANY: Final = "*"
"""Stands for all origins."""
FORM: Final = (
    "must be `*`, or origins as browsers send them, separated by commas: scheme://host[:port] in lower case, without a "
    "path, a slash at the end or the scheme's own port, such as https://app.example.com"
)
"""What the setting may be."""
MAX_AGE_S: Final = 7200
"""How long a browser may remember the answer to a preflight. Chosen: the most that Chromium does (two hours)."""

ALLOWED: Final = re.compile(
    rb"authorization|x-api-key|api-key|idempotency-key|accept|content-type|content-encoding|cache-control|user-agent"
    rb"|x-request-id|x-requested-with|http-referer|x-title|traceparent|tracestate|baggage"
    rb"|(?:x-stainless|openai|anthropic|x-openrouter)-[a-z0-9-]+"
)
"""The headers that a page may send, in lower case: ours, and what the official clients of OpenAI, Azure, Anthropic and
OpenRouter and those of OpenTelemetry send. A wildcard would not allow `authorization`."""
EXPOSED: Final = (
    "x-request-id",
    "request-id",
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
    "x-keyforge-error",
    "x-keyforge-ignored",
    "x-keyforge-max-output-tokens",
)
"""The headers of answers that a page may read, besides those that it always may."""

_PORT_MAX: Final = 65_535
"""A port has 16 bits (RFC 9293)."""
_ORIGIN: Final = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(?::(?P<port>[1-9][0-9]{0,4}))?"
)
_OWN_PORTS: Final = {("http", "80"), ("https", "443")}
_EXPOSE: Final = (b"access-control-expose-headers", ", ".join(EXPOSED).encode())
_VARY: Final = (b"vary", b"origin")


class Cors(msgspec.Struct, frozen=True):
    """The origins that are allowed; None: all of them."""

    origins: frozenset[bytes] | None

    def of_answer(self, origin: bytes) -> Headers:
        """Return what every answer carries; `origin`: the request's, empty if it has none.

        It says to caches that it differs by origin even where none was sent: a page may be shown it later.
        """
        if self.origins is None:
            return [(b"access-control-allow-origin", b"*"), _EXPOSE, _VARY]
        return [(b"access-control-allow-origin", origin), _EXPOSE, _VARY] if origin in self.origins else [_VARY]

    def allows(self, origin: bytes) -> bool:
        """Return whether a page of this origin may call."""
        return bool(origin) and (self.origins is None or origin in self.origins)


def of_preflight(methods: Iterable[str], asked: bytes) -> Headers:
    """Return what the answer to a preflight of an origin that is allowed has besides `Cors.of_answer`.

    `asked`: the headers that the page would send; those that are not allowed are left out, and the browser names them.
    """
    names = [name.strip().lower() for name in asked.split(b",")]
    return [
        (b"access-control-allow-methods", ", ".join(methods).encode()),
        (b"access-control-allow-headers", b", ".join(name for name in names if ALLOWED.fullmatch(name))),
        (b"access-control-max-age", b"%d" % MAX_AGE_S),
    ]


def parse(text: str) -> Cors | None:
    """Read the setting; empty: None, no page of another origin may call. Raises ValueError with what it may be."""
    if not text:
        return None
    if text == ANY:
        return Cors(None)
    origins = [one.strip() for one in text.split(",")]
    for origin in origins:
        parts = _ORIGIN.fullmatch(origin)
        if parts is None or (parts["scheme"], parts["port"]) in _OWN_PORTS or int(parts["port"] or 1) > _PORT_MAX:
            raise ValueError(FORM)
    return Cors(frozenset(origin.encode() for origin in origins))
