"""Errors of the providers that are shipped: every status that each documents, and what public reports add.

The pages:
OPENAI      https://developers.openai.com/docs/guides/error-codes
ANTHROPIC   https://platform.claude.com/docs/en/api/errors and .../api/rate-limits
GROQ        https://console.groq.com/docs/errors and .../docs/rate-limits
MISTRAL     https://docs.mistral.ai/resources/error-glossary
DEEPSEEK    https://api-docs.deepseek.com/quick_start/error_codes
OPENROUTER  https://openrouter.ai/docs/api/reference/errors-and-debugging and .../reference/limits; its OpenAPI document
GEMINI      https://ai.google.dev/gemini-api/docs/troubleshooting, .../docs/rate-limits; google.rpc
"""

from tests.unit.provider_rows import CTX, NOW, Row, anthropic, google, mistral, openai, openrouter

STATUSES: dict[str, frozenset[int]] = {
    "openai": frozenset((400, 401, 403, 404, 429, 500, 503)),
    "anthropic": frozenset((400, 401, 402, 403, 404, 409, 413, 429, 500, 504, 529)),
    "groq": frozenset((400, 401, 403, 404, 413, 422, 424, 429, 498, 499, 500, 502, 503)),
    "mistral": frozenset((400, 401, 402, 403, 404, 422, 429, 500, 502, 503, 504)),
    "deepseek": frozenset((400, 401, 402, 422, 429, 500, 503)),
    "openrouter": frozenset((400, 401, 402, 403, 404, 408, 413, 422, 429, 500, 502, 503, 524, 529)),
    "gemini": frozenset((400, 403, 404, 429, 500, 503, 504)),
}
"""What those pages list."""

