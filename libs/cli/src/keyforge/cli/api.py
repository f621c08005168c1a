"""How the command line calls a service: its address, our token, and what an unsuccessful response means."""

import json
import os
from collections.abc import Mapping
from typing import Any, Final, Literal, Self
from urllib.parse import urlsplit

import httpx

from keyforge.cli.errors import AnswerLostError, RefusedError, UnreachableError, UsageError
from keyforge.contracts import variables
from keyforge.contracts.urls import is_http, shown
from keyforge.embedded.home import Home, read_ready

TIMEOUT_S: Final = 30.0
"""Chosen: six times the 5 s that a response of audit may wait for what the log holds; the rest is for a slow
network."""
VERIFY_TIMEOUT_S: Final = 3600.0
"""Chosen: verifying a chain reads all of its records again. Measured: 7 us each once they are read, so 100 million take
12 minutes, and an hour leaves room for a slow store."""

_NOT_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol, httpx.LocalProtocolError)
"""Errors after which the service has not seen the request."""
_UNREADABLE: Final = (ValueError, TypeError, RecursionError)
"""Errors of reading a body that is not the JSON that is due."""
_GATEWAY: Final = frozenset({502, 504})
"""Statuses that no service of ours returns: a gateway lost the answer of the one that it had sent a request to."""
_FAULT: Final = 500
"""From here on a status says that something failed, perhaps after the change was made: only the error says what."""

Due = Mapping[str, type]
"""The fields without which a response is not that of the request, each with its type; a text is never empty."""

ServiceName = Literal["keys", "budget", "audit"]


