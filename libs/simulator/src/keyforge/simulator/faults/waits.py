"""429s that say how long to wait, each in another place and spelling. Their names may end in the seconds."""

from typing import Any, Final

from keyforge.simulator.faults.fault import ProviderFault, refused

_SECONDS: Final = 7.0
_MESSAGE: Final = "Rate limit reached for requests."


def _limited(
    about: str, headers: dict[str, str] | None = None, body: object = None, seconds: float = _SECONDS
) -> ProviderFault:
    return refused(429, about, _openai(_MESSAGE) if body is None else body, headers, seconds)


def _openai(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "requests", "param": None, "code": "rate_limit_exceeded"}}


def _gemini(message: str, *details: object) -> list[dict[str, Any]]:
    return [{"error": {"code": 429, "message": message, "status": "RESOURCE_EXHAUSTED", "details": list(details)}}]


def _google(type_: str, **fields: object) -> dict[str, Any]:
    return {"@type": f"type.googleapis.com/google.rpc.{type_}", **fields}


_PER_DAY: Final = {"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}
_RESETS: Final = {"X-RateLimit-Limit": "20", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "$epoch_ms"}
_LEFT: Final = {"x-ratelimit-remaining-tokens": "900", "x-ratelimit-reset-tokens": "90s"}

WAITS: Final = {
    "429": refused(429, "nothing says how long", _openai(_MESSAGE)),
    "429-seconds": _limited("`Retry-After` in seconds", {"retry-after": "$seconds"}),
    "429-fraction": _limited("`Retry-After` with a fraction", {"retry-after": "$seconds"}, seconds=1.5),
    "429-date": _limited("`Retry-After` as a date (RFC 9110)", {"retry-after": "$date"}),
    "429-past": refused(
        429, "`Retry-After` as a date that is past", _openai(_MESSAGE), {"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}
    ),
    "429-nonsense": refused(429, "`Retry-After` that is no time", _openai(_MESSAGE), {"retry-after": "soon"}),
    "429-ms": _limited(
        "`retry-after-ms` beside `Retry-After` (OpenAI)", {"retry-after-ms": "$ms", "retry-after": "60"}
    ),
    "429-ms-azure": _limited("`x-ms-retry-after-ms` (Azure)", {"x-ms-retry-after-ms": "$ms"}),
    "429-reset-openai": _limited(
        "`x-ratelimit-reset-requests` as `1m12s`, and another limit that has room (OpenAI)",
        {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "$duration", **_LEFT},
        seconds=72.0,
    ),
    "429-reset-groq": _limited(
        "`x-ratelimit-reset-tokens` as `7.66s` (Groq)",
        {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "${seconds}s"},
        seconds=7.66,
    ),
    "429-reset-cerebras": _limited(
        "`x-ratelimit-reset-tokens-minute` in seconds (Cerebras)",
        {"x-ratelimit-remaining-tokens-minute": "0", "x-ratelimit-reset-tokens-minute": "$seconds"},
    ),
    "429-reset-anthropic": _limited(
        "`anthropic-ratelimit-requests-reset` as a date (RFC 3339)",
        {"anthropic-ratelimit-requests-remaining": "0", "anthropic-ratelimit-requests-reset": "$rfc3339"},
        {"type": "error", "error": {"type": "rate_limit_error", "message": _MESSAGE}},
    ),
    "429-reset-epoch": _limited(
        "`x-ratelimit-reset` in seconds since 1970 (proxies)",
        {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "$epoch_s"},
    ),
    "429-reset-openrouter": _limited(
        "the reset in the body's `metadata.headers`, in milliseconds since 1970 (OpenRouter)",
        body={"error": {"code": 429, "message": "Rate limit exceeded", "metadata": {"headers": _RESETS}}},
    ),
    "429-retry-info": _limited(
        "google.rpc.RetryInfo (Gemini)",
        body=_gemini("Quota exceeded.", _google("RetryInfo", retryDelay="${seconds}s")),
        seconds=38.2,
    ),
    "429-words-openai": _limited(
        "in words: `try again in 7m12s` (OpenAI)",
        body=_openai(f"{_MESSAGE} Please try again in $duration."),
        seconds=432.0,
    ),
    "429-words-gemini": _limited(
        "in words: `retry in 38.2s` (Gemini)",
        body=_gemini("Quota exceeded. Please retry in ${seconds}s."),
        seconds=38.2,
    ),
    "429-words-azure": _limited(
        "in words: `retry after 20 seconds` (Azure)", body=_openai(f"{_MESSAGE} Please retry after $seconds seconds.")
    ),
    "429-day": refused(
        429,
        "a quota of a day, without a time (Gemini)",
        _gemini("Quota exceeded.", _google("QuotaFailure", violations=[_PER_DAY])),
    ),
}
