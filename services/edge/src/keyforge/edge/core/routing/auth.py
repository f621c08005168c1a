"""Which header line carries a credential to a provider."""

from collections.abc import Callable, Mapping
from typing import Final

from keyforge.contracts.providers import Auth

Line = tuple[bytes, bytes]

_LINES: Final[Mapping[Auth, Callable[[bytes], Line]]] = {
    "bearer": lambda secret: (b"authorization", b"Bearer " + secret),
    "x-api-key": lambda secret: (b"x-api-key", secret),
    "api-key": lambda secret: (b"api-key", secret),
}


def line_of(auth: str, secret: bytes) -> Line | None:
    """Return the header line; None: a way of authentication that this version does not know."""
    how = _LINES.get(auth)  # type: ignore[call-overload]  # any word, as a later version of `keys` may write one
    return how(secret) if how else None
