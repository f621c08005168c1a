"""The bodies of the simulated provider, in OpenAI's shapes and deterministic, and what they bill."""

import base64
import struct
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec

from keyforge.simulator.faults.replay import DIMENSIONS
from keyforge.simulator.replies import Reply
from keyforge.simulator.script import ANSWERING, Behaviour

TOKENS_DEFAULT: Final = 16
"""Tokens of an answer by default (fewer if the request's maximum is lower)."""
MAX_TOKENS_DEFAULT: Final = 4096
"""The maximum of a request without one; the embedded stack prices models with the same."""
CONTENT_TOKENS_MAX: Final = 16_384
"""Text is written for this many tokens at most; the usage may claim more."""
CREATED: Final = 1_760_000_000
_TOKEN: Final = "word "
_REQUEST_TOKENS, _MESSAGE_TOKENS, _TOOLS_TOKENS = 64, 16, 1024  # the constants of the gateway's own worst case
_PLAIN: Final = Reply()
_encode = msgspec.json.Encoder().encode


class Bill(NamedTuple):
    """Tokens of one answer; cached ones are among the prompt's, those of reasoning among the completion's."""

    prompt: int
    completion: int
    cached: int = 0
    reasoning: int = 0


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


def tokens_max(request: dict[str, Any]) -> int:
    """Return the most tokens that one completion may have."""
    return max_tokens(request) or MAX_TOKENS_DEFAULT


def bill(
    request: dict[str, Any],
    body_bytes: int,
    behaviour: Behaviour,
    reply: Reply | None = None,
    *,
    embeddings: bool = False,
    cached: int = 0,
) -> Bill:
    """Return what a request costs, in tokens.

    `asked`: a token per four bytes of body; a completion's reasoning, and what was made or 16 of plain
    words, within the maximum. `worst`: the most that the gateway must expect: a token per byte and constants, and the
    maximum for every completion.
    """
    parts = request.get("input" if embeddings else "messages")
    items = len(parts) if isinstance(parts, list) else 1
    completions = 0 if embeddings else count(request.get("n")) or 1
    if behaviour.bill == "worst":
        prompt = body_bytes + _REQUEST_TOKENS + _MESSAGE_TOKENS * items
        prompt += _TOOLS_TOKENS if request.get("tools") or request.get("functions") else 0
        completion = tokens_max(request) * completions
    else:
        prompt = body_bytes // 4 + 1
        made = TOKENS_DEFAULT if reply is None or reply.made_tokens is None else reply.made_tokens
        reasoned = reply.reasoning_tokens if reply else 0
        cut = reply is not None and reply.finish == "length"
        completion = (tokens_max(request) if cut else min(tokens_max(request), made + reasoned)) * completions
    if behaviour.prompt_tokens is not None:
        prompt = behaviour.prompt_tokens
    if behaviour.completion_tokens is not None and not embeddings:
        completion = behaviour.completion_tokens
    reasoning = behaviour.reasoning_tokens or min((reply.reasoning_tokens if reply else 0) * completions, completion)
    return Bill(prompt, completion, behaviour.cached_tokens or min(cached, prompt), reasoning)


def usage(billed: Bill, *, embeddings: bool = False) -> dict[str, Any]:
    """Return the `usage` object."""
    counted: dict[str, Any] = {"prompt_tokens": billed.prompt, "total_tokens": billed.prompt + billed.completion}
    if not embeddings:
        counted["completion_tokens"] = billed.completion
        counted["prompt_tokens_details"] = {"cached_tokens": billed.cached, "audio_tokens": 0}
        counted["completion_tokens_details"] = {"reasoning_tokens": billed.reasoning, "audio_tokens": 0}
    return counted


def completion(
    number: int, request: dict[str, Any], behaviour: Behaviour, billed: Bill, reply: Reply | None = None
) -> bytes:
    """Return a chat completion."""
    completions = count(request.get("n")) or 1
    reply = reply or _PLAIN
    words = (billed.completion - billed.reasoning * bool(reply.reasoning_tokens)) // completions
    text = behaviour.content or _TOKEN * min(words, CONTENT_TOKENS_MAX)
    choices: list[dict[str, Any]] = []
    for index in range(completions):
        message = reply.message(f"{number}_{index}")
        if reply.made_tokens is None:
            message["content"] = text
        choices.append({"index": index, "message": message, "logprobs": None, "finish_reason": reply.finish})
    answer = {**_frame(number, request, "chat.completion"), "choices": choices}
    if behaviour.usage:
        answer["usage"] = usage(billed)
    return _encode(answer)


