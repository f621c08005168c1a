"""Errors as providers document and send them: whose fault, which status, whose words, how long to wait, what it cost.

Bodies are those of the providers' documentation and of public reports; where a row is of no provider that we ship, it
stands for the many that are reached as `openai-compatible`.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyforge.edge.core.dialects.blame import Blame
from keyforge.edge.core.dialects.failure import Failure, failure_of
from keyforge.edge.core.dialects.provider_error import error_in, error_of
from keyforge.edge.core.dialects.quirks import quirks_of
from keyforge.edge.core.dialects.waits import duration_s, said_s, wait_s

NOW = datetime(2030, 1, 1, tzinfo=UTC)


class Row(NamedTuple):
    """`words`: a part of what the agent reads."""

    kind: str
    head: int
    body: Any
    status: int
    blame: Blame
    words: str
    wait_s: float | None = None
    headers: Mapping[str, str] = MappingProxyType({})

    @property
    def readable(self) -> bool:
        """Whether the agent reads the provider's own JSON: it has what clients of OpenAI look for."""
        return isinstance(self.body, dict) and isinstance(self.body.get("error"), dict)


def openai(message: str, code: str | None = None, type_: str = "invalid_request_error") -> dict[str, Any]:
    return {"error": {"message": message, "type": type_, "param": None, "code": code}}


def google(code: int, message: str, status: str, *details: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"error": {"code": code, "message": message, "status": status, "details": list(details)}}]


