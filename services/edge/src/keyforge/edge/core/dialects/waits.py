"""How long a provider asks to wait, wherever it says so: headers, RetryInfo, limits that reset, or words.

The places, in the order in which they are believed:

1. `retry-after-ms` (OpenAI, Azure) and `Retry-After` as seconds, a fraction of one, or a date (RFC 9110 10.2.3).
2. google.rpc.RetryInfo, `retryDelay: "38.2s"` (Gemini); `metadata.retry_after_seconds`, `metadata.resets_at`, and the
   same headers inside `metadata.headers` (OpenRouter).
3. `…ratelimit…reset…` headers, of which those count that have nothing remaining: durations (OpenAI `6m0s`, Groq
   `7.66s`), seconds (Cerebras, Mistral), RFC 3339 dates (Anthropic), seconds or milliseconds since 1970 (OpenRouter).
4. Words: "Please try again in 7m12s" (OpenAI), "Please retry in 38.2s" (Gemini), "try again in 20 seconds", "You will
   regain access on 2026-09-01 at 00:00 UTC" (Anthropic).
5. A quota of a day without a time: it does not end within a minute.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from keyforge.edge.core.dialects.provider_error import ProviderError

Headers = Iterable[tuple[bytes, bytes]]

TEXT_CHARS_MAX: Final = 64
"""A longer value is no time; dates of RFC 9110 have at most 33 characters."""
WORDS_CHARS_MAX: Final = 2_000
"""Of a message that is searched: as much as `provider_error` keeps of one."""
WAIT_S_MAX: Final = 31 * 86_400.0
"""No wait is longer. Precedent: limits of spending that begin again with a month (OpenAI, Anthropic, OpenRouter)."""
DAY_QUOTA_S: Final = 300.0
"""Precedent: an account without money (`credential_pool.QUOTA_COOLDOWN_S`)."""
_EPOCH_S_MIN: Final = 1_000_000_000
"""A larger number is a time since 1970: as seconds 2001, and as a wait it would be 31 years."""
_EPOCH_MS_MIN: Final = 1_000_000_000_000

_UNITS: Final[Mapping[str, float]] = {
    "ms": 0.001,
    "milliseconds": 0.001,
    "millisecond": 0.001,
    "µs": 1e-6,
    "us": 1e-6,
    "ns": 1e-9,
    "s": 1.0,
    "sec": 1.0,
    "secs": 1.0,
    "second": 1.0,
    "seconds": 1.0,
    "m": 60.0,
    "min": 60.0,
    "mins": 60.0,
    "minute": 60.0,
    "minutes": 60.0,
    "h": 3600.0,
    "hour": 3600.0,
    "hours": 3600.0,
    "d": 86400.0,
    "day": 86400.0,
    "days": 86400.0,
}
_STEPS: Final = re.compile(
    r"(\d{1,9}(?:\.\d{1,9})?)\s{0,2}(" + "|".join(sorted(_UNITS, key=len, reverse=True)) + r")(?![a-zµ])", re.IGNORECASE
)
_SAID: Final = re.compile(
    r"(?:try again|retry|wait|available again|resets?)(?: \w+){0,3}? (?:in|after|for|at least)?\s?(?=\d)", re.IGNORECASE
)


_UNTIL: Final = re.compile(
    r"(?:regain access|try again|retry|available again|resets?)(?: \w+){0,2}? (?:on|at|after) "
    r"(\d{4}-\d\d-\d\d)(?:T| at | )(\d\d:\d\d(?::\d\d)?) ?(?:UTC|GMT|Z)\b",
    re.IGNORECASE,
)


def wait_s(headers: Headers, error: ProviderError | None, now: datetime) -> float | None:
    """Return the seconds to wait from `now` (UTC) on; None: nothing says how long."""
    named = {name.decode("latin-1"): value.decode("latin-1").strip() for name, value in headers}
    details: Mapping[str, Any] = error.details if error else {}
    metadata = details.get("metadata")
    within = metadata.get("headers") if isinstance(metadata, dict) else None
    if isinstance(within, dict):
        named |= {str(name).lower(): str(value) for name, value in within.items() if str(name).lower() not in named}
    for found in (
        _retry_after_s(named, now),
        _retry_info_s(details),
        _metadata_s(metadata, now) if isinstance(metadata, dict) else None,
        _reset_s(named, now),
        said_s(error.message, now) if error else None,
    ):
        if found is not None:
            return min(found, WAIT_S_MAX)
    return DAY_QUOTA_S if _is_daily(details) else None


def said_s(text: str, now: datetime) -> float | None:
    """Return the wait that a message asks for in words."""
    text = text[:WORDS_CHARS_MAX]
    for said in _SAID.finditer(text):
        found = duration_s(_leading(text[said.end() : said.end() + TEXT_CHARS_MAX]))
        if found is not None:
            return found
    until = _UNTIL.search(text)
    return (_date_s(f"{until[1]}T{until[2]}+00:00", now) or None) if until else None


def duration_s(text: str) -> float | None:
    """Read a duration: `7m12s`, `38.2s`, `20 seconds`, `6m0s`, `120ms`."""
    text = text.strip()
    steps = list(_STEPS.finditer(text))
    if not steps or _STEPS.sub("", text).strip(" ,"):
        return None
    return sum(float(step[1]) * _UNITS[step[2].lower()] for step in steps)


def _leading(text: str) -> str:
    """Return the duration that a text begins with."""
    end = 0
    while (step := _STEPS.match(text, end)) is not None:
        end = step.end()
        while text[end : end + 1] in (" ", ","):
            end += 1
    return text[:end]


def _retry_after_s(named: Mapping[str, str], now: datetime) -> float | None:
    """Return what `Retry-After` and its like say, if that is a time to come."""
    for name, scale in (("retry-after-ms", 0.001), ("x-ms-retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = named.get(name, "")
        seconds = _number(text)
        if seconds is not None:
            return seconds * scale
        if name == "retry-after" and (until := _date_s(text, now)) > 0:
            return until
    return None


def _retry_info_s(details: Mapping[str, Any]) -> float | None:
    for one in _objects(details.get("details")):
        delay = one.get("retryDelay")
        if isinstance(delay, str) and (found := duration_s(delay)) is not None:
            return found
        if isinstance(delay, dict) and isinstance(seconds := delay.get("seconds"), int | str):
            return _number(str(seconds))
    return None


def _metadata_s(metadata: Mapping[str, Any], now: datetime) -> float | None:
    """Return what OpenRouter says beside the upstream's error: seconds, or when a budget begins again."""
    seconds, until = metadata.get("retry_after_seconds"), metadata.get("resets_at")
    if isinstance(seconds, int | float | str) and (found := _number(str(seconds))) is not None:
        return found
    return (_date_s(until, now) or None) if isinstance(until, str) else None


