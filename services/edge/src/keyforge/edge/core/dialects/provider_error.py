"""Finds the error in what a provider sent, in whichever form: whole, in an event, in a list, as text, in a 200.

Providers say the same in many shapes; the ones below are from their documentation and from public reports:

    {"error": {"message", "type", "code", "param"}}             OpenAI, Groq, DeepSeek, Mistral's gateway, xAI
    {"error": {"code": 429, "message", "metadata"}}             OpenRouter, also in a 200 and in a stream
    [{"error": {"code", "message", "status", "details"}}]       Gemini's compatible endpoint (google.rpc.Status)
    {"type": "error", "error": {"type", "message"}}             Anthropic
    {"object": "error", "message", "type", "code"}              vLLM, Mistral
    {"choices": null, "error_type", "error_message", "code"}    Venice
    {"choices": [{"finish_reason": "error", "error": {...}}]}   OpenRouter, after content
    {"detail": "..."} or {"detail": [{"loc", "msg"}]}           FastAPI, Mistral's 422
    {"message": "..."}, {"error": "..."}, text                  Cohere, Bedrock, Ollama, proxies
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from keyforge.contracts.unreadable import UNREADABLE

LOOKED_AT_MAX: Final = 8
"""Members of a list that are looked at for an error. Precedent: Gemini's lists have one."""
MESSAGE_CHARS_MAX: Final = 2_000
"""Of a message that is written again. Chosen: twice the longest documented one, Gemini's on quotas."""
UNKNOWN_STATUS: Final = 502
"""Of an error that names no status: the provider failed."""
WORD_CHARS_MAX: Final = 200
"""Of a code or a type that is looked at. Chosen: three times the longest known one, a name of a Java exception; rows of
words are searched in all of it (2 s in one of 8 MB)."""
LEVELS_MAX: Final = 8
"""Of lists and objects around an error that are looked into. Precedent: Gemini's has two."""

_MESSAGES: Final = ("message", "error_message", "msg", "detail", "errors", "error", "description", "title", "reason")
_STATUSES: Final = ("code", "status", "status_code", "statusCode", "http_status", "http_code")
_WORDS: Final = ("code", "type", "status", "error_type", "reason", "errorCode", "__type")
_WORDS_WITHIN: Final = ("reason", "error_type", "error_code", "limit_source")
"""In `details`, google.rpc.ErrorInfo's and Anthropic's; and in OpenRouter's `metadata`."""
_STATUS_OF: Final[Mapping[str, int]] = {
    # google.rpc.Code, as JSON of the compatible endpoint (cloud.google.com/apis/design/errors)
    "invalid_argument": 400,
    "failed_precondition": 400,
    "out_of_range": 400,
    "unauthenticated": 401,
    "permission_denied": 403,
    "resource_exhausted": 429,
    "aborted": 409,
    "already_exists": 409,
    "internal": 500,
    "unknown": 500,
    "unimplemented": 501,
    "unavailable": 503,
    "deadline_exceeded": 504,
    "cancelled": 499,
    # Anthropic (docs: API errors)
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
    # OpenAI and those that follow it
    "invalid_api_key": 401,
    "insufficient_quota": 429,
    "rate_limit_exceeded": 429,
    "model_not_found": 404,
    "context_length_exceeded": 400,
    "server_error": 500,
    "content_filter": 400,
    "engine_overloaded": 503,
    "server_is_overloaded": 503,
    # OpenRouter (its OpenAPI document: ApiErrorType), where `code` is no status
    "authentication": 401,
    "payload_too_large": 413,
    "unprocessable": 422,
    "server": 500,
    "provider_unavailable": 502,
    "provider_overloaded": 503,
    # vLLM, LiteLLM, FastAPI: the names of exceptions and of statuses
    "badrequesterror": 400,
    "bad_request": 400,
    "validation_error": 422,
    "unauthorized": 401,
    "authenticationerror": 401,
    "forbidden": 403,
    "permissiondeniederror": 403,
    "not_found": 404,
    "notfounderror": 404,
    "ratelimiterror": 429,
    "rate_limited": 429,
    "too_many_requests": 429,
    "insufficient_balance": 402,
    "payment_required": 402,
    "internal_server_error": 500,
    "internalservererror": 500,
    "internal_error": 500,
    "service_unavailable": 503,
    "serviceunavailableerror": 503,
    "overloaded": 503,
    "timeout": 504,
}
"""The status that a word stands for, in lower case."""


class ProviderError(msgspec.Struct, frozen=True):
    """An error in its provider's words.

    `status` is 400 to 599: of the head, or what the body says where the head says that all is well. `words` are the
    short names in it (codes, types), in lower case. `details` is the object that they came from. `readable`: the whole
    is what clients of OpenAI's dialect read, `{"error": {"message": ...}}`. `named`: the status was not made up.
    """

    status: int
    message: str
    words: tuple[str, ...] = ()
    details: Mapping[str, Any] = {}
    readable: bool = False
    named: bool = True


def error_in(document: object, head_status: int = 200) -> ProviderError | None:
    """Return the error in decoded JSON; None: there is none. Anything is one where the head's status is 400 or more.

    A falsy `error` (null, {}, "", false) is none: some providers send one with every chunk.
    """
    found = _details(document, wrong=head_status >= 400)
    if found is None:
        return None
    details, whole = found
    words = tuple(dict.fromkeys(_words(details)))
    status = head_status if head_status >= 400 else _status(details, words)
    readable = whole and isinstance(details.get("message"), str) and bool(details["message"])
    return ProviderError(
        status or UNKNOWN_STATUS, _message(details), words, details, readable=readable, named=bool(status)
    )