def anthropic(type_: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": type_, "message": message}, "request_id": "req_1"}


CTX = "This model's maximum context length is 8192 tokens."
ROWS = [
    # OpenAI: its guide on error codes
    Row("openai", 400, openai(CTX, "context_length_exceeded"), 400, "request", "maximum context"),
    Row("openai", 404, openai("The model `x` does not exist", "model_not_found"), 404, "request", "does not exist"),
    Row("openai", 401, openai("Incorrect API key provided: sk-x.", "invalid_api_key"), 401, "credential", ""),
    Row("openai", 403, openai("Country, region, or territory not supported", "unsupported_country_region_territory"),
        403, "request", "not supported"),
    Row("openai", 429, openai("Rate limit reached for gpt-4o in organization org-x on requests per min (RPM): Limit 3, "
        "Used 3, Requested 1. Please try again in 20s.", "rate_limit_exceeded", "requests"), 429, "quota", "Rate limit",
        20.0),
    Row("openai", 429, openai("Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 34000.",
        "rate_limit_exceeded", "tokens"), 429, "size", "too large"),
    Row("openai", 429, openai("You exceeded your current quota, please check your plan and billing details.",
        "insufficient_quota", "insufficient_quota"), 429, "account", "quota"),
    Row("openai", 429, openai("Limit", "rate_limit_exceeded"), 429, "quota", "Limit", 23.0,
        {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "23s",
         "x-ratelimit-remaining-tokens": "900", "x-ratelimit-reset-tokens": "6m0s"}),
    Row("openai", 500, openai("The server had an error", None, "server_error"), 500, "provider", "server had"),
    Row("openai", 503, openai("The engine is overloaded", None, "server_error"), 503, "provider", "overloaded", 7.0,
        {"retry-after": "7"}),
    Row("openai", 400, openai("Your request was rejected by the safety system.", "content_policy_violation"), 400,
        "request",
        "safety"),
    # Azure: learn.microsoft.com, content filtering
    Row("azure", 400, {"error": {"message": "The response was filtered due to the prompt triggering Azure "
        "OpenAI's content management policy.", "type": None, "code": "content_filter", "status": 400}}, 400,
        "request", "filtered"),
    Row("azure", 429, {"error": {"code": "429",
        "message": "Requests have exceeded the call rate limit. Please retry after "
        "86400 seconds."}}, 429, "quota", "call rate", 86400.0),
    # Anthropic's compatibility layer: docs.anthropic.com, errors
    Row("anthropic", 400, anthropic("invalid_request_error",
        "Your credit balance is too low to access the Anthropic API."),
        400, "account", "credit balance"),
    Row("anthropic", 401, anthropic("authentication_error", "invalid x-api-key"), 401, "credential", ""),
    Row("anthropic", 403, anthropic("permission_error", "Your API key does not have permission"), 403, "permission",
        ""),
    Row("anthropic", 413, anthropic("request_too_large", "Request exceeds the maximum size"), 413, "request", "size"),
    Row("anthropic", 429, anthropic("rate_limit_error", "This request would exceed your rate limit"), 429, "quota",
        "rate",
        30.0, {"anthropic-ratelimit-requests-remaining": "0",
        "anthropic-ratelimit-requests-reset": "2030-01-01T00:00:30Z",
               "anthropic-ratelimit-tokens-remaining": "5000",
               "anthropic-ratelimit-tokens-reset": "2030-01-01T00:10:00Z"}),
    Row("anthropic", 529, anthropic("overloaded_error", "Overloaded"), 529, "provider", "Overloaded"),
    Row("anthropic", 200, anthropic("overloaded_error", "Overloaded"), 529, "provider", "Overloaded"),
    # Gemini's compatible endpoint: ai.google.dev/gemini-api/docs/troubleshooting, google.rpc
    Row("gemini", 400, google(400, "API key not valid. Please pass a valid API key.", "INVALID_ARGUMENT",
        {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}), 400, "credential", ""),
    Row("gemini", 400, google(400, "User location is not supported for the API use.", "FAILED_PRECONDITION"), 400,
        "request",
        "location"),
    Row("gemini", 429, google(429, "Please retry in 38.2s.", "RESOURCE_EXHAUSTED",
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "38.2s"}), 429, "quota", "retry", 38.2),
    Row("gemini", 429, google(429, "quota", "RESOURCE_EXHAUSTED",
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure",
        "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}), 429, "quota", "quota",
        300.0),
    Row("gemini", 503, google(503, "The model is overloaded. Please try again later.", "UNAVAILABLE"), 503, "provider",
        "overloaded"),
    Row("gemini", 200, google(429, "Resource has been exhausted", "RESOURCE_EXHAUSTED"), 429, "quota", "exhausted"),
    # Groq: console.groq.com/docs/errors, rate-limits
    Row("groq", 413, openai("Request too large for model `m` on tokens per minute (TPM): Limit 6000, Requested 7000",
        "rate_limit_exceeded", "tokens"), 413, "size", "too large"),
    Row("groq", 429, openai("Rate limit reached for model `m` on tokens per minute. Please try again in 7m12s.",
        "rate_limit_exceeded", "tokens"), 429, "quota", "Rate limit", 432.0),
    Row("groq", 429, openai("slow down", "rate_limit_exceeded"), 429, "quota", "slow", 7.66,
        {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "7.66s"}),
    Row("groq", 498, openai("Flex tier capacity exceeded", "capacity_exceeded"), 498, "request", "capacity"),
    # Mistral: docs.mistral.ai; 401 and 422 come from its gateway and from FastAPI
    Row("mistral", 401, {"detail": "Unauthorized"}, 401, "credential", ""),
    Row("mistral", 422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"],
        "msg": "Extra inputs are not permitted"}]}, 422, "request", "body.stream_options: Extra inputs"),
    Row("mistral", 422, {"object": "error", "message": {"detail": [{"loc": ["body", "x"], "msg": "field required"}]},
        "type": "invalid_request_error", "code": None}, 422, "request", "field required"),
    Row("mistral", 429, {"object": "error", "message": "Requests rate limit exceeded", "type": "rate_limited",
        "code": "1300"},
        429, "quota", "rate limit", 59.0, {"ratelimitbysize-remaining": "0", "ratelimitbysize-reset": "59"}),
    Row("mistral", 400, {"object": "error", "message": CTX, "type": "BadRequestError", "param": None, "code": 400}, 400,
        "request", "maximum context"),
    # OpenRouter: its pages on errors and on limits
    Row("deepseek", 402, openai("Insufficient Balance", "invalid_request_error", "unknown_error"), 402, "account",
        "Balance"),
    Row("deepseek", 401, openai("Authentication Fails", "invalid_request_error", "authentication_error"), 401,
        "credential",
        ""),
    Row("deepseek", 503, openai("Server overloaded", None, "service_unavailable_error"), 503, "provider",
        "overloaded"),
    # OpenRouter: openrouter.ai/docs/api-reference/errors, limits
    Row("openrouter", 402, {"error": {"code": 402,
        "message": "You requested up to 4096 tokens, but can only afford 812."}},
        402, "size", "afford"),
    Row("openrouter", 402, {"error": {"code": 402, "message": "Insufficient credits. Add more."}}, 402, "account",
        "credits"),
    Row("openrouter", 403, {"error": {"code": 403, "message": "Your input was flagged for \"violence\".",
        "metadata": {"reasons": ["violence"], "flagged_input": "hello"}}}, 403, "request", "flagged"),
    Row("openrouter", 200, {"error": {"message": "Provider returned error: busy", "code": 429,
        "metadata": {"provider_name": "Q"}}, "user_id": "u1"}, 429, "quota", "busy"),
    Row("openrouter", 429, {"error": {"code": 429, "message": "limit", "metadata": {"headers":
        {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int((NOW.timestamp() + 45) * 1000))}}}}, 429, "quota",
        "limit", 45.0),
    Row("openrouter", 502, {"error": {"code": 502, "message": "Provider returned error"}}, 502, "provider",
        "returned"),
    Row("openrouter", 200, {"id": "g", "choices": [{"finish_reason": "error", "error": {"code": 503,
        "message": "down"}}]},
        503, "provider", "down"),
    # others that are reached as openai-compatible
    Row("xai", 400, {"code": "Client specified an invalid argument", "error": "Incorrect API key provided: xa***."},
        400,
        "credential", ""),
    Row("xai", 403, {"code": "The caller does not have permission",
        "error": "Your team has used all available credits."},
        403, "account", "credits"),
    Row("vllm", 200, {"object": "error", "message": CTX, "type": "BadRequestError", "param": None, "code": 400}, 400,
        "request", "maximum context"),
    Row("venice", 200, {"id": "x", "choices": None, "error_type": "BadRequestError", "error_message": CTX,
        "code": 400}, 400,
        "request", "maximum context"),
    Row("ollama", 404, {"error": "model 'x' not found"}, 404, "request", "not found"),
    Row("cohere", 404, {"id": "8bd5", "message": "model 'nonexistent' not found"}, 404, "request", "not found"),
    Row("bedrock", 400, {"message": "The provided model identifier is invalid."}, 400, "request", "identifier"),
    Row("cerebras", 429, {"message": "Tokens per day limit exceeded", "type": "too_many_tokens_error", "code":
        "token_quota_exceeded"}, 429, "quota", "per day", 33011.38,
        {"x-ratelimit-remaining-tokens-day": "0", "x-ratelimit-reset-tokens-day": "33011.38"}),
    Row("alibaba", 400, openai("Input data may contain inappropriate content.", "data_inspection_failed"), 400,
        "request",
        "inappropriate"),
    Row("nginx", 502, "<html>\r\n<title>502 Bad Gateway</title><body><center>nginx</center></html>", 502,
        "provider", "502 Bad Gateway"),
    Row("cloudflare", 520, "error code: 520", 520, "provider", "520"),
    Row("proxy", 503, "no healthy upstream", 503, "provider", "no healthy upstream", 12.0, {"retry-after": "12"}),
    Row("proxy", 429, "", 429, "quota", "", 3.0, {"retry-after-ms": "3000", "retry-after": "60"}),
    Row("sse", 200, 'event: error\ndata: {"error": {"message": "slow", "code": 429}}\n\n', 429, "quota", "slow"),
    Row("lines", 200, '[{"error": {"message": "slow", "code": "429"}}]', 429, "quota", "slow"),
]  # fmt: skip


