"""Errors as providers document and send them: whose fault, which status, whose words, how long to wait, what it cost.

Bodies are those of the providers' documentation and of public reports. The rows of those that are shipped are in
`shipped_errors.py` and `shipped_headers.py`; those here stand for the many that are reached as `openai-compatible`.
"""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyforge.edge.core.dialects.failure import failure_of
from keyforge.edge.core.dialects.provider_error import error_in, error_of
from keyforge.edge.core.dialects.quirks import quirks_of
from keyforge.edge.core.dialects.waits import duration_s, said_s, wait_s
from tests.unit.provider_rows import CTX, NOW, Row, failure, name_of, openai
from tests.unit.shipped_errors import ERRORS
from tests.unit.shipped_headers import HEADERS

ROWS = [
    *ERRORS,
    *HEADERS,
    # Azure: learn.microsoft.com, content filtering
    Row("azure", 400, {"error": {"message": "The response was filtered due to the prompt triggering Azure "
        "OpenAI's content management policy.", "type": None, "code": "content_filter", "status": 400}}, 400,
        "request", "filtered"),
    Row("azure", 429, {"error": {"code": "429",
        "message": "Requests have exceeded the call rate limit. Please retry after "
        "86400 seconds."}}, 429, "quota", "call rate", 86400.0),
    # others that are reached as openai-compatible
    Row("xai", 400, {"code": "Client specified an invalid argument", "error": "Incorrect API key provided: xa***."},
        400,
        "credential", ""),
    Row("xai", 403, {"code": "The caller does not have permission",
        "error": "Your team has used all available credits."},
        403, "account", "credits"),
    Row("alibaba", 400, {"error": {"code": "Arrearage", "type": "Arrearage", "message": "Access denied, please "
        "make sure your account is in good standing."}}, 400, "account", "good standing"),
    Row("siliconflow", 403, {"code": 30011, "message": "Your paid balance is insufficient. Please top up.", "data":
        None}, 403, "account", "top up"),
    Row("zhipu", 429, {"error": {"code": "1113", "message": "余额不足或无可用资源包,请充值。"}}, 429, "account",
        "充值"),
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


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_an_error_is_understood(row: Row) -> None:
    found = failure(row)
    assert (found.error.status, found.blame) == (row.status, row.blame)
    assert found.wait_s == (None if row.wait_s is None else pytest.approx(row.wait_s, abs=0.01))
    told = found.body()
    assert json.loads(told)["error"]["message"], "what every client of the dialect reads"
    assert row.words in json.loads(told)["error"]["message"]
    assert (found.document == told) == row.readable


@pytest.mark.parametrize("row", ROWS, ids=name_of)
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
        ("You will regain access on 2030-01-02 at 00:00 UTC.", 86_400.0),
        ("Your limit resets on 2030-01-01 at 00:10:30 UTC", 630.0), ("try again after 2030-01-01T01:00Z", 3600.0),
        ("regain access on 2029-12-31 at 00:00 UTC", None), ("regain access on 2030-99-99 at 00:00 UTC", None),
        ("regain access on 2030-01-02 at noon", None), ("Limit 3, Used 3, Requested 1", None),
        ("wait", None), ("", None), ("try again in a moment", None),
    ],
)  # fmt: skip
def test_a_wait_in_words(text: str, seconds: float | None) -> None:
    assert said_s(text, NOW) == (None if seconds is None else pytest.approx(seconds))


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
