"""Reads the headers of an agent's request, once, as far as the edge needs them."""

from collections.abc import Iterable
from typing import Final

from keyforge.edge.application.call import RequestHead

LENGTH_DIGITS_MAX: Final = 18
"""The parser refuses lengths over 64 bits, which have more digits, but accepts any number of zeros before one."""
_BEARER: Final = b"bearer "


def read_head(headers: Iterable[tuple[bytes, bytes]]) -> RequestHead:
    """Read the headers of a request; names in lower case. A bearer token takes precedence over `x-api-key`."""
    bearer = api_key = idempotency_key = b""
    content_length, expects = -1, False
    for name, value in headers:
        if name == b"authorization":
            if value[:7].lower() == _BEARER:
                bearer = value[7:].strip()
        elif name == b"x-api-key":
            api_key = value.strip()
        elif name == b"content-length":
            content_length = int(value) if value.isdigit() and len(value) <= LENGTH_DIGITS_MAX else -1
        elif name == b"idempotency-key":
            idempotency_key = value
        elif name == b"expect":
            expects = True
    return RequestHead(bearer or api_key, idempotency_key, content_length, expects)
