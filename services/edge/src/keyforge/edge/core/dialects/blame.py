"""Whose fault a provider's error is, and so what to do about it. Data: rows in order, the first that fits decides.

A row is of one kind of provider where its `kinds` say so, else of all: the words are peculiar enough. Where none fits,
the status decides.
"""

import re
from typing import Final, Literal

import msgspec

from keyforge.edge.core.dialects.provider_error import ProviderError

Blame = Literal["request", "size", "permission", "credential", "account", "quota", "provider"]
"""- request: the same at any credential, so it is sent once.
- size: more than this account has room or money for; another may serve it, and this one serves smaller ones.
- permission: another credential may have it; this one serves other requests.
- credential: the provider does not accept it; it rests.
- account: no money; its quota group rests for all models.
- quota: too many requests or tokens; its quota group rests for this model.
- provider: its own; nobody rests, and a later try may succeed."""

ROTATES: Final = frozenset[Blame](("size", "permission", "credential", "account", "quota"))
"""Another credential may serve the request."""
FINAL: Final = frozenset[Blame](("request", "size", "account"))
"""What no retry within a minute lifts: the agent gets the provider's words, and is asked not to try again."""


class _Row(msgspec.Struct, frozen=True):
    """`statuses` empty: any. `words` are looked for in codes, types and the message, in lower case."""

    blame: Blame
    statuses: frozenset[int]
    words: re.Pattern[str]
    kinds: frozenset[str] = frozenset()


def _row(blame: Blame, statuses: tuple[int, ...], words: str, *kinds: str) -> _Row:
    return _Row(blame, frozenset(statuses), re.compile(words), frozenset(kinds))


_ROWS: Final = (
    # Money that other requests hold while they run (OpenRouter: "Limits"): it is free again in seconds.
    _row("quota", (402,), r"in_flight_budget"),
    # One request too large for a minute's tokens (OpenAI, Groq: "Request too large for model ... on tokens per min"),
    # or for the money left (OpenRouter: "You requested up to N tokens, but can only afford M",
    # `weight_exceeds_budget`).
    _row("size", (402, 413, 429), r"request too large|can only afford [1-9]|weight_exceeds_budget"),
    # No money: OpenAI `insufficient_quota`, `billing_hard_limit_reached`, `billing_not_active`; DeepSeek "Insufficient
    # Balance" (402); Anthropic "Your credit balance is too low" (400); xAI "used all available credits" (403, 429);
    # Gemini "Your prepayment credits are depleted" (429); Mistral "Inactive subscription or usage limit reached" (401).
    # Alibaba `Arrearage` (400, error codes of Model Studio); SiliconFlow "Your paid balance is insufficient" (403,
    # FoundationAgents/OpenManus#438); Zhipu 1113 in Chinese (429, continuedev/continue#11823).
    _row(
        "account",
        (400, 401, 402, 403, 429),
        r"insufficient_quota|billing_hard_limit|billing_not_active|insufficient[_ ]balance|credit balance is too low"
        r"|insufficient[_ ]credits|used all available credits|billing_error|payment_required|out of credits"
        r"|credit_balance_exhausted|credits are depleted|credit balance is depleted|inactive subscription"
        r"|\barrearage\b|balance is insufficient|余额不足",
    ),
    # As much spent as may be, until a month ends or somebody allows more: OpenAI `project_spend_limit_exceeded`,
    # `organization_usage_limit_exceeded` (429); Anthropic `enforced_spend_limit_reached` (429), "You have reached your
    # specified API usage limits" (400); Gemini "exceeded its monthly spending cap" (429); OpenRouter "Key limit
    # exceeded", `openrouter_workspace_budget` (403).
    _row(
        "account",
        (400, 402, 403, 429),
        r"(spend|usage)_limit_(exceeded|reached)|reached your (specified )?(workspace )?api usage limits|spending cap"
        r"|key limit exceeded|openrouter_(key_limit|guardrail_budget|workspace_budget)",
    ),
    _row("account", (402,), r""),
    # Moderation: OpenRouter "Your input was flagged" (403, `reasons`), OpenAI `content_policy_violation`, Azure
    # `content_filter`, Alibaba `data_inspection_failed`, Zhipu "sensitive content", Gemini `PROHIBITED_CONTENT`;
    # OpenRouter's guardrails, "Request blocked: prompt injection patterns detected" (403).
    _row(
        "request",
        (400, 403, 422, 451),
        r"\bflagged\b|moderation|content[_ ]?(policy|filter)|content management policy|data_inspection_failed"
        r"|prohibited_content|responsibleai|sensitive content|safety system|usage policies|guardrail|request blocked",
    ),
    # Region: OpenAI `unsupported_country_region_territory` (403), Gemini "User location is not supported" (400).
    _row(
        "request",
        (400, 403, 451),
        r"unsupported_country|country, region, or territory|location is not supported"
        r"|not available in your (country|region)",
    ),
    # Anthropic tells a region, or an address that it does not serve, with these words alone (403, type `forbidden`).
    _row("request", (403,), r"request not allowed", "anthropic"),
    # A bad key: Gemini "API key not valid" (400, `API_KEY_INVALID`), xAI "Incorrect API key provided" (400), Anthropic
    # "invalid x-api-key" (401), OpenAI `account_deactivated` (401, 403). An account that is shut: Groq
    # `organization_restricted` (400), Anthropic "This organization has been disabled" (400), Gemini "Your API key was
    # reported as leaked", `CONSUMER_SUSPENDED` (403).
    _row(
        "credential",
        (400, 401, 403, 404),
        r"api[_ -]?key[_ ](not[_ ]valid|invalid|expired|not[_ ]found)|(incorrect|invalid|wrong|expired|malformed)[_ ]"
        r"(x-)?api[_ -]?key|invalid_api_key|authentication_error|unauthenticated|account_deactivated"
        r"|key has been disabled|organization_restricted|organization has been (disabled|restricted)"
        r"|reported as leaked|consumer_suspended",
    ),
    _row("credential", (401,), r""),
    _row("permission", (403, 407), r""),
    _row("quota", (429,), r""),
    # vLLM and Ollama behind a queue answer 503 with these; what they say is a limit on requests.
    _row("quota", (503,), r"rate_limit_exceeded|too_many_requests"),
)


