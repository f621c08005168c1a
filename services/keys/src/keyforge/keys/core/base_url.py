"""What a provider's base URL may be. It is an operator's setting and still an attack surface: it decides where
credentials are sent. Edges check what a name resolves to, each time they connect; here the text itself is checked.
"""

import re
from ipaddress import ip_address
from typing import Final

from keyforge.contracts.errors import Problem, problem
from keyforge.net import addresses

URL_CHARS_MAX: Final = 512
"""A name has 253 at most (`_NAME`), so half of this is left for the path."""
PORT_MAX: Final = 65_535
"""A port has 16 bits (RFC 9293)."""

_URL: Final = re.compile(
    r"(?P<scheme>[A-Za-z]+)://(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>(?:/[A-Za-z0-9._~-]+)*)/?"
)
_NAME: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
_NUMERIC: Final = re.compile(r"(0x[0-9a-f]*|[0-9]+)")
_PRIVATE_SUFFIXES: Final = (".localhost", ".local", ".internal", ".home.arpa", ".lan", ".intranet", ".corp", ".test")


def base_url(text: str, *, allow_insecure: bool) -> str | Problem:
    """Return the URL as it is kept (lower-case host, no slash at the end), or what is wrong with it.

    `allow_insecure` permits http, loopback and private networks; never link-local addresses, where clouds keep
    the metadata that credentials are stolen from.
    """
    if len(text) > URL_CHARS_MAX:
        return _wrong(f"A base URL has at most {URL_CHARS_MAX} characters.")
    if "@" in text:
        return _wrong("A base URL holds no user and no password: add a credential instead.")
    if "?" in text or "#" in text:
        return _wrong("A base URL has no query and no fragment.")
    parts = _URL.fullmatch(text)
    if parts is None or not 0 < int(parts["port"] or 1) <= PORT_MAX:
        return _wrong("A base URL is https://, a host, perhaps a port and a path of letters, digits and . _ ~ - alone.")
    scheme, host, path = parts["scheme"].lower(), parts["host"].lower().strip("[]").removesuffix("."), parts["path"]
    if scheme != "https" and not (allow_insecure and scheme == "http"):
        return _wrong("A base URL begins with https:// (http:// only with allow_insecure).")
    if any(part in (".", "..") for part in path.split("/")):
        return _wrong("The path of a base URL says where it leads, without dots.")
    why = _why_not(host, allow_insecure=allow_insecure)
    if why is not None:
        return _wrong(why)
    shown = f"[{host}]" if ":" in host else host
    port = f":{int(parts['port'])}" if parts["port"] else ""
    return f"{scheme}://{shown}{port}{path}"


def _why_not(host: str, *, allow_insecure: bool) -> str | None:
    try:
        address = ip_address(host)
    except ValueError:
        return _why_not_name(host, allow_insecure=allow_insecure)
    found = addresses.classify(address)
    if found == "forbidden":
        return "Link-local, multicast, unspecified and metadata addresses are never called."
    if found == "private" and not allow_insecure:
        return "This address is not a public one (allow_insecure permits it)."
    return None


def _why_not_name(host: str, *, allow_insecure: bool) -> str | None:
    if not _NAME.fullmatch(host):
        return "This is not a host name."
    if _NUMERIC.fullmatch(host.rsplit(".", 1)[-1]):
        return "An address is written as four decimal numbers."
    private = "." not in host or host.endswith(_PRIVATE_SUFFIXES)
    if private and not allow_insecure:
        return "This is a name of a private network (allow_insecure permits it)."
    return None


def _wrong(message: str) -> Problem:
    return problem("request_invalid", message, param="base_url")
