"""ClickHouse's HTTP protocol for the embedded engine, read-only, as far as `clickhouse-connect` needs it.

    GET /ping                      Ok.
    GET or POST /?query=...        or the query as the body; `param_<name>` are its parameters

User and password come as Basic, as X-ClickHouse-User and -Key, or in the query string. Responses are not compressed
(it is a loopback port). Not supported: INSERT, sessions, external data, compressed bodies, progress headers.
"""

import base64
import binascii
import hmac
import json
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

from keyforge.audit.application.ports import QueryResult
from keyforge.audit.application.queries import Queries
from keyforge.audit.errors import QueryError
from keyforge.runtime.body import Message, Receive, Send

BODY_BYTES_MAX: Final = 1024 * 1024
"""Chosen: a query of the longest length that the gate accepts, in characters of four bytes."""
PARAMETERS_MAX: Final = 200
"""Fields of a query string. Chosen: halved, a query with a hundred parameters is refused; doubled, nothing is gained,
as a head has 32 KiB at most."""
DEFAULT_FORMAT: Final = "TabSeparated"

_TRANSPORT: Final = frozenset(
    """
    buffer_size cancel_http_readonly_queries_on_client_close client_protocol_version compress database decompress
    default_format enable_http_compression http_headers_progress_interval_ms password query query_id quota_key readonly
    role send_progress_in_http_headers session_check session_id session_timeout stacktrace user wait_end_of_query
    """.split()  # noqa: SIM905  # a list of words reads better as words
)
"""Fields that belong to the transport; all others that are no parameters are settings of the query."""
_STATUS: Final = {516: 401, 497: 403, 164: 403, 60: 404, 81: 404, 47: 404, 46: 404, 62: 400, 6: 400, 27: 400, 159: 408}
_STATUS_OTHER: Final = 500
_DENIED: Final = QueryError(
    "Code: 516. DB::Exception: Authentication failed: password is incorrect, or there is no user with such name."
    " (AUTHENTICATION_FAILED)"
)


class ClickHouseHttp:
    """The ASGI app."""

    def __init__(self, queries: Queries, *, user: str, password: str) -> None:
        self._queries = queries
        self._user = user.encode()
        self._password = password.encode()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        if scope["path"] == "/ping" and scope["method"] in ("GET", "HEAD"):
            await _send(send, 200, b"Ok.\n", [])
            return
        if scope["path"] != "/" or scope["method"] not in ("GET", "HEAD", "POST"):
            await _send(send, 404, b"Not found.\n", [])
            return
        try:
            fields = self._authenticated_fields(scope)
            sql = fields.get("query", "") + ("" if scope["method"] != "POST" else await _body(scope, receive))
            result = await self._run(sql, fields) if sql.strip() else QueryResult(b"Ok.\n", "", 0, 0)
        except QueryError as error:
            code = (b"x-clickhouse-exception-code", str(error.code).encode())
            await _send(send, _STATUS.get(error.code, _STATUS_OTHER), f"{error}\n".encode(), [code])
            return
        summary = json.dumps({"read_rows": str(result.rows), "elapsed_ns": str(result.elapsed_ns)})
        headers = [(b"x-clickhouse-summary", summary.encode()), (b"x-clickhouse-timezone", b"UTC")]
        if result.format:
            headers.append((b"x-clickhouse-format", result.format.encode()))
        await _send(send, 200, b"" if scope["method"] == "HEAD" else result.data, headers)

    def _authenticated_fields(self, scope: Message) -> dict[str, str]:
        """Return the fields of the query string once user and password are verified. Raises QueryError."""
        try:
            fields = dict(
                parse_qsl(scope["query_string"].decode(), keep_blank_values=True, max_num_fields=PARAMETERS_MAX)
            )
        except ValueError:
            raise QueryError(
                "Code: 36. DB::Exception: Malformed query string, or too many fields. (BAD_ARGUMENTS)"
            ) from None
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        user, password = _credentials(headers, fields)
        known = hmac.compare_digest(user.encode(), self._user) & hmac.compare_digest(password.encode(), self._password)
        if not known:
            raise _DENIED
        return fields

    async def _run(self, sql: str, fields: Mapping[str, str]) -> QueryResult:
        return await self._queries.run(
            sql,
            format_=fields.get("default_format", DEFAULT_FORMAT),
            parameters={name[6:]: value for name, value in fields.items() if name.startswith("param_")},
            settings={
                name: value
                for name, value in fields.items()
                if name not in _TRANSPORT and not name.startswith("param_")
            },
            database=fields.get("database", ""),
        )


def _credentials(headers: Mapping[str, str], fields: Mapping[str, str]) -> tuple[str, str]:
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            user, _, password = base64.b64decode(given, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise _DENIED from None
        return user, password
    if "x-clickhouse-user" in headers:
        return headers["x-clickhouse-user"], headers.get("x-clickhouse-key", "")
    return fields.get("user", ""), fields.get("password", "")


async def _body(scope: Message, receive: Receive) -> str:
    """Read the body, which is the rest of the query. Raises QueryError."""
    headers = dict(scope["headers"])
    if headers.get(b"content-type", b"").startswith(b"multipart/") or headers.get(b"content-encoding"):
        raise QueryError(
            "Code: 48. DB::Exception: External data and compressed bodies are not supported. (NOT_IMPLEMENTED)"
        )
    chunks: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise QueryError("Code: 210. DB::Exception: The client disconnected. (NETWORK_ERROR)")
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > BODY_BYTES_MAX:
            raise QueryError(f"Code: 62. DB::Exception: The body is longer than {BODY_BYTES_MAX} bytes. (SYNTAX_ERROR)")
        more = message.get("more_body", False)
    try:
        return b"".join(chunks).decode()
    except UnicodeDecodeError:
        raise QueryError("Code: 62. DB::Exception: The query is not valid UTF-8. (SYNTAX_ERROR)") from None


async def _send(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    common = [(b"content-type", b"text/plain; charset=UTF-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*common, *headers]})
    await send({"type": "http.response.body", "body": body})