def body_of(row: Row) -> bytes:
    return row.body.encode() if isinstance(row.body, str) else json.dumps(row.body).encode()


def failure(row: Row, **more: Any) -> Failure:
    body = body_of(row)
    error = error_of(body, row.head)
    assert error is not None, row
    headers = [(name.encode(), value.encode()) for name, value in row.headers.items()]
    return failure_of(error, body, headers, kind=row.kind, quirks=quirks_of(row.kind), now=NOW, **more)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.kind}-{row.head}-{row.blame}-{row.words[:20]}")
def test_an_error_is_understood(row: Row) -> None:
    found = failure(row)
    assert (found.error.status, found.blame) == (row.status, row.blame)
    assert found.wait_s == (None if row.wait_s is None else pytest.approx(row.wait_s, abs=0.01))
    told = found.body()
    assert json.loads(told)["error"]["message"], "what every client of the dialect reads"
    assert row.words in json.loads(told)["error"]["message"]
    assert (found.document == told) == row.readable


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.kind}-{row.head}-{row.blame}-{row.words[:20]}")
def test_what_no_retry_lifts_says_so_and_nothing_else_does(row: Row) -> None:
    found = failure(row)
    headers = dict(found.headers())
    final = row.blame in ("request", "size", "account")
    assert (headers.get(b"x-should-retry") == b"false") == final
    if final:
        assert not found.may_be_repeated
    elif row.wait_s is not None:
        assert abs(int(headers[b"retry-after"]) - row.wait_s) < 1.0
    assert (found.as_problem() is not None) == (row.blame in ("credential", "permission"))