def embeddings(request: dict[str, Any], behaviour: Behaviour, billed: Bill) -> bytes:
    """Return embeddings: one small vector for each input, of floats or in base64 as OpenAI's clients ask by default."""
    given = request.get("input")
    items = len(given) if isinstance(given, list) else 1
    vector: list[float] | str = [0.125] * DIMENSIONS
    if request.get("encoding_format") == "base64":
        vector = base64.b64encode(struct.pack(f"<{DIMENSIONS}f", *vector)).decode()
    answer: dict[str, Any] = {
        "object": "list",
        "model": request.get("model"),
        "data": [{"object": "embedding", "index": index, "embedding": vector} for index in range(items)],
    }
    if behaviour.usage:
        answer["usage"] = usage(billed, embeddings=True)
    return _encode(answer)


def models() -> bytes:
    """Return the list of models."""
    known = [{"id": name, "object": "model", "created": CREATED, "owned_by": "simulator"} for name in ANSWERING]
    return _encode({"object": "list", "data": known})


def error(status: int, message: str, param: str | None = None) -> bytes:
    """Return an error body like OpenAI's."""
    kind = {401: "invalid_request_error", 429: "rate_limit_exceeded"}.get(status, "server_error")
    if param is not None:
        kind = "invalid_request_error"
    return _encode({"error": {"message": message, "type": kind, "param": param, "code": None}})


def stream(
    number: int, request: dict[str, Any], behaviour: Behaviour, billed: Bill, reply: Reply | None = None
) -> Iterator[Piece]:
    """Yield the events of a streamed answer: of each completion, one after the other, the role, deltas in
    `behaviour.chunks` pieces and its finish; then the usage, DONE."""
    options = request.get("stream_options")
    wants_usage = isinstance(options, dict) and options.get("include_usage") is True and behaviour.usage
    frame = _frame(number, request, "chat.completion.chunk")
    if wants_usage:
        frame["usage"] = None

    def event(index: int, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        return b"data: " + _encode({**frame, "choices": [choice]}) + b"\n\n"

    completions, written = count(request.get("n")) or 1, 0
    shares = zip(_shares(billed.completion, completions), _shares(billed.reasoning, completions), strict=True)
    for index, (tokens_of_one, reasoning_of_one) in enumerate(shares):
        one = billed._replace(completion=tokens_of_one, reasoning=reasoning_of_one)
        yield Piece(event(index, {"role": "assistant", "content": ""}))
        for delta, tokens in _deltas(f"{number}_{index}", behaviour, one, reply):
            if written == behaviour.malformed_after_chunks:
                yield Piece(b'data: {"id": "chatcmpl-broken", "choices": [{"del\n\n')
            if written == behaviour.error_after_chunks:
                yield Piece(b"data: " + error(500, "The simulated engine failed.") + b"\n\n")
                return
            written += 1
            yield Piece(event(index, delta), tokens)
        yield Piece(event(index, {}, reply.finish if reply else "stop"))
    if wants_usage:
        yield Piece(b"data: " + _encode({**frame, "choices": [], "usage": usage(billed)}) + b"\n\n")
    if behaviour.done:
        yield Piece(b"data: [DONE]\n\n")


def _deltas(
    completion_id: str, behaviour: Behaviour, billed: Bill, reply: Reply | None
) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield deltas, each with its share of the tokens."""
    words = billed.completion
    if reply is not None:
        made = list(reply.deltas(completion_id, behaviour.chunks)) or [{"content": ""}]
        tokens = billed.completion if reply.made_tokens is not None else min(billed.reasoning, billed.completion)
        yield from zip(made, _shares(tokens, len(made)), strict=True)
        if reply.made_tokens is not None:
            return
        words -= tokens
    chunks = max(min(behaviour.chunks, words), 1)
    for share in _shares(words, chunks):
        yield {"content": behaviour.content or _TOKEN * min(share, CONTENT_TOKENS_MAX // chunks)}, share


def _shares(tokens: int, parts: int) -> Iterator[int]:
    """Divide tokens among so many parts."""
    return (tokens * (at + 1) // parts - tokens * at // parts for at in range(parts))


def _frame(number: int, request: dict[str, Any], kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-sim-{number}",
        "object": kind,
        "created": CREATED,
        "model": request.get("model"),
        "system_fingerprint": "fp_sim",
    }