KEY_OF_OPENROUTER = "Key limit exceeded (total limit). Manage it using https://openrouter.ai/settings/keys"
ERRORS = [
    # OPENAI: its page, its library's table of exceptions
    Row("openai", 400, openai(CTX, "context_length_exceeded"), 400, "request", "maximum context"),
    Row("openai", 400, openai("Unsupported value: 'messages[0].role' does not support 'developer' with this model.",
        "unsupported_value"), 400, "request", "Unsupported value"),  # recorded traffic
    Row("openai", 400, openai("Invalid service_tier argument: The requested service tier is not allowed for this "
        "project."), 400, "request", "service tier"),
    Row("openai", 400, openai("Your request was rejected by the safety system.", "content_policy_violation"), 400,
        "request", "safety"),
    Row("openai", 401, openai("Incorrect API key provided: sk-x.", "invalid_api_key"), 401, "credential", ""),
    Row("openai", 401, openai("You must be a member of an organization to use the API"), 401, "credential", ""),
    Row("openai", 401, openai("Your IP address is not authorized.", "ip_not_authorized"), 401, "credential", ""),
    Row("openai", 403, openai("Country, region, or territory not supported", "unsupported_country_region_territory"),
        403, "request", "not supported"),
    Row("openai", 403, openai("Project `proj_x` does not have access to model `gpt-x`", "model_not_found"), 403,
        "permission", ""),
    Row("openai", 404, openai("The model `x` does not exist or you do not have access to it.", "model_not_found"), 404,
        "request", "does not exist"),  # recorded traffic
    Row("openai", 429, openai("Rate limit reached for gpt-4o in organization org-x on requests per min (RPM): Limit 3, "
        "Used 3, Requested 1. Please try again in 20s.", "rate_limit_exceeded", "requests"), 429, "quota", "Rate limit",
        20.0),
    Row("openai", 429, openai("Your request rate increased too quickly.", "slow_down", "rate_limit_error"), 429,
        "quota", "too quickly"),
    Row("openai", 429, openai("Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 34000.",
        "rate_limit_exceeded", "tokens"), 429, "size", "too large"),
    Row("openai", 429, openai("You exceeded your current quota, please check your plan and billing details.",
        "insufficient_quota", "insufficient_quota"), 429, "account", "quota"),
    # help.openai.com/en/articles/6614457: `type` may say no more than that it is about billing
    *(Row("openai", 429, openai("You have run out of what you may spend.", code, "billing_limit"), 429, "account",
        "may spend") for code in ("credit_balance_exhausted", "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded", "organization_usage_limit_exceeded")),
    Row("openai", 500, openai("The server had an error", None, "server_error"), 500, "provider", "server had"),
    Row("openai", 503, openai("The model is overloaded.", "server_is_overloaded", "service_unavailable_error"), 503,
        "provider", "overloaded"),
    Row("openai", 503, openai("Slow Down", "slow_down"), 503, "provider", "Slow Down"),
    # ANTHROPIC, as its compatible endpoint answers
    Row("anthropic", 400, anthropic("invalid_request_error", "messages: at least one message is required"), 400,
        "request", "at least one"),
    Row("anthropic", 400, anthropic("invalid_request_error",
        "Your credit balance is too low to access the Anthropic API."), 400, "account", "credit balance"),
    Row("anthropic", 400, anthropic("invalid_request_error", "You have reached your specified workspace API usage "
        "limits. You will regain access on 2030-01-03 at 00:00 UTC."), 400, "account", "usage limits",
        172_800.0),  # github.com/anthropics/claude-code/issues/1047
    Row("anthropic", 400, anthropic("invalid_request_error", "This organization has been disabled."), 400,
        "credential", ""),  # public reports, of whole bodies
    Row("anthropic", 401, anthropic("authentication_error", "invalid x-api-key"), 401, "credential", ""),
    Row("anthropic", 402, anthropic("billing_error", "There's an issue with your billing."), 402, "account", "billing"),
    Row("anthropic", 403, anthropic("permission_error", "Your API key does not have permission"), 403, "permission",
        ""),
    Row("anthropic", 403, {"error": {"type": "forbidden", "message": "Request not allowed"}}, 403, "request",
        "not allowed"),
    Row("anthropic", 404, anthropic("not_found_error", "model: claude-sonet-4-5"), 404, "request",
        "claude-sonet"),  # recorded traffic
    Row("anthropic", 409, anthropic("conflict_error", "The request conflicts with another."), 409, "provider",
        "conflicts"),
    Row("anthropic", 413, anthropic("request_too_large", "Request exceeds the maximum size"), 413, "request", "size"),
    Row("anthropic", 429, anthropic("rate_limit_error", "This request would exceed your rate limit"), 429, "quota",
        "rate"),
    Row("anthropic", 429, anthropic("rate_limit_error", "You have crossed your monthly API usage threshold. You will "
        "regain access on 2030-01-01 at 12:00 UTC.", details={"error_code": "enforced_spend_limit_reached"}), 429,
        "account", "threshold", 43_200.0),
    Row("anthropic", 500, anthropic("api_error", "Internal server error"), 500, "provider", "Internal"),
    Row("anthropic", 504, anthropic("timeout_error", "Request timed out"), 504, "provider", "timed out"),
    Row("anthropic", 529, anthropic("overloaded_error", "Overloaded"), 529, "provider", "Overloaded"),
    Row("anthropic", 200, anthropic("overloaded_error", "Overloaded"), 529, "provider", "Overloaded"),
    # GROQ
    Row("groq", 400, openai("The model `m` has been decommissioned.", "model_decommissioned"), 400, "request",
        "decommissioned"),
    Row("groq", 400, {"error": {"message": "Failed to call a function.", "type": "invalid_request_error",
        "code": "tool_use_failed", "failed_generation": "<function=x>"}}, 400, "request", "Failed to call"),
    Row("groq", 400, openai("Organization has been restricted. Please reach out to support.",
        "organization_restricted"), 400, "credential", ""),  # public reports of accounts that were shut
    Row("groq", 401, openai("Invalid API Key", "invalid_api_key"), 401, "credential", ""),
    Row("groq", 403, openai("Access denied. Please check your network settings."), 403, "permission", ""),
    Row("groq", 404, openai("The model `non-existent` does not exist or you do not have access to it.",
        "model_not_found"), 404, "request", "does not exist"),  # recorded traffic
    Row("groq", 413, openai("Request too large for model `m` on tokens per minute (TPM): Limit 6000, Requested 7000",
        "rate_limit_exceeded", "tokens"), 413, "size", "too large"),
    Row("groq", 422, openai("The request could not be followed."), 422, "request", "followed"),
    Row("groq", 424, openai("A dependent request failed."), 424, "request", "dependent"),
    Row("groq", 429, openai("Rate limit reached for model `m` on tokens per minute. Please try again in 7m12s.",
        "rate_limit_exceeded", "tokens"), 429, "quota", "Rate limit", 432.0),
    Row("groq", 429, openai("Rate limit reached for model `m` in organization `o` service tier `on_demand` on tokens "
        "per day (TPD): Limit 100000, Used 97843, Requested 9191. Please try again in 1h53m56.832s. Need more tokens?",
        "rate_limit_exceeded", "tokens"), 429, "quota", "per day", 6836.832),  # public reports
    # "Flex Processing": add jittered backoff and retries
    Row("groq", 498, openai("Flex tier capacity exceeded", "capacity_exceeded"), 498, "provider", "capacity"),
    Row("groq", 499, openai("Request Cancelled"), 499, "provider", "Cancelled"),
    Row("groq", 500, openai("Internal Server Error", None, "internal_server_error"), 500, "provider", "Internal"),
    Row("groq", 502, openai("Bad Gateway"), 502, "provider", "Gateway"),
    Row("groq", 503, openai("Service Unavailable", None, "service_unavailable"), 503, "provider", "Unavailable"),
    # MISTRAL: its gateway and FastAPI answer otherwise than the page says
    Row("mistral", 400, {**mistral(CTX, "BadRequestError"), "code": 400}, 400, "request", "maximum context"),
    Row("mistral", 401, {"detail": "Unauthorized"}, 401, "credential", ""),
    *(Row("mistral", status, {"message": "Inactive subscription or usage limit reached", "request_id": "abc"}, status,
        "account", "usage limit") for status in (401, 403)),  # public reports
    Row("mistral", 402, mistral("Payment required", "payment_required"), 402, "account", "Payment"),
    Row("mistral", 403, mistral("Your subscription does not include this model.", "forbidden"), 403, "permission", ""),
    Row("mistral", 404, mistral("Model not found", "invalid_request_error", "unknown_model"), 404, "request",
        "not found"),
    Row("mistral", 422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"],
        "msg": "Extra inputs are not permitted"}]}, 422, "request", "body.stream_options: Extra inputs"),
    Row("mistral", 422, {"object": "error", "message": {"detail": [{"loc": ["body", "x"], "msg": "field required"}]},
        "type": "invalid_request_error", "code": None}, 422, "request", "field required"),
    Row("mistral", 429, mistral("Requests rate limit exceeded", "rate_limited", "1300"), 429, "quota", "rate limit"),
    Row("mistral", 429, mistral("Service tier capacity exceeded for this model.", "service_tier_capacity_exceeded",
        "3505"), 429, "quota", "capacity"),  # public reports
    Row("mistral", 500, mistral("Internal server error", "server_error"), 500, "provider", "Internal"),
    Row("mistral", 502, "<html><head><title>502 Bad Gateway</title></head></html>", 502, "provider", "Bad Gateway"),
    Row("mistral", 503, mistral("Service unavailable.", "internal_server_proxy_error", "1200"), 503, "provider",
        "unavailable"),
    Row("mistral", 504, {"message": "The upstream server is timing out"}, 504, "provider", "timing out"),
    # DEEPSEEK
    Row("deepseek", 400, openai("Content Exists Risk"), 400, "request", "Risk"),
    Row("deepseek", 401, openai("Authentication Fails, Your api key: ****here is invalid", "invalid_request_error",
        "authentication_error"), 401, "credential", ""),
    Row("deepseek", 402, openai("Insufficient Balance", "invalid_request_error", "unknown_error"), 402, "account",
        "Balance"),
    Row("deepseek", 422, openai("Failed to deserialize the JSON body into the target type"), 422, "request",
        "deserialize"),
    Row("deepseek", 429, openai("Rate limit reached", "rate_limit_reached_error"), 429, "quota", "Rate limit"),
    Row("deepseek", 500, openai("Server Error", None, "server_error"), 500, "provider", "Server"),
    Row("deepseek", 503, openai("Server overloaded", None, "service_unavailable_error"), 503, "provider",
        "overloaded"),
    # after empty lines, which keep a connection alive while a request waits ("Rate Limit")
    Row("deepseek", 200, "\n\n\n" + '{"error": {"message": "Server overloaded", "code": 503}}', 503, "provider",
        "overloaded"),
]  # fmt: skip


