"""Every error that the outside can see: a stable type, its status, whether waiting a minute may lift it, its text.

    {"error": {"code": <HTTP status>, "type": "<stable type>", "message": ..., "param": ..., "metadata": {...}}}

Whatever `retry` says no to carries `x-should-retry: false`, which the official clients obey. A public text never holds
a secret, a path, an address or a stack; what only our log may say is said there.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec


class ErrorType(msgspec.Struct, frozen=True):
    """One kind of error."""

    type: str
    status: int
    retry: bool
    message: str


class Problem(msgspec.Struct, frozen=True):
    """An error that is to be answered: its kind, and what is particular to this case (public, all of it)."""

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
        """Return the headers that go with it, beside content-type and the request id."""
        headers = [] if self.kind.retry else [("x-should-retry", "false")]
        if self.retry_after_s:
            headers.append(("retry-after", str(self.retry_after_s)))
        return headers


_ENCODER: Final = msgspec.json.Encoder()

_ALL: Final = (
    # who calls
    ErrorType("key_missing", 401, retry=False, message="No key: send `Authorization: Bearer vk_...` or `x-api-key`."),
    ErrorType("key_invalid", 401, retry=False, message="This key is not known."),
    ErrorType("key_revoked", 401, retry=False, message="This key was revoked."),
    ErrorType("key_expired", 401, retry=False, message="This key has expired."),
    ErrorType("token_missing", 401, retry=False, message="No operator's token: send `Authorization: Bearer kfa_...`."),
    ErrorType("token_invalid", 401, retry=False, message="This operator's token is not known."),
    ErrorType("token_revoked", 401, retry=False, message="This operator's token was revoked."),
    ErrorType("forbidden", 403, retry=False, message="This token may not do that."),
    ErrorType("tenant_suspended", 403, retry=False, message="The tenant of this key is suspended."),
    ErrorType("key_killed", 403, retry=False, message="This key was stopped by its operators."),
    # what is asked
    ErrorType("route_unknown", 404, retry=False, message="There is no such route."),
    ErrorType("method_not_allowed", 405, retry=False, message="This route does not take that method."),
    ErrorType("body_too_large", 413, retry=False, message="The body is larger than this gateway takes."),
    ErrorType("body_incomplete", 400, retry=False, message="The body ended early or came too slowly."),
    ErrorType("json_invalid", 400, retry=False, message="The body is not JSON."),
    ErrorType("json_duplicate_key", 400, retry=False, message="The body holds the same key twice in one object."),
    ErrorType("json_too_deep", 400, retry=False, message="The body is nested too deeply."),
    ErrorType("request_invalid", 400, retry=False, message="A field has the wrong type or value."),
    ErrorType("field_unsupported", 400, retry=False, message="This field is not supported, and could cost money."),
    ErrorType("unbounded_content", 400, retry=False, message="The cost of this content cannot be bounded beforehand."),
    ErrorType("model_unknown", 404, retry=False, message="This model is not known."),
    ErrorType(
        "model_ambiguous", 400, retry=False, message="More than one provider has this model: say `provider/model`."
    ),
    ErrorType("model_forbidden", 403, retry=False, message="This key may not use that model."),
    ErrorType(
        "model_frozen",
        403,
        retry=False,
        message="This model is frozen for the tenant: a provider billed more than was reserved.",
    ),
    ErrorType("price_unknown", 400, retry=False, message="This model has no price, so its cost cannot be bounded."),
    ErrorType("context_exceeded", 400, retry=False, message="The request does not fit the model's context window."),
    ErrorType("idempotency_conflict", 409, retry=False, message="This Idempotency-Key was used before."),
    ErrorType("not_found", 404, retry=False, message="There is no such thing."),
    ErrorType("already_exists", 409, retry=False, message="This id is taken."),
    ErrorType("conflict", 409, retry=True, message="This was changed by somebody else at the same moment."),
    ErrorType("already_revoked", 409, retry=False, message="This is revoked, which is for good: it cannot be changed."),
    ErrorType("last_admin", 409, retry=False, message="This is the last platform admin: nobody could make another."),
    ErrorType("plan_exceeded", 403, retry=False, message="The tenant's plan does not allow more."),
    # limits
    ErrorType("budget_exceeded", 402, retry=False, message="The worst case of this request does not fit the budget."),
    ErrorType("rate_limited", 429, retry=True, message="The limit on requests is reached."),
    ErrorType("tokens_limited", 429, retry=True, message="The limit on tokens is reached."),
    ErrorType("concurrency_limited", 429, retry=True, message="Too many requests of this key are open."),
    ErrorType("quota_exceeded", 429, retry=False, message="A limit is reached that a minute will not lift."),
    ErrorType("edge_busy", 503, retry=True, message="This edge is at its bound of open requests."),
    # the log and its owners
    ErrorType("owner_unavailable", 503, retry=True, message="Nobody can admit requests right now."),
    ErrorType("log_unavailable", 503, retry=True, message="The log cannot be written right now."),
    ErrorType("log_full", 503, retry=True, message="The log is full; its operators must make room."),
    ErrorType("clock_skew", 503, retry=True, message="The clocks of the gateway disagree."),
    ErrorType("policy_unavailable", 503, retry=True, message="The key's policy cannot be read right now."),
    ErrorType("stale_policy", 503, retry=True, message="The key's policy changed while the request was made."),
    ErrorType("request_cancelled", 503, retry=True, message="The request was given up before it was admitted."),
    ErrorType("not_ready", 503, retry=True, message="The gateway is starting or stopping."),
    ErrorType("not_stored_yet", 503, retry=True, message="The log holds messages that are not stored yet."),
    ErrorType("store_unavailable", 503, retry=True, message="The store of records cannot be read right now."),
    # the provider
    ErrorType("no_credential", 503, retry=True, message="No credential of the provider can be used right now."),
    ErrorType("upstream_refused", 502, retry=True, message="The provider could not be reached."),
    ErrorType(
        "upstream_address_forbidden",
        502,
        retry=False,
        message="The provider's address is not one this gateway may call.",
    ),
    ErrorType("upstream_tls", 502, retry=False, message="The provider's certificate could not be verified."),
    ErrorType("upstream_timeout", 504, retry=False, message="The provider did not answer in time."),
    ErrorType("upstream_cut", 502, retry=False, message="The provider's answer ended early."),
    ErrorType("upstream_malformed", 502, retry=False, message="The provider's answer could not be read."),
    ErrorType(
        "upstream_redirect",
        502,
        retry=False,
        message="The provider answered with a redirect; redirects are not followed.",
    ),
    ErrorType("upstream_header_too_large", 502, retry=False, message="The provider's answer has too large a header."),
    ErrorType(
        "upstream_body_too_large", 502, retry=False, message="The provider's answer is larger than this gateway takes."
    ),
    ErrorType("upstream_rate_limited", 429, retry=True, message="Every credential of the provider is rate limited."),
    ErrorType("upstream_error", 502, retry=False, message="The provider answered with an error."),
    ErrorType("upstream_auth", 502, retry=False, message="The provider refused the gateway's credential."),
    ErrorType(
        "stream_over_reservation", 502, retry=False, message="The stream was cut: it went past what was reserved."
    ),
    ErrorType("stream_over_deadline", 504, retry=False, message="The stream was cut: its deadline passed."),
    ErrorType("stream_revoked", 401, retry=False, message="The stream was cut: its key was revoked."),
    ErrorType("internal", 500, retry=False, message="Something went wrong in the gateway."),
)

CATALOGUE: Final[dict[str, ErrorType]] = {kind.type: kind for kind in _ALL}
"""Every error there is, by its type."""


def problem(type_: str, message: str = "", **particulars: Any) -> Problem:
    """Make a problem of a catalogued type. Raises KeyError for a type that is not in the catalogue."""
    return Problem(CATALOGUE[type_], message, **particulars)