def _reset_s(named: Mapping[str, str], now: datetime) -> float | None:
    """Return the longest wait of the limits that are used up; of those that do not say so, the shortest."""
    spent: list[float] = []
    unknown: list[float] = []
    for name, value in named.items():
        if "ratelimit" not in name or "reset" not in name:
            continue
        seconds = _until_s(value, now)
        if seconds is None:
            continue
        remaining = _number(named.get(name.replace("reset", "remaining"), ""))
        if remaining is None:
            unknown.append(seconds)
        elif remaining < 1:
            spent.append(seconds)
    if spent:
        return max(spent)
    return min(unknown) if unknown else None


def _until_s(text: str, now: datetime) -> float | None:
    """Read when a limit resets: a duration, seconds, or a time."""
    number = _number(text)
    if number is None:
        found = duration_s(text)
        return found if found is not None else (_date_s(text, now) or None)
    if number >= _EPOCH_MS_MIN:
        return max(0.0, number / 1000 - now.timestamp())
    return max(0.0, number - now.timestamp()) if number >= _EPOCH_S_MIN else number


def _is_daily(details: Mapping[str, Any]) -> bool:
    """Whether a quota of a day is used up (google.rpc.QuotaFailure of Gemini)."""
    return any(
        "perday" in str(violation.get("quotaId", "")).lower()
        for one in _objects(details.get("details"))
        for violation in _objects(one.get("violations"))
    )


def _objects(value: object) -> list[Mapping[str, Any]]:
    return [one for one in value[:8] if isinstance(one, dict)] if isinstance(value, list) else []


def _number(text: str) -> float | None:
    """Return a number of zero or more; None for anything else, `inf` and `nan` among them."""
    if not 0 < len(text) <= TEXT_CHARS_MAX:
        return None
    try:
        found = float(text)
    except ValueError:
        return None
    return found if 0.0 <= found < float("inf") else None


def _date_s(text: str, now: datetime) -> float:
    """Return the seconds until a date of RFC 9110 5.6.7 or RFC 3339; 0 if it is past, or none."""
    if not 0 < len(text) <= TEXT_CHARS_MAX:
        return 0.0
    try:
        until = datetime.fromisoformat(text) if text[:4].isdigit() else parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0
    if until.tzinfo is None:  # the old form without a zone, and "-0000": both are UTC
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - now).total_seconds())