OPENROUTER = [
    Row("openrouter", 400, openrouter(400, CTX, error_type="context_length_exceeded"), 400, "request", "context"),
    Row("openrouter", 401, openrouter(401, "User not found."), 401, "credential", ""),
    Row("openrouter", 402, openrouter(402, "Insufficient credits. Add more."), 402, "account", "credits"),
    Row("openrouter", 402, openrouter(402, "You requested up to 4096 tokens, but can only afford 812."), 402, "size",
        "afford"),
    Row("openrouter", 402, openrouter(402, "This request needs more than your budget.", reason="weight_exceeds_budget",
        limit_source="openrouter_credits"), 402, "size", "budget"),
    # "Limits": what runs holds the money for a moment; it may come with the words of the two above
    Row("openrouter", 402, openrouter(402, "This request would exceed your available credits given your current "
        "in-flight requests. You can only afford 812.", reason="in_flight_budget_exhausted",
        limit_source="openrouter_in_flight_budget"), 402, "quota", "in-flight", 3.0, {"retry-after": "3"}),
    Row("openrouter", 403, openrouter(403, KEY_OF_OPENROUTER), 403, "account", "limit"),
    Row("openrouter", 403, openrouter(403, "Budget limit exceeded", limit_source="openrouter_workspace_budget",
        resets_at="2030-01-01T06:00:00Z"), 403, "account", "Budget", 21_600.0),
    Row("openrouter", 403, openrouter(403, "Your input was flagged for \"violence\".", reasons=["violence"],
        flagged_input="hello"), 403, "request", "flagged"),
    Row("openrouter", 403, openrouter(403, "Request blocked: prompt injection patterns detected",
        error_type="permission_denied"), 403, "request", "injection"),
    Row("openrouter", 403, openrouter(403, "Your key may not do that.", error_type="permission_denied"), 403,
        "permission", ""),
    Row("openrouter", 404, openrouter(404, "No endpoints found for this model."), 404, "request", "endpoints"),
    Row("openrouter", 408, openrouter(408, "Your request timed out", error_type="timeout"), 408, "provider", "timed"),
    Row("openrouter", 413, openrouter(413, "Too large", error_type="payload_too_large"), 413, "request", "large"),
    Row("openrouter", 422, openrouter(422, "No", error_type="unprocessable"), 422, "request", "No"),
    Row("openrouter", 429, {**openrouter(429, "Provider returned error", provider_name="Google", raw="google/gemini is "
        "temporarily rate-limited upstream. Please retry shortly, or add your own key"), "user_id": "u1"}, 429,
        "quota", "returned"),  # recorded traffic
    Row("openrouter", 429, openrouter(429, "Provider returned error", provider_name="Venice", is_byok=False,
        retry_after_seconds=11, retry_after_seconds_raw=10.918), 429, "quota", "returned", 11.0),  # public reports
    Row("openrouter", 429, openrouter(429, "limit", headers={"X-RateLimit-Limit": "50", "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": str(int((NOW.timestamp() + 45) * 1000))}), 429, "quota", "limit", 45.0),
    Row("openrouter", 200, {**openrouter(429, "Provider returned error: busy", provider_name="Q"), "user_id": "u1"},
        429, "quota", "busy"),
    Row("openrouter", 200, {"error": {"code": "E_OVERLOAD", "message": "overloaded", "metadata": {
        "error_type": "provider_overloaded"}}}, 503, "provider", "overloaded"),  # public reports
    Row("openrouter", 200, {"id": "g", "choices": [{"finish_reason": "error", "error": {"code": 503,
        "message": "down"}}]}, 503, "provider", "down"),
    Row("openrouter", 500, openrouter(500, "Internal Server Error", error_type="server"), 500, "provider", "Internal"),
    Row("openrouter", 502, openrouter(502, "Provider returned error"), 502, "provider", "returned"),
    Row("openrouter", 503, openrouter(503, "No available model provider", error_type="provider_unavailable"), 503,
        "provider", "available"),
    Row("openrouter", 524, openrouter(524, "Provider request timed out at edge network"), 524, "provider", "edge"),
    Row("openrouter", 529, openrouter(529, "Provider overloaded", error_type="provider_overloaded"), 529, "provider",
        "overloaded"),
]  # fmt: skip

