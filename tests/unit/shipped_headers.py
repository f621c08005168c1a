"""Response headers of the providers that are shipped: limits, waits and the id of a request, as errors have them.

The pages, in the order of the rows:
OPENAI      https://platform.openai.com/docs/guides/rate-limits, https://platform.openai.com/docs/api-reference/debugging
ANTHROPIC   https://platform.claude.com/docs/en/api/rate-limits, .../api/errors
GROQ        https://console.groq.com/docs/rate-limits
MISTRAL     https://docs.mistral.ai/resources/error-glossary; names of limits from public captures of its answers
DEEPSEEK    https://api-docs.deepseek.com/quick_start/rate_limit names none; public captures have the id of a request
OPENROUTER  https://openrouter.ai/docs/api/reference/errors-and-debugging
GEMINI      https://ai.google.dev/gemini-api/docs/rate-limits names none: what it asks to wait is in the body
"""

from tests.unit.provider_rows import Row, anthropic, google, mistral, openai, openrouter

NAMES: dict[str, frozenset[str]] = {
    "openai": frozenset(
        (
            "x-request-id", "openai-organization", "openai-processing-ms", "openai-version",
            "x-ratelimit-limit-requests", "x-ratelimit-limit-tokens", "x-ratelimit-remaining-requests",
            "x-ratelimit-remaining-tokens", "x-ratelimit-reset-requests", "x-ratelimit-reset-tokens", "retry-after",
            "retry-after-ms",
        )
    ),
    "anthropic": frozenset(
        (
            "request-id", "anthropic-organization-id", "retry-after",
            *(f"anthropic-ratelimit-{unit}-{what}" for unit in ("requests", "tokens", "input-tokens", "output-tokens")
              for what in ("limit", "remaining", "reset")),
        )
    ),
    "groq": frozenset(
        (
            "x-request-id", "retry-after", "x-ratelimit-limit-requests", "x-ratelimit-limit-tokens",
            "x-ratelimit-remaining-requests", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-requests",
            "x-ratelimit-reset-tokens",
        )
    ),
    "mistral": frozenset(
        (
            "mistral-correlation-id", "retry-after", "x-ratelimit-remaining-req-minute", "x-ratelimit-limit-req-minute",
            "x-ratelimit-remaining-tokens-minute", "x-ratelimit-limit-tokens-minute",
        )
    ),
    "deepseek": frozenset(("x-ds-trace-id",)),
    "openrouter": frozenset(("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "retry-after")),
    "gemini": frozenset(("server-timing",)),
}  # fmt: skip
"""What there is to be read, by kind."""

_OPENAI = {
    "x-request-id": "req_1", "openai-organization": "org-x", "openai-processing-ms": "87",
    "openai-version": "2020-10-01", "x-ratelimit-limit-requests": "60", "x-ratelimit-limit-tokens": "150000",
}  # fmt: skip
_CLAUDE = {
    "request-id": "req_018E", "anthropic-organization-id": "org", "anthropic-ratelimit-requests-limit": "50",
    "anthropic-ratelimit-requests-remaining": "12", "anthropic-ratelimit-requests-reset": "2030-01-01T00:00:01Z",
    "anthropic-ratelimit-tokens-limit": "40000", "anthropic-ratelimit-tokens-remaining": "5000",
    "anthropic-ratelimit-tokens-reset": "2030-01-01T00:10:00Z", "anthropic-ratelimit-input-tokens-limit": "30000",
    "anthropic-ratelimit-input-tokens-remaining": "0",
    "anthropic-ratelimit-input-tokens-reset": "2030-01-01T00:00:30Z",
    "anthropic-ratelimit-output-tokens-limit": "8000", "anthropic-ratelimit-output-tokens-remaining": "8000",
    "anthropic-ratelimit-output-tokens-reset": "2030-01-01T00:00:00Z",
}  # fmt: skip
_GROQ = {
    "x-request-id": "req_01j", "x-ratelimit-limit-requests": "14400", "x-ratelimit-limit-tokens": "18000",
    "x-ratelimit-remaining-requests": "14370", "x-ratelimit-remaining-tokens": "17997",
    "x-ratelimit-reset-requests": "2m59.56s", "x-ratelimit-reset-tokens": "7.66s",
}  # fmt: skip
_MISTRAL = {
    "mistral-correlation-id": "019c", "x-ratelimit-limit-req-minute": "60", "x-ratelimit-remaining-req-minute": "0",
    "x-ratelimit-limit-tokens-minute": "50000", "x-ratelimit-remaining-tokens-minute": "47196",
}  # fmt: skip
_SPENT = "anthropic-ratelimit-requests-"

HEADERS = [
    # OPENAI: what is used up counts, not what resets last; a number of milliseconds before one of seconds
    Row("openai", 429, openai("Limit", "rate_limit_exceeded"), 429, "quota", "Limit", 23.0,
        {**_OPENAI, "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "23s",
         "x-ratelimit-remaining-tokens": "900", "x-ratelimit-reset-tokens": "6m0s"}),
    Row("openai", 429, openai("Tokens", "rate_limit_exceeded"), 429, "quota", "Tokens", 360.0,
        {**_OPENAI, "x-ratelimit-remaining-requests": "59", "x-ratelimit-reset-requests": "1s",
         "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}),
    Row("openai", 429, openai("Both", "rate_limit_exceeded"), 429, "quota", "Both", 0.42,
        {**_OPENAI, "retry-after-ms": "420", "retry-after": "1", "x-ratelimit-remaining-tokens": "0",
         "x-ratelimit-reset-tokens": "6m0s"}),
    Row("openai", 503, openai("The engine is overloaded", None, "server_error"), 503, "provider", "overloaded", 7.0,
        {**_OPENAI, "retry-after": "7"}),
    Row("openai", 500, openai("The server had an error", None, "server_error"), 500, "provider", "server had", None,
        {**_OPENAI, "x-ratelimit-remaining-requests": "59", "x-ratelimit-reset-requests": "1s"}),
    # ANTHROPIC: RFC 3339
    Row("anthropic", 429, anthropic("rate_limit_error", "input tokens per minute"), 429, "quota", "tokens", 30.0,
        _CLAUDE),
    Row("anthropic", 429, anthropic("rate_limit_error", "requests per minute"), 429, "quota", "requests", 60.0,
        {**_CLAUDE, f"{_SPENT}remaining": "0", f"{_SPENT}reset": "2030-01-01T00:01:00Z"}),
    Row("anthropic", 429, anthropic("rate_limit_error", "wait"), 429, "quota", "wait", 12.0,
        {**_CLAUDE, "retry-after": "12"}),
    Row("anthropic", 529, anthropic("overloaded_error", "Overloaded"), 529, "provider", "Overloaded", 5.0,
        {"request-id": "req_018E", "retry-after": "5"}),
    # GROQ: requests of a day, tokens of a minute
    Row("groq", 429, openai("slow down", "rate_limit_exceeded"), 429, "quota", "slow", 7.66,
        {**_GROQ, "x-ratelimit-remaining-tokens": "0"}),
    Row("groq", 429, openai("all of today", "rate_limit_exceeded"), 429, "quota", "today", 179.56,
        {**_GROQ, "x-ratelimit-remaining-requests": "0"}),
    Row("groq", 429, openai("tokens per day. Please try again in 16m51s", "rate_limit_exceeded"), 429, "quota", "day",
        1011.0, {**_GROQ, "retry-after": "1011"}),
    # MISTRAL: its limits do not say when they reset; older gateways' do
    Row("mistral", 429, mistral("Rate limit exceeded", "rate_limited", "1300"), 429, "quota", "exceeded", None,
        _MISTRAL),
    Row("mistral", 429, mistral("Rate limit exceeded", "rate_limited", "1300"), 429, "quota", "exceeded", 12.0,
        {**_MISTRAL, "retry-after": "12"}),
    Row("mistral", 429, mistral("Requests rate limit exceeded", "rate_limited", "1300"), 429, "quota", "rate limit",
        59.0, {"ratelimitbysize-remaining": "0", "ratelimitbysize-reset": "59"}),
    # DEEPSEEK
    Row("deepseek", 429, openai("Rate limit reached", "rate_limit_reached_error"), 429, "quota", "Rate limit", None,
        {"x-ds-trace-id": "fb3cc7347920593f11e4fe8116dee066"}),
    # OPENROUTER: milliseconds since 1970, in the head or in the body
    Row("openrouter", 429, openrouter(429, "free-models-per-day"), 429, "quota", "day", 90.0,
        {"x-ratelimit-limit": "50", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "1893456090000"}),
    Row("openrouter", 503, openrouter(503, "No provider"), 503, "provider", "No", 20.0, {"retry-after": "20"}),
    Row("openrouter", 429, openrouter(429, "slow", headers={"Retry-After": "8"}), 429, "quota", "slow", 8.0),
    # GEMINI
    Row("gemini", 429, google(429, "Please retry in 38.2s.", "RESOURCE_EXHAUSTED",
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "38s"}), 429, "quota", "retry", 38.0,
        {"server-timing": "gfet4t7; dur=120"}),
]  # fmt: skip