@pytest.mark.parametrize(
    "status", [300, 308, 400, 401, 402, 403, 404, 408, 422, 429, 500, 501, 502, 503, 504, 520, 524, 529]
)
def test_an_error_costs_nothing_unless_a_model_may_have_run_before_its_gateway_gave_up(status: int) -> None:
    may_bill = status in (408, 502, 504, 520, 524)
    row = Row("unknown", status, {"error": {"message": "x"}}, status, "provider", "")
    if status >= 400:
        assert failure(row).billed is may_bill
        assert failure(row, written=True).billed, "the model wrote something"


@pytest.mark.parametrize(
    "document",
    [
        {"error": None, "choices": []}, {"error": {}, "choices": []}, {"error": "", "choices": []},
        {"error": False, "choices": []}, {"error": [], "choices": []}, {"error": {"message": "", "code": None}},
        {"choices": [{"finish_reason": "stop"}]}, {"object": "list", "data": []}, [], None, 7, "text", {},
        {"object": "chat.completion.chunk", "choices": [{"delta": {"content": "an error"}}]},
    ],
)  # fmt: skip
def test_what_is_falsy_or_no_error_is_none(document: Any) -> None:
    assert error_in(document) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Please try again in 7m12s. Visit", 432.0), ("Please retry in 38.2s.", 38.2), ("try again in 20 seconds",
        20.0),
        ("Please wait for 3 minutes, 5 seconds and", 185.0), ("retry after 12s", 12.0), ("try again in 6ms", 0.006),
        ("Try again after 1 hour", 3600.0), ("Please retry after 86400 seconds.", 86400.0), ("You may retry at 5pm",
        None),
        ("Limit 3, Used 3, Requested 1", None), ("wait", None), ("", None), ("try again in a moment", None),
    ],
)  # fmt: skip
def test_a_wait_in_words(text: str, seconds: float | None) -> None:
    assert said_s(text) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize("text", ["", "5", "s", "five seconds", "5 parsecs", "-5s", "nan", "1e9", "5s and more"])
def test_what_is_no_duration(text: str) -> None:
    assert duration_s(text) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["error", "message", "code", "type", "status", "detail", "details", "choices", "metadata", "headers",
             "retryDelay", "violations", "quotaId", "loc", "msg", "object", "error_message", "finish_reason"]
        ),
        inner, max_size=5,
    ),
    max_leaves=20,
)  # fmt: skip


@given(JSON, st.sampled_from([200, 400, 429, 502]), st.text(max_size=30))
def test_whatever_a_provider_sends_it_is_understood_or_none(document: Any, head: int, value: str) -> None:
    body = json.dumps(document).encode()
    error = error_of(body, head)
    assert (error is None) <= (head < 400)
    headers = [(b"retry-after", value.encode("utf-8", "replace")), (b"x-ratelimit-reset-requests", b"1")]
    wait = wait_s(headers, error, NOW)
    assert wait is None or 0 <= wait < float("inf")
    if error is not None:
        assert 400 <= error.status <= 599
        found = failure_of(error, body, headers, kind="x", quirks=quirks_of("x"), now=NOW)
        assert json.loads(found.body())["error"]["message"]
        assert b"\n" not in found.body() or found.document
