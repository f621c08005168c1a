"""How errors look in this dialect: a provider's whole one, and the event that ends a stream with one."""

import msgspec

from keyforge.contracts.unreadable import UNREADABLE


def is_error_body(body: bytes) -> bool:
    """Return whether a provider's error is a JSON object, which clients of this dialect can read."""
    try:
        msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except UNREADABLE:
        return False
    return True


def error_event(body: bytes) -> bytes:
    """Return the event of a stream that carries an error; `body` is JSON, between whose tokens a line may end."""
    return b"data: " + b" ".join(body.splitlines()) + b"\n\n"
