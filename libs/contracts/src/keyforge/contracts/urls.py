"""Addresses in settings: read in one way, and shown without the user and the password in them."""

import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

_USER: Final = re.compile(r"(?<=://).*@", re.DOTALL)


def split(url: str) -> SplitResult:
    """Return the parts of an address that can be connected to: it has a host, and its port is a number.

    Raises ValueError, whose text shows nothing of it, also for a blank or a line end, which `urlsplit` would leave out
    and so read another address, and for a host that no name server can be asked for: a label has 1 to 63 characters.
    """
    if not url.isprintable() or " " in url:
        raise ValueError("there is a blank or a control character in it")
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:  # its text may show the whole address
        raise ValueError("its host cannot be read") from None
    if not host:
        raise ValueError("it has no host")
    try:
        host.encode("idna")  # what getaddrinfo does with it
    except UnicodeError:
        raise ValueError("its host is not a name: a label has 1 to 63 characters") from None
    try:
        number = parts.port
    except ValueError:  # its text would show a part of a password that contains a slash
        raise ValueError("its port is not a number up to 65535") from None
    if number == 0:
        raise ValueError("its port is 0")
    return parts


def is_http(url: str) -> bool:
    """Return whether this is an address that can be connected to by HTTP."""
    try:
        return split(url.strip()).scheme in {"http", "https"}
    except ValueError:
        return False


def shown(url: str) -> str:
    """Return an address as it may be shown: without all that is before its last `@`, be it a part of a password."""
    return _USER.sub("", url, count=1)