_INFO = {"@type": "type.googleapis.com/google.rpc.ErrorInfo"}
GEMINI = [
    Row("gemini", 400, google(400, "Invalid value at 'contents'", "INVALID_ARGUMENT"), 400, "request", "Invalid value"),
    *(Row("gemini", 400, google(400, words, "INVALID_ARGUMENT", {**_INFO, "reason": "API_KEY_INVALID"}), 400,
        "credential", "") for words in ("API key not valid. Please pass a valid API key.",
        "API key expired. Please renew the API key.")),
    Row("gemini", 400, google(400, "User location is not supported for the API use.", "FAILED_PRECONDITION"), 400,
        "request", "location"),
    Row("gemini", 403, google(403, "Your API key doesn't have the required permissions.", "PERMISSION_DENIED"), 403,
        "permission", ""),
    Row("gemini", 403, google(403, "Your API key was reported as leaked. Please use another API key.",
        "PERMISSION_DENIED"), 403, "credential", ""),  # "Blocked or non-working API keys"
    Row("gemini", 403, google(403, "Permission denied: Consumer has been suspended.", "PERMISSION_DENIED",
        {**_INFO, "reason": "CONSUMER_SUSPENDED"}), 403, "credential", ""),
    Row("gemini", 404, google(404, "models/x is not found", "NOT_FOUND"), 404, "request", "not found"),
    Row("gemini", 429, google(429, "You exceeded your current quota, please check your plan and billing details.\n"
        "Please retry in 38.2s.", "RESOURCE_EXHAUSTED",
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "38.2s"}), 429, "quota", "retry", 38.2),
    Row("gemini", 429, google(429, "quota", "RESOURCE_EXHAUSTED",
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure",
        "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}), 429, "quota", "quota",
        300.0),
    # public reports, of whole bodies: money is short, and waiting does not lift that
    Row("gemini", 429, google(429, "Your prepayment credits are depleted. Please go to AI Studio at "
        "https://ai.studio/projects to manage your project and billing.", "RESOURCE_EXHAUSTED"), 429, "account",
        "depleted"),
    Row("gemini", 429, google(429, "Your project has exceeded its monthly spending cap.", "RESOURCE_EXHAUSTED"), 429,
        "account", "spending cap"),
    Row("gemini", 200, google(429, "Resource has been exhausted", "RESOURCE_EXHAUSTED"), 429, "quota", "exhausted"),
    Row("gemini", 500, google(500, "An internal error has occurred.", "INTERNAL"), 500, "provider", "internal"),
    Row("gemini", 503, google(503, "The model is overloaded. Please try again later.", "UNAVAILABLE"), 503, "provider",
        "overloaded"),
    Row("gemini", 504, google(504, "Deadline expired before operation could complete.", "DEADLINE_EXCEEDED"), 504,
        "provider", "Deadline"),
]  # fmt: skip

ERRORS += [*OPENROUTER, *GEMINI]
