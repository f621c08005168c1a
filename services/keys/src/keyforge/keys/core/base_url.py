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
_ENDPOINT: Final = re.compile(
    r"(?P<base>.*?)/(?P<endpoint>(chat/)?completions|embeddings|responses|messages(/count_tokens)?|models|moderations|rerank"
    r"|images/(generations|edits|variations)|audio/(speech|transcriptions|translations))",
    re.IGNORECASE,
)
"""A path that ends in what the APIs of OpenAI, Anthropic, Cohere and those like them have below a base URL."""
_NUMERIC: Final = re.compile(r"(0x[0-9a-f]*|[0-9]+)")
_PRIVATE_SUFFIXES: Final = (".localhost", ".local", ".internal", ".home.arpa", ".lan", ".intranet", ".corp", ".test")


def base_url(text: str, *, allow_insecure: bool) -> str | Problem:
    """Return the URL as it is kept (lower-case host, no slash at the end), or what is wrong with it.

    `allow_insecure` permits http, loopback and private networks; never link-local addresses, where clouds keep
    the metadata that credentials are stolen from.
    """
    if len(text) > URL_CHARS_MAX:
        return _wrong(f"`base_url` must have at most {URL_CHARS_MAX} characters.")
    if "@" in text:
        return _wrong("`base_url` must not contain a user name or password.")
    if "?" in text or "#" in text:
        return _wrong("`base_url` must not contain a query or a fragment.")
    parts = _URL.fullmatch(text)
    if parts is None or not 0 < int(parts["port"] or 1) <= PORT_MAX:
        return _wrong(
            "`base_url` must be `https://host[:port][/path]`; the path may contain letters, digits and `. _ ~ -`."
        )
    scheme, host, path = parts["scheme"].lower(), parts["host"].lower().strip("[]").removesuffix("."), parts["path"]
    if scheme != "https" and not (allow_insecure and scheme == "http"):
        return _wrong("`base_url` must begin with `https://` (`http://` only with `allow_insecure`).")
    if any(part in (".", "..") for part in path.split("/")):
        return _wrong("The path of `base_url` must not contain `.` or `..` segments.")
    why = _why_not(host, allow_insecure=allow_insecure)
    if why is not None:
        return _wrong(why)
    shown = f"[{host}]" if ":" in host else host
    port = f":{int(parts['port'])}" if parts["port"] else ""
    base = f"{scheme}://{shown}{port}"
    return _without_endpoint(base, path) or base + path


def _without_endpoint(base: str, path: str) -> Problem | None:
    """Refuse the whole address of an endpoint, which is what many providers' pages show: edges add the endpoint, and
    would call one that does not exist."""
    found, right = "", path
    while (ends := _ENDPOINT.fullmatch(right)) is not None:
        found, right = found or ends["endpoint"], ends["base"]
    if not found:
        return None
    return _wrong(f"`base_url` must not end in `/{found}`, which edges add themselves: use `{base}{right}`.")


def _why_not(host: str, *, allow_insecure: bool) -> str | None:
    try:
        address = ip_address(host)
    except ValueError:
        return _why_not_name(host, allow_insecure=allow_insecure)
    found = addresses.classify(address)
    if found == "forbidden":
        return "The host of `base_url` must not be a link-local, multicast, unspecified or metadata address."
    if found == "private" and not allow_insecure:
        return "The host of `base_url` must be a public address unless `allow_insecure` is set."
    return None


def _why_not_name(host: str, *, allow_insecure: bool) -> str | None:
    if not _NAME.fullmatch(host):
        return "The host of `base_url` must be a valid host name or IP address."
    if _NUMERIC.fullmatch(host.rsplit(".", 1)[-1]):
        return "An IPv4 address in `base_url` must be four decimal numbers."
    private = "." not in host or host.endswith(_PRIVATE_SUFFIXES)
    if private and not allow_insecure:
        return "The host of `base_url` must not be a name of a private network unless `allow_insecure` is set."
    return None


def _wrong(message: str) -> Problem:
    return problem("request_invalid", message, param="base_url")