def error_of(body: bytes, head_status: int) -> ProviderError | None:
    """Return the error in a whole body: JSON, JSON after `data:`, or text. None: there is none."""
    text = body.removeprefix(b"\xef\xbb\xbf").strip()
    for part in (text, *_event_data(text)):
        try:
            document = json.loads(part)
        except (ValueError, RecursionError):
            continue
        found = error_in(document, head_status)
        as_it_is = part is text and body.lstrip().startswith(b"{") and b"\0" not in text[:4]  # no mark, and UTF-8
        return found if found is None or as_it_is else msgspec.structs.replace(found, readable=False)
    if head_status < 400:
        return None
    return ProviderError(head_status, _shortened(_plain(text.decode("utf-8", "replace"))))


def as_json(body: bytes) -> object:
    """Return a decoded body; None where it is not JSON."""
    try:
        return msgspec.json.decode(body)
    except UNREADABLE:
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            return None


def _event_data(text: bytes) -> Iterator[bytes]:
    """Yield what the first events of a stream carry, where one was not asked for."""
    if text.startswith((b"data:", b"event:", b":")):
        lines = [line[5:].strip() for line in text.splitlines() if line.startswith(b"data:")]
        yield from lines[:LOOKED_AT_MAX]


def _details(document: object, *, wrong: bool, levels: int = LEVELS_MAX) -> tuple[Mapping[str, Any], bool] | None:
    """Return the object that describes an error, and whether it stands where OpenAI's clients look."""
    if isinstance(document, list):
        for one in document[:LOOKED_AT_MAX] if levels else ():
            if isinstance(one, dict) and (found := _details(one, wrong=False, levels=levels - 1)):
                return found[0], False
        return ({"message": _dumped(document)}, False) if wrong else None
    if not isinstance(document, dict):
        return ({} if document is None else {"message": str(document)}, False) if wrong else None
    error = document.get("error")
    if isinstance(error, dict) and any(error.values()):
        return error, True
    if isinstance(error, list) and error:
        return _details([{"error": one} for one in error[:LOOKED_AT_MAX]], wrong=wrong, levels=levels)
    if error and isinstance(error, str):
        return {**document, "message": document.get("message") or error}, False
    if document.get("object") == "error" or document.get("type") == "error" or document.get("error_message"):
        return document, False
    if (failed := _failed_choice(document.get("choices"))) is not None:
        return failed, False
    return (document, False) if wrong or (error and not isinstance(error, dict)) else None


def _failed_choice(choices: object) -> Mapping[str, Any] | None:
    """Return what a completion failed with, of which OpenRouter says so in its place."""
    for choice in choices[:LOOKED_AT_MAX] if isinstance(choices, list) else ():
        if isinstance(choice, dict) and (
            isinstance(choice.get("error"), dict) or choice.get("finish_reason") == "error"
        ):
            error = choice.get("error")
            return error if isinstance(error, dict) and error else {"message": "The completion ended with an error."}
    return None


def _status(details: Mapping[str, Any], words: tuple[str, ...]) -> int:
    """Return the status that an error names; 0: none."""
    for name in _STATUSES:
        value = details.get(name)
        if isinstance(value, str) and value.isdecimal():
            value = int(value) if len(value) == 3 else 0
        if isinstance(value, int) and not isinstance(value, bool) and 400 <= value <= 599:
            return value
    return next((_STATUS_OF[word] for word in words if word in _STATUS_OF), 0)


def _words(details: Mapping[str, Any]) -> Iterator[str]:
    for name in _WORDS:
        value = details.get(name)
        if isinstance(value, str) and value:
            yield value[:WORD_CHARS_MAX].lower()
    inner = details.get("details")
    for one in (*(inner[:LOOKED_AT_MAX] if isinstance(inner, list) else [inner]), details.get("metadata")):
        if isinstance(one, dict):
            named = (value for name in _WORDS_WITHIN if isinstance(value := one.get(name), str))
            yield from (value[:WORD_CHARS_MAX].lower() for value in named)
            if one.get("reasons"):
                yield "moderation"


def _message(details: Mapping[str, Any]) -> str:
    """Return what is meant for a person."""
    for name in _MESSAGES:
        value = details.get(name)
        if isinstance(value, str) and value.strip():
            return _shortened(value)
        if isinstance(value, dict | list) and value:
            return _shortened("; ".join(_listed(value)) or _dumped(value))
    return _shortened(_dumped(details)) if details else ""


def _dumped(value: object) -> str:
    """Return a value as JSON; nothing where it is too deep to be written."""
    try:
        return json.dumps(value, default=str)
    except RecursionError:
        return ""


def _listed(value: object) -> Iterator[str]:
    """Yield the messages of a list, with the place of each, as FastAPI and pydantic write it."""
    for one in value[:LOOKED_AT_MAX] if isinstance(value, list) else [value]:
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            place = ".".join(map(str, one["loc"])) if isinstance(one.get("loc"), list) else ""
            text = next((one[name] for name in ("msg", "message", "detail") if isinstance(one.get(name), str)), "")
            if text:
                yield f"{place}: {text}" if place else text


def _plain(text: str) -> str:
    """Return a page of HTML as its text would be read, roughly: proxies answer with one."""
    if not text.lstrip().startswith("<"):
        return text
    shown: list[str] = []
    for piece in text[: 4 * MESSAGE_CHARS_MAX].split("<")[1:]:
        tag, _, after = piece.partition(">")
        if not tag.lower().startswith(("style", "script")) and after.strip():
            shown.append(after.strip())
    return " ".join(shown)


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= MESSAGE_CHARS_MAX else text[: MESSAGE_CHARS_MAX - 1] + "…"
