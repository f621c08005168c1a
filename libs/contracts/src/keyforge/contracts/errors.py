"""Every error that a caller can receive: a stable type, its status, whether a later retry may succeed, and a text.

    {"error": {"code": <HTTP status>, "type": "<stable type>", "message": ..., "param": ..., "metadata": {...}}}

An error without `retry` carries `x-should-retry: false`, which the official clients obey. A public text never contains
a secret, a path, an address or a stack trace: those belong into our own log.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec


class ErrorType(msgspec.Struct, frozen=True):
    """One kind of error."""

    type: str
    status: int
    retry: bool
    """Whether the same request may succeed within about a minute: what the official clients wait."""
    message: str
    retry_after_s: int = 0
    """When a retry may succeed, where that is a matter of the kind and not of the case."""


@dataclass(frozen=True, slots=True)
class Problem:
    """An error to answer with: its kind, and the particulars of this case, all of them public.

    No struct of msgspec: a request asks a dozen times whether it has become one, and `isinstance` takes half as long.
    """

    kind: ErrorType
    message: str = ""
    param: str | None = None
    metadata: Mapping[str, Any] | None = None
    retry_after_s: int = 0

    def body(self) -> bytes:
        """Return the JSON body."""
        return _ENCODER.encode(
            {
                "error": {
                    "code": self.kind.status,
                    "type": self.kind.type,
                    "message": self.message or self.kind.message,
                    "param": self.param,
                    "metadata": dict(self.metadata or {}),
                }
            }
        )

    def headers(self) -> list[tuple[str, str]]:
        """Return its headers, without content-type and the request id."""
        headers = [] if self.kind.retry else [("x-should-retry", "false")]
        if retry_after_s := self.retry_after_s or self.kind.retry_after_s:
            headers.append(("retry-after", str(retry_after_s)))
        return headers


_ENCODER: Final = msgspec.json.Encoder()


def _permanent(type_: str, status: int, message: str) -> ErrorType:
    return ErrorType(type_, status, retry=False, message=message)


def _transient(type_: str, status: int, message: str, retry_after_s: int = 0) -> ErrorType:
    return ErrorType(type_, status, retry=True, message=message, retry_after_s=retry_after_s)


LOG_RETRY_S: Final = 2
"""The `retry-after` of what waits for a log or its owner. Chosen: a takeover after a handover takes less than one, one
after a crash 6 s, a new leader of a log 4 to 9 s: halved, clients ask in vain twice as often; doubled, they wait longer
than the whole of most handovers."""
_LISTED: Final = "`GET /v1/models` lists what this key can call."


_ALL: Final = (
    # the caller
    _permanent("key_missing", 401, "No key was sent: use `Authorization: Bearer vk_...`, `x-api-key` or `api-key`."),
    _permanent("key_invalid", 401, "The key is malformed or unknown."),
    _permanent("key_revoked", 401, "The key has been revoked."),
    _permanent("key_expired", 401, "The key has expired."),
    _permanent("token_missing", 401, "No operator token was sent: use `Authorization: Bearer kfa_...`."),
    _permanent("token_invalid", 401, "The operator token is malformed or unknown."),
    _permanent("token_revoked", 401, "The operator token has been revoked."),
    _permanent("forbidden", 403, "The role of this operator token does not permit this operation."),
    _permanent("tenant_suspended", 403, "The tenant of this key is suspended."),
    _permanent("key_killed", 403, "The key was stopped by an operator."),
    # the request
    _permanent("http_invalid", 400, "The request is not valid HTTP."),
    _permanent("transfer_coding_unsupported", 501, "The only transfer coding that is supported is `chunked`."),
    _permanent("pipeline_too_long", 400, "Too many requests of this connection wait for an answer."),
    _permanent("route_unknown", 404, "This route does not exist."),
    _permanent("method_not_allowed", 405, "This route does not accept this method."),
    _permanent("body_too_large", 413, "The request body is larger than `metadata.body_bytes_max`."),
    _permanent("body_incomplete", 400, "The request body ended early or arrived too slowly."),
    _permanent("encoding_unsupported", 415, "The `Content-Encoding` of the request body is not supported."),
    _permanent("encoding_invalid", 400, "The request body is not encoded as its `Content-Encoding` says."),
    _permanent("json_invalid", 400, "The request body must be valid JSON in UTF-8."),
    _permanent("json_duplicate_key", 400, "The request body contains an object with a duplicate key."),
    _permanent("json_too_deep", 400, "The request body is nested too deeply."),
    _permanent("request_invalid", 400, "A field has an invalid type or value."),
    _permanent("field_unsupported", 400, "This field is not supported: its effect on the cost is not known."),
    _permanent("unbounded_content", 400, "The cost of this content cannot be bounded in advance."),
    _permanent("model_unknown", 404, f"No registered provider has this model. {_LISTED}"),
    _permanent("model_ambiguous", 400, "More than one provider has this model: use `provider/model`."),
    _permanent("model_forbidden", 403, "The policy of this key does not include this model."),
    _permanent("model_frozen", 403, "This model is frozen for the tenant: a provider billed more than was reserved."),
    _permanent("price_unknown", 400, f"No price is known for a model of this name: its cost is unbounded. {_LISTED}"),
    _permanent("endpoint_unsupported", 400, "The provider of this model does not serve this endpoint."),
    _permanent("context_exceeded", 400, "The request does not fit into the context window of the model."),
    _permanent("idempotency_conflict", 409, "This `Idempotency-Key` has already been used."),
    _permanent("not_found", 404, "Not found."),
    _permanent("already_exists", 409, "This id is already in use."),
    _transient("conflict", 409, "Another request changed this at the same time."),
    _permanent("already_revoked", 409, "This has been revoked, which is final: it cannot be changed."),
    _permanent("tenant_forgotten", 409, "The secret of this tenant was destroyed: no name can be stored any more."),
    _permanent("last_admin", 409, "The last active `platform-admin` token cannot be revoked."),
    _permanent("plan_exceeded", 403, "The plan of the tenant does not allow more."),
    # limits
    _permanent("budget_exceeded", 402, "The worst case of this request exceeds what remains of a limit on usd."),
    _transient("rate_limited", 429, "A limit on requests has been reached."),
    _transient("tokens_limited", 429, "A limit on tokens has been reached."),
    _transient("concurrency_limited", 429, "A limit on concurrent requests has been reached."),
    _permanent("quota_exceeded", 429, "A limit has been reached, and its window does not end soon."),
    _transient("edge_busy", 503, "This edge has reached its limit of open requests."),
    # the event log, its owners and its projections
    _transient("owner_unavailable", 503, "No budget process can admit requests of this tenant now.", LOG_RETRY_S),
    _transient("log_unavailable", 503, "The event log cannot be written right now.", LOG_RETRY_S),
    _transient("log_full", 503, "The event log is full: an operator must raise its size."),
    _permanent("fold_halted", 503, "The event log has an event that this version cannot read: it accepts no changes."),
    _transient("clock_skew", 503, "The clocks of the gateway differ too much."),
    _transient("policy_unavailable", 503, "The policy of the key or token cannot be read right now."),
    _transient("stale_policy", 503, "The policy of the key changed while the request was processed."),
    _transient("request_cancelled", 503, "The request was cancelled before it was admitted."),
    _transient("not_ready", 503, "The service is starting or stopping."),
    _transient("shutting_down", 503, "The service had to end before the request was answered.", 1),
    _transient("not_stored_yet", 503, "The event log contains messages that are not stored yet."),
    _permanent("evidence_disagrees", 503, "What is stored of a log differs from the log: see `metadata`."),
    _permanent("rebuild_refused", 409, "The rebuild was not started."),
    _transient("store_unavailable", 503, "The store of records cannot be read right now."),
    # the provider
    _transient("no_credential", 503, "No credential of the provider can be used right now."),
    _transient("upstream_refused", 502, "The provider could not be reached."),
    _permanent("upstream_address_forbidden", 502, "The address of the provider is not allowed by this gateway."),
    _permanent("upstream_tls", 502, "The TLS certificate of the provider could not be verified."),
    _permanent("upstream_timeout", 504, "The provider did not answer in time."),
    _permanent("upstream_cut", 502, "The answer of the provider ended early."),
    _permanent("upstream_malformed", 502, "The answer of the provider could not be parsed."),
    _permanent("upstream_redirect", 502, "The provider answered with a redirect; redirects are not followed."),
    _permanent("upstream_header_too_large", 502, "The header of the provider's answer is too large."),
    _permanent("upstream_body_too_large", 502, "The body of the provider's answer is too large."),
    _transient("upstream_rate_limited", 429, "Every credential of the provider is rate limited."),
    _permanent("upstream_error", 502, "The provider answered with an error."),
    _permanent("upstream_auth", 502, "The provider rejected the credential of the gateway."),
    _permanent("stream_over_reservation", 502, "The stream was cut: its usage exceeded the reservation."),
    _permanent("stream_over_deadline", 504, "The stream was cut: its deadline has passed."),
    _permanent("stream_revoked", 401, "The stream was cut: its key has been revoked."),
    _permanent("internal", 500, "Internal error of the gateway."),
)

CATALOGUE: Final[dict[str, ErrorType]] = {kind.type: kind for kind in _ALL}
"""Every error, by its type."""

LOG_FULL_RETRY_S: Final = 30
"""What a caller is asked to wait while a log is full. Chosen: half of the minute that the official clients wait at
most; an operator takes minutes, and what is asked meanwhile costs the log nothing."""


def problem(type_: str, message: str = "", **particulars: Any) -> Problem:
    """Return a problem of a type of the catalogue. Raises KeyError for any other type."""
    return Problem(CATALOGUE[type_], message, **particulars)


def log_full(stream: str) -> Problem:
    """Return the problem of a log that takes nothing more, by the name of its stream."""
    message = f"The event log {stream} is full: an operator must raise its size."
    return problem("log_full", message, metadata={"stream": stream}, retry_after_s=LOG_FULL_RETRY_S)


def not_found(what: str) -> Problem:
    """Return the problem of an object that is not there, such as a `tenant`."""
    return problem("not_found", f"{what.capitalize()} not found.")
