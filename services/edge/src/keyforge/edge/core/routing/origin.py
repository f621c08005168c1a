"""Where a provider is called: an operator's base URL, split into what to connect to and the path before each route."""

import re
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec

_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|[0-9a-fA-F:.]{2,45}")
_TARGET: Final = re.compile(r"/[!-~]{0,2047}")
_PORTS: Final = {"https": 443, "http": 80}


class Origin(msgspec.Struct, frozen=True, cache_hash=True):
    """Where a provider listens.

    `allow_insecure` permits plain http and private addresses; TLS, where spoken, is always verified.
    """

    scheme: Literal["https", "http"]
    host: str
    port: int
    allow_insecure: bool = False

    def __post_init__(self) -> None:
        if self.scheme not in ("https", "http") or not _HOST.fullmatch(self.host) or not 0 < self.port < 65536:
            raise ValueError("not an origin")
        if self.scheme == "http" and not self.allow_insecure:
            raise ValueError("an http origin needs allow_insecure")

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


class ProviderAddress(msgspec.Struct, frozen=True):
    """A provider's origin, and the path before its routes."""

    origin: Origin
    prefix: str


def parse_base_url(url: str, *, allow_insecure: bool = False) -> ProviderAddress:
    """Split an operator's base URL; the prefix has no slash at its end. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("a base URL is scheme, host, port and path only")
    scheme: Literal["https", "http"] = "https" if parts.scheme == "https" else "http"
    prefix = parts.path.rstrip("/")
    check_target(prefix + "/")
    port = _PORTS[scheme] if parts.port is None else parts.port
    return ProviderAddress(Origin(scheme, parts.hostname, port, allow_insecure), prefix)


def check_target(target: str) -> None:
    """Raise ValueError unless `target` is a path (with query) that can stand in a request line."""
    if not _TARGET.fullmatch(target):
        raise ValueError("not a request target")