def blame_of(error: ProviderError, kind: str, sent: bytes = b"") -> Blame:
    """Return whose fault an error of a provider of this kind is. `sent`: the body of the request, which a message may
    quote: an agent that names its schema `insufficient_quota` must not have an account rest."""
    codes = " ".join(error.words)
    text = f"{codes} {error.message}".lower()
    asked: bytes | None = None
    for row in _ROWS:
        if error.status not in row.statuses or (row.kinds and kind not in row.kinds):
            continue
        for found in row.words.finditer(text):
            # Codes are the provider's own, and a message that begins with the words does not quote them.
            if row.blame in _OF_ONE_REQUEST or not found[0] or found.start() <= len(codes) + 1:
                return row.blame
            asked = _said(sent) if asked is None else asked
            if _letters(found[0]) not in asked:
                return row.blame
    return "request" if error.status < 500 and error.status not in _OF_THE_PROVIDER else "provider"


def _said(sent: bytes) -> bytes:
    """Return the letters of a body, without those of escapes: what our encoder escapes is none. Measured on a busy
    host: 0.1 s (0.4 s of escapes alone) for the 4 MiB that a body may have by default; only where a message fits."""
    text = sent.decode("utf-8", "replace").replace("\\\\", " ")
    for escape in ("\\n", "\\t", "\\r", "\\b", "\\f"):
        text = text.replace(escape, " ")
    return _letters(_ESCAPE.sub(" ", text))


def _letters(text: str) -> bytes:
    """Return the letters and digits of a text, in lower case: all that stays of it however it is quoted."""
    return "".join(text.lower().split()).encode("utf-8", "replace").translate(None, _OTHERS)


_ESCAPE: Final = re.compile(r"\\u[0-9a-fA-F]{4}")
_OTHERS: Final = bytes(set(range(128)) - set(b"abcdefghijklmnopqrstuvwxyz0123456789"))
_OF_ONE_REQUEST: Final = frozenset[Blame](("request", "size"))
"""Nobody rests for these, so an agent that brings one about hurts no other."""


_OF_THE_PROVIDER: Final = frozenset((408, 409, 425, 498, 499))
"""Below 500, and a later try may succeed: a timeout, a conflict, too early, no capacity for a flexible tier (Groq:
"Flex Processing"), closed."""
