"""Reads the headers of an agent's request, once, as far as the edge needs them."""

from collections.abc import Mapping
from typing import Final

from keyforge.edge.application.call import RequestHead

LENGTH_DIGITS_MAX: Final = 18
"""The parser refuses lengths over 64 bits, which have more digits, but accepts any number of zeros before one."""
_BEARER: Final = b"bearer "


def read_head(fields: Mapping[bytes, bytes]) -> RequestHead:
    """Read the headers of a request; names in lower case.

    The key is the first there is of a bearer token, `x-api-key` (Anthropic's clients) and `api-key` (Azure's).
    """
    authorization, length = fields.get(b"authorization", b""), fields.get(b"content-length", b"")
    bearer = authorization[7:].strip() if authorization[:7].lower() == _BEARER else b""
    return RequestHead(
        bearer or fields.get(b"x-api-key", b"").strip() or fields.get(b"api-key", b"").strip(),
        fields.get(b"idempotency-key", b""),
        int(length) if length.isdigit() and len(length) <= LENGTH_DIGITS_MAX else -1,
        b"expect" in fields,
        fields[b"content-encoding"].strip().lower() if b"content-encoding" in fields else b"",
    )
