"""Errors that come with status 200: each provider's shape of one, at each place in which it may stand."""

import json
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from keyforge.simulator.faults.fault import (
    DONE,
    HEY,
    PROMPT_TOKENS,
    SHOWN_TOKENS,
    STOP,
    USED,
    ProviderFault,
    chunk,
    completion,
)


class ErrorText(NamedTuple):
    """What an error is about, in the words that shapes need."""

    status: int
    message: str
    type: str
    code: str
    exception: str
    google: str


TOO_LONG: Final = ErrorText(
    400,
    "This model's maximum context length is 8192 tokens, and you asked for 9000.",
    "invalid_request_error",
    "context_length_exceeded",
    "BadRequestError",
    "INVALID_ARGUMENT",
)
"""The request's own fault: no other credential serves it."""
BUSY: Final = ErrorText(
    429,
    "Rate limit reached. Please try again in 7s.",
    "rate_limit_error",
    "rate_limit_exceeded",
    "RateLimitError",
    "RESOURCE_EXHAUSTED",
)
"""Another credential may serve it."""
MEANINGS: Final = {"": TOO_LONG, "-429": BUSY}

SHAPES: Final[dict[str, tuple[str, Callable[[ErrorText], object]]]] = {
    "openai": (
        "OpenAI, Groq, DeepSeek, xAI",
        lambda one: {"error": {"message": one.message, "type": one.type, "param": None, "code": one.code}},
    ),
    "openrouter": (
        "OpenRouter: an integer as the code",
        lambda one: {
            "error": {"code": one.status, "message": one.message, "metadata": {"provider_name": "Q"}},
            "user_id": "user_fixture",
        },
    ),
    "vllm": (
        "vLLM, Mistral: `object` is `error`",
        lambda one: {
            "object": "error",
            "message": one.message,
            "type": one.exception,
            "param": None,
            "code": one.status,
        },
    ),
    "venice": (
        "Venice: `choices` is null",
        lambda one: {
            "id": "x",
            "choices": None,
            "error_type": one.exception,
            "error_message": one.message,
            "code": one.status,
        },
    ),
    "anthropic": (
        "Anthropic",
        lambda one: {
            "type": "error",
            "error": {"type": one.type, "message": one.message},
            "request_id": "req_fixture",
        },
    ),
    "gemini": (
        "Gemini's compatible endpoint: in an array",
        lambda one: [{"error": {"code": one.status, "message": one.message, "status": one.google}}],
    ),
    "ollama": ("Ollama, proxies: `error` is text", lambda one: {"error": one.message}),
    "cohere": (
        "Cohere, Bedrock: a message and nothing else that says what it is",
        lambda one: {"message": one.message, "status_code": one.status},
    ),
    "fastapi": (
        "FastAPI: `detail`",
        lambda one: {"detail": [{"loc": ["body", "messages"], "msg": one.message, "type": one.code}]},
    ),
    "text": ("proxies: text, no JSON", lambda one: f"upstream error: {one.status} {one.message}"),
}
"""Whose shape it is, and the shape. Sources: the providers' pages on errors, and the public reports that name them."""


def _event(shape: object) -> object:
    """A shape as an event: text after `data:` as well."""
    return f"data: {shape}\n\n" if isinstance(shape, str) else shape


def _line(shape: object) -> str:
    """A shape as a line of its own."""
    return f"{shape}\n" if isinstance(shape, str) else f"{json.dumps(shape)}\n"


_SHOWN: Final = (PROMPT_TOKENS, SHOWN_TOKENS)

PLACES: Final[dict[str, tuple[str, Callable[[Any], ProviderFault]]]] = {
    "200": (
        "the whole body of a 200, JSON also where a stream was asked for",
        lambda shape: ProviderFault(about="", body=shape, form="whole", billed=(0, 0)),
    ),
    "first": (
        "the first event of a stream; the whole body where none was asked for",
        lambda shape: ProviderFault(about="", body=shape, events=(_event(shape),), billed=(0, 0)),
    ),
    "later": (
        "an event after the first words, which are billed; the whole body where no stream was asked for",
        lambda shape: ProviderFault(about="", body=shape, events=(HEY, chunk(" you"), _event(shape)), billed=_SHOWN),
    ),
    "line": (
        "a bare line in a stream, without `data:`; the whole body where none was asked for",
        lambda shape: ProviderFault(about="", body=shape, events=(_line(shape),), billed=(0, 0)),
    ),
}
"""Where it stands, and what is sent of a shape there."""

NAMED: Final = {
    f"{place}-{shape}{suffix}": at(form(meaning))
    for place, (_, at) in PLACES.items()
    for shape, (_, form) in SHAPES.items()
    for suffix, meaning in MEANINGS.items()
}
"""Each shape of each meaning at each place."""

_FAILED: Final = {"code": 502, "message": "Upstream error: the connection ended.", "metadata": {"provider_name": "Q"}}
OTHERS: Final = {
    "choices-null": ProviderFault(
        about="`choices` is null and there is no error (OpenRouter's free models, proxies)",
        body={"id": None, "choices": None, "usage": None},
        events=({"id": None, "choices": None, "usage": None}, DONE),
        billed=(0, 0),
    ),
    "choices-empty": ProviderFault(
        about="`choices` is empty, and nothing else comes",
        body=completion(choices=[]),
        events=(chunk(choices=[]), DONE),
        billed=(0, 0),
    ),
    "finish-error": ProviderFault(
        about="`finish_reason` is `error` (OpenRouter)",
        body=completion("error"),
        events=(HEY, chunk(None, "error"), USED, DONE),
    ),
    "finish-error-choice": ProviderFault(
        about="`finish_reason` is `error`, and the choice has the error (OpenRouter)",
        body=completion(choices=[{"index": 0, "message": {}, "finish_reason": "error", "error": _FAILED}]),
        events=(HEY, chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "error", "error": _FAILED}])),
    ),
    "error-falsy": ProviderFault(
        about='an answer in good order with `error` null, {}, "", false (no error)',
        body=completion(error={}),
        events=(
            {**HEY, "error": None},
            {**chunk(" you"), "error": ""},
            {**STOP, "error": {}},
            {**USED, "error": False},
            DONE,
        ),
    ),
    "json-for-stream": ProviderFault(about="a completion as JSON, also where a stream was asked for", form="whole"),
    "stream-for-json": ProviderFault(about="a stream, also where none was asked for", form="stream"),
}
