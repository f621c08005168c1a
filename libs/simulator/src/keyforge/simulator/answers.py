"""The bodies of the simulated provider, in OpenAI's shapes and deterministic, and what they bill."""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec

from keyforge.simulator.script import MODELS, Behaviour

TOKENS_DEFAULT: Final = 16
"""Tokens of an answer by default (fewer if the request's maximum is lower)."""
MAX_TOKENS_DEFAULT: Final = 4096
"""The maximum of a request without one; the embedded stack prices models with the same."""
CONTENT_TOKENS_MAX: Final = 16_384
"""Text is written for this many tokens at most; the usage may claim more."""
DIMENSIONS: Final = 8
"""Of an embedding."""
CREATED: Final = 1_760_000_000
_TOKEN: Final = "word "
_REQUEST_TOKENS, _MESSAGE_TOKENS, _TOOLS_TOKENS = 64, 16, 1024  # the constants of the gateway's own worst case
_encode = msgspec.json.Encoder().encode


class Bill(NamedTuple):
    """Tokens of one answer."""

    prompt: int
    completion: int


class Piece(NamedTuple):
    """One event of a stream and the completion tokens that are billed once it is written."""

    data: bytes
    tokens: int = 0


def count(value: object) -> int | None:
    """Return a positive integer, or None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def max_tokens(request: dict[str, Any]) -> int | None:
    """Return the request's own maximum per completion."""
    given = [tokens for name in ("max_completion_tokens", "max_tokens") if (tokens := count(request.get(name)))]
    return min(given) if given else None


def bill(request: dict[str, Any], body_bytes: int, behaviour: Behaviour, *, embeddings: bool) -> Bill:
    """Return what a request costs, in tokens.

    `asked`: a token per four bytes of body, and 16 per completion within the maximum. `worst`: the most
    that the gateway must expect: a token per byte and constants, and the maximum for every completion.
    """
    parts = request.get("input" if embeddings else "messages")
    items = len(parts) if isinstance(parts, list) else 1
    completions = 0 if embeddings else count(request.get("n")) or 1
    if behaviour.bill == "worst":
        prompt = body_bytes + _REQUEST_TOKENS + _MESSAGE_TOKENS * items
        prompt += _TOOLS_TOKENS if request.get("tools") or request.get("functions") else 0
        completion = (max_tokens(request) or MAX_TOKENS_DEFAULT) * completions
    else:
        prompt = body_bytes // 4 + 1
        completion = min(max_tokens(request) or MAX_TOKENS_DEFAULT, TOKENS_DEFAULT) * completions
    if behaviour.prompt_tokens is not None:
        prompt = behaviour.prompt_tokens
    if behaviour.completion_tokens is not None and not embeddings:
        completion = behaviour.completion_tokens
    return Bill(prompt, completion)


def usage(billed: Bill, behaviour: Behaviour, *, embeddings: bool = False) -> dict[str, Any]:
    """Return the `usage` object."""
    counted: dict[str, Any] = {"prompt_tokens": billed.prompt, "total_tokens": billed.prompt + billed.completion}
    if not embeddings:
        counted["completion_tokens"] = billed.completion
        counted["prompt_tokens_details"] = {"cached_tokens": behaviour.cached_tokens, "audio_tokens": 0}
        counted["completion_tokens_details"] = {"reasoning_tokens": behaviour.reasoning_tokens, "audio_tokens": 0}
    return counted


def completion(number: int, request: dict[str, Any], behaviour: Behaviour, billed: Bill) -> bytes:
    """Return a chat completion."""
    completions = count(request.get("n")) or 1
    text = behaviour.content or _TOKEN * min(billed.completion // completions, CONTENT_TOKENS_MAX)
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
        for index in range(completions)
    ]
    answer = {**_frame(number, request, "chat.completion"), "choices": choices}
    if behaviour.usage:
        answer["usage"] = usage(billed, behaviour)
    return _encode(answer)


def embeddings(request: dict[str, Any], behaviour: Behaviour, billed: Bill) -> bytes:
    """Return embeddings: one small vector for each input."""
    given = request.get("input")
    items = len(given) if isinstance(given, list) else 1
    vector = [0.125] * DIMENSIONS
    answer: dict[str, Any] = {
        "object": "list",
        "model": request.get("model"),
        "data": [{"object": "embedding", "index": index, "embedding": vector} for index in range(items)],
    }
    if behaviour.usage:
        answer["usage"] = usage(billed, behaviour, embeddings=True)
    return _encode(answer)


def models() -> bytes:
    """Return the list of models."""
    known = [{"id": name, "object": "model", "created": CREATED, "owned_by": "simulator"} for name in MODELS]
    return _encode({"object": "list", "data": known})


def error(status: int, message: str) -> bytes:
    """Return an error body like OpenAI's."""
    kind = {401: "invalid_request_error", 429: "rate_limit_exceeded"}.get(status, "server_error")
    return _encode({"error": {"message": message, "type": kind, "param": None, "code": None}})


def stream(number: int, request: dict[str, Any], behaviour: Behaviour, billed: Bill) -> Iterator[Piece]:
    """Yield the events of a streamed completion: role, text in `behaviour.chunks` pieces, finish, usage, DONE."""
    options = request.get("stream_options")
    wants_usage = isinstance(options, dict) and options.get("include_usage") is True and behaviour.usage
    frame = _frame(number, request, "chat.completion.chunk")
    if wants_usage:
        frame["usage"] = None

    def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return b"data: " + _encode({**frame, "choices": [choice]}) + b"\n\n"

    chunks = max(min(behaviour.chunks, billed.completion), 1)
    yield Piece(event({"role": "assistant", "content": ""}))
    for at in range(chunks):
        if at == behaviour.malformed_after_chunks:
            yield Piece(b'data: {"id": "chatcmpl-broken", "choices": [{"del\n\n')
        if at == behaviour.error_after_chunks:
            yield Piece(b"data: " + error(500, "The simulated engine failed.") + b"\n\n")
            return
        tokens = billed.completion * (at + 1) // chunks - billed.completion * at // chunks
        text = behaviour.content or _TOKEN * min(tokens, CONTENT_TOKENS_MAX // chunks)
        yield Piece(event({"content": text}), tokens)
    yield Piece(event({}, "stop"))
    if wants_usage:
        yield Piece(b"data: " + _encode({**frame, "choices": [], "usage": usage(billed, behaviour)}) + b"\n\n")
    if behaviour.done:
        yield Piece(b"data: [DONE]\n\n")


def _frame(number: int, request: dict[str, Any], kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-sim-{number}",
        "object": kind,
        "created": CREATED,
        "model": request.get("model"),
        "system_fingerprint": "fp_sim",
    }
