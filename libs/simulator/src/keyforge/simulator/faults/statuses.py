"""Errors that the status tells, with bodies as providers document them, and redirects."""

from typing import Any, Final

from keyforge.simulator.faults.fault import ProviderFault, refused

RETRY: Final = {"retry-after": "$seconds"}
_SECONDS: Final = 7.0


def _openai(message: str, type_: str | None, code: str | None = None, **more: object) -> dict[str, Any]:
    return {"error": {"message": message, "type": type_, "param": None, "code": code, **more}}


def _anthropic(type_: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": type_, "message": message}, "request_id": "req_fixture"}


def _openrouter(code: int, message: str, **metadata: object) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "metadata": metadata}, "user_id": "user_fixture"}


def _gemini(code: int, message: str, status: str, *details: object) -> list[dict[str, Any]]:
    error = {"code": code, "message": message, "status": status}
    return [{"error": {**error, "details": list(details)} if details else error}]


def _page(title: str, by: str) -> str:
    return f"<html>\n<head><title>{title}</title></head>\n<body>\n<h1>{title}</h1>\n<hr>{by}\n</body>\n</html>\n"


def _failed(status: int, about: str, body: object) -> ProviderFault:
    """The provider's own failure: it says when it will be better."""
    return refused(status, about, body, RETRY, _SECONDS)


_KEY_INVALID: Final = {
    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
    "reason": "API_KEY_INVALID",
    "domain": "googleapis.com",
}
_FILTERED: Final = (
    "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please modify "
    "your prompt and retry."
)
_TOO_MANY: Final = (
    "Request too large for gpt-4o in organization org-fixture on tokens per min (TPM): Limit 30000, Requested 43821. "
    "The input or output tokens must be reduced in order to run successfully."
)
_AFFORD: Final = (
    "This request requires more credits, or fewer max_tokens. You requested up to 4096 tokens, but can only afford 120."
)

OF_CREDENTIALS: Final = {
    "401": refused(
        401,
        "a bad key: OpenAI",
        _openai("Incorrect API key provided: fixture.", "invalid_request_error", "invalid_api_key"),
    ),
    "401-anthropic": refused(401, "a bad key: Anthropic", _anthropic("authentication_error", "invalid x-api-key")),
    "400-key-gemini": refused(
        400,
        "a bad key, as a 400: Gemini",
        _gemini(400, "API key not valid. Please pass a valid API key.", "INVALID_ARGUMENT", _KEY_INVALID),
    ),
    "400-key-xai": refused(
        400,
        "a bad key, as a 400: xAI",
        {"code": "Client specified an invalid argument", "error": "Incorrect API key provided: fi***re."},
    ),
    "403": refused(
        403,
        "a key without the permission: Anthropic",
        _anthropic("permission_error", "Your API key does not have permission to use the specified resource."),
    ),
    "402": refused(
        402, "an empty account: DeepSeek", _openai("Insufficient Balance", "unknown_error", "invalid_request_error")
    ),
    "402-openrouter": refused(402, "an empty account: OpenRouter", _openrouter(402, "Insufficient credits. Add more.")),
    "402-size": refused(402, "an account with too little for this request: OpenRouter", _openrouter(402, _AFFORD)),
    "400-account": refused(
        400,
        "an empty account, as a 400: Anthropic",
        _anthropic("invalid_request_error", "Your credit balance is too low to access the Anthropic API."),
    ),
    "403-account": refused(
        403,
        "an empty account, as a 403: xAI",
        {
            "code": "The caller does not have permission to execute the specified operation",
            "error": "Your team has either used all available credits or reached its monthly spending limit.",
        },
    ),
    "429-account": refused(
        429,
        "an empty account, as a 429: OpenAI",
        _openai(
            "You exceeded your current quota, please check your plan and billing details.",
            "insufficient_quota",
            "insufficient_quota",
        ),
    ),
}
OF_REQUESTS: Final = {
    "400": refused(
        400, "a request that is wrong: OpenAI", _openai("Unsupported value: 'temperature'.", "invalid_request_error")
    ),
    "404": refused(
        404,
        "a model that does not exist: Groq",
        _openai(
            "The model `sim-fault` does not exist or you do not have access to it.",
            "invalid_request_error",
            "model_not_found",
        ),
    ),
    "413": refused(
        413, "a request too large: Anthropic", _anthropic("request_too_large", "Request exceeds the maximum size")
    ),
    "422": refused(
        422,
        "a field that the provider does not know: Mistral",
        {"detail": [{"type": "extra_forbidden", "loc": ["body", "user"], "msg": "Extra inputs are not permitted"}]},
    ),
    "429-size": refused(
        429, "a request larger than a minute's tokens: OpenAI", _openai(_TOO_MANY, "tokens", "rate_limit_exceeded")
    ),
    "403-moderation": refused(
        403,
        "moderation: OpenRouter",
        _openrouter(403, 'Your input was flagged for "violence".', reasons=["violence"], flagged_input="hello"),
    ),
    "400-moderation": refused(
        400,
        "moderation, as a 400: Azure",
        _openai(_FILTERED, None, "content_filter", status=400, innererror={"code": "ResponsibleAIPolicyViolation"}),
    ),
    "400-moderation-alibaba": refused(
        400,
        "moderation, as a 400: Alibaba",
        _openai("Input data may contain inappropriate content.", "data_inspection_failed", "data_inspection_failed"),
    ),
    "403-region": refused(
        403,
        "a region that is not served: OpenAI",
        _openai(
            "Country, region, or territory not supported", "request_forbidden", "unsupported_country_region_territory"
        ),
    ),
    "400-region": refused(
        400,
        "a region that is not served, as a 400: Gemini",
        _gemini(400, "User location is not supported for the API use.", "FAILED_PRECONDITION"),
    ),
}
OF_PROVIDERS: Final = {
    "408": _failed(408, "a timeout: OpenRouter", _openrouter(408, "Your request timed out.")),
    "500": _failed(
        500,
        "OpenAI",
        _openai("The server had an error while processing your request. Sorry about that!", "server_error"),
    ),
    "502": _failed(502, "nginx, as HTML", _page("502 Bad Gateway", "nginx")),
    "502-openrouter": _failed(502, "OpenRouter", _openrouter(502, "Provider returned error", provider_name="Q")),
    "503": _failed(
        503, "OpenAI", _openai("The engine is currently overloaded, please try again later", "server_error")
    ),
    "503-gemini": _failed(
        503, "Gemini", _gemini(503, "The model is overloaded. Please try again later.", "UNAVAILABLE")
    ),
    "504": _failed(504, "nginx, as HTML", _page("504 Gateway Time-out", "nginx")),
    "520": _failed(520, "Cloudflare, as HTML", _page("520: Web server is returning an unknown error", "Cloudflare")),
    "524": _failed(524, "Cloudflare, as HTML", _page("524: A timeout occurred", "Cloudflare")),
    "529": _failed(529, "Anthropic", _anthropic("overloaded_error", "Overloaded")),
    "500-empty": _failed(500, "a proxy without a body", ""),
}
REDIRECTS: Final = {
    f"redirect-{status}": refused(status, "a redirect to another path", "", {"location": "/v1/elsewhere"})
    for status in (301, 302, 303, 307, 308)
}