class Api:
    """One service, called over HTTP. Created by `connect`."""

    def __init__(self, service: ServiceName, url: str, token: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self._service = service
        self._url = url
        try:
            self._client = httpx.Client(
                base_url=url, headers={"authorization": f"Bearer {token}"}, timeout=timeout_s, trust_env=False
            )
        except httpx.InvalidURL as error:
            raise UsageError(f"not a URL: {shown(url)}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, path: str, **query: Any) -> Any:
        """GET; query parameters that are None are omitted. Raises UnreachableError, RefusedError."""
        answer = self._send("GET", path, None, query)
        if not answer.is_success:
            raise refusal(answer.status_code, answer.content)
        try:
            return _object(answer.content)
        except _UNREADABLE as error:
            raise UnreachableError(f"the program that answers at {shown(self._url)} is not {self._service}") from error

    def post(self, path: str, body: Mapping[str, Any] | None = None, *, due: Due) -> dict[str, Any]:
        """POST; fields that are None are omitted."""
        return self._change("POST", path, body, due)

    def put(self, path: str, body: Mapping[str, Any], *, due: Due) -> dict[str, Any]:
        """PUT; fields that are None are omitted."""
        return self._change("PUT", path, body, due)

    def delete(self, path: str, *, due: Due) -> dict[str, Any]:
        """DELETE."""
        return self._change("DELETE", path, None, due)

    def _change(self, method: str, path: str, body: Mapping[str, Any] | None, due: Due) -> dict[str, Any]:
        """Send a change; return its response. Raises AnswerLostError for whatever leaves open whether it was made."""
        answer = self._send(method, path, body, {})
        status = answer.status_code
        foreign = f"the answer, {status}, is not one of {self._service}"
        if not answer.is_success:
            if status in _GATEWAY or (status >= _FAULT and _problem(answer.content) is None):
                raise self._lost(foreign)
            raise refusal(status, answer.content)
        try:
            found = _object(answer.content)
        except _UNREADABLE as error:
            raise self._lost(foreign) from error
        lacking = [name for name, kind in due.items() if not isinstance(found.get(name), kind) or found[name] == ""]
        if lacking:
            names = ", ".join(f"`{name}`" for name in lacking)
            raise self._lost(f"{foreign}: it lacks {names}")
        return found

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None, query: Mapping[str, Any]) -> httpx.Response:
        sent = {name: value for name, value in body.items() if value is not None} if body is not None else None
        params = {name: value for name, value in query.items() if value is not None}
        try:
            return self._client.request(method, path, json=sent, params=params)
        except httpx.HTTPError as error:
            if method != "GET" and not isinstance(error, _NOT_SENT):
                raise self._lost(f"it did not answer ({type(error).__name__})") from error
            raise UnreachableError(
                f"{self._service} at {shown(self._url)} does not answer ({type(error).__name__}); "
                "is `keyforge up` running?"
            ) from error
        except httpx.InvalidURL as error:
            raise UsageError(f"not a URL: {shown(self._url)}") from error

    def _lost(self, why: str) -> AnswerLostError:
        return AnswerLostError(
            f"{self._service} at {shown(self._url)} was asked, and {why}; the change may have been made"
        )


def _object(body: bytes) -> dict[str, Any]:
    found = json.loads(body)
    if not isinstance(found, dict):
        raise TypeError("each response is an object")
    return found


def refusal(status: int, body: bytes) -> RefusedError:
    """Return the error of a response in the shape of the catalogue; any other is named by its status."""
    found = _problem(body)
    if found is None:
        return RefusedError(f"the service answered {status}", type_=f"http_{status}", status=status)
    message, type_, param = found
    named = f"{message} ({param})" if param and f"`{param}`" not in message else message
    return RefusedError(named, type_=type_, status=status)


def _problem(body: bytes) -> tuple[str, str, Any] | None:
    """Return message, type and parameter of an error in the shape of the catalogue; None of anything else."""
    try:
        error = json.loads(body)["error"]
        return str(error["message"]), str(error["type"]), error.get("param")
    except (*_UNREADABLE, KeyError, AttributeError):
        return None


def connect(service: ServiceName, url: str | None, *, timeout_s: float = TIMEOUT_S) -> Api:
    """Find a service: `--url`, KEYFORGE_<SERVICE>_URL, or the stack that runs on this home.

    The home's own token is sent to the home's own stack only; any other needs KEYFORGE_ADMIN_TOKEN.
    Raises UnreachableError, UsageError.
    """
    named = url or os.environ.get(f"KEYFORGE_{service.upper()}_URL")
    token = _token_of_environment()
    home = Home.from_environment(os.environ)
    ready = read_ready(home.ready)
    if named is None:
        if ready is None:
            raise UnreachableError(
                f"no stack is ready on {home.path}; start it with `keyforge up`, "
                f"or give the address of the service with --url or KEYFORGE_{service.upper()}_URL"
            )
        named, token = str(ready[service]), token or str(ready["admin_token"])
    if _scheme(named) not in {"http", "https"}:
        raise UsageError(f"not an http(s) URL: {shown(named)}")
    if not is_http(named):
        raise UsageError(f"not a URL: {shown(named)}")
    if token is None and ready is not None and named.rstrip("/") == str(ready.get(service)):
        token = str(ready["admin_token"])
    if not token:
        raise UsageError(f"KEYFORGE_ADMIN_TOKEN is not set; {shown(named)} is not the stack of {home.path}")
    return Api(service, named, token, timeout_s=timeout_s)


def _token_of_environment() -> str | None:
    """Return KEYFORGE_ADMIN_TOKEN without blanks around it. Raises UsageError, whose text does not contain it."""
    if (nothing := variables.empty(os.environ, "KEYFORGE_ADMIN_TOKEN")) is not None:
        raise UsageError(nothing)
    token = os.environ.get("KEYFORGE_ADMIN_TOKEN", "").strip()
    if not all("!" <= character <= "~" for character in token):
        raise UsageError("KEYFORGE_ADMIN_TOKEN is not a token: it contains a blank or a character that is not ASCII")
    return token or None


def _scheme(url: str) -> str:
    try:
        return urlsplit(url).scheme
    except ValueError:
        return ""
