"""What one fault is: its status, head, body, events and pauses, and the pieces that rows of the tables are made of."""

from typing import Any, Final, Literal

import msgspec

PROMPT_TOKENS, COMPLETION_TOKENS = 25, 9
"""What an answer with a fault bills where nothing else is given."""
SHOWN_TOKENS = 4
"""What a stream bills that ends with an error after its first words."""
SECONDS_MAX: Final = 3_600.0
"""Of a pause or a wait. Precedent: the longest time limit of a request that the gateway takes."""
SIZE_BYTES_MAX: Final = 64 * 1024 * 1024
"""Of a large event. Chosen: 16 times what an edge forwards by default (KEYFORGE_BODY_BYTES_MAX, 4 MiB)."""

Pause = Literal["pause"]
PAUSE: Final[Pause] = "pause"
"""Among events: nothing is sent for as many seconds as the fault has."""


class ProviderFault(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a table.

    Texts are templates: `$seconds` and its like (`replay.variables`) stand for what a name's number or the time fills
    in. An event that is a string is sent as it is, any other as `data: JSON`.
    """

    about: str
    """What is sent, and who does so."""
    status: int = 200
    headers: dict[str, str] = {}
    body: Any = msgspec.UNSET
    """Of a whole answer: a string is sent as it is, all else as JSON. UNSET: a completion, or embeddings."""
    events: tuple[Any, ...] | msgspec.UnsetType = msgspec.UNSET
    """Of a stream. UNSET: an answer without a fault in it."""
    form: Literal["asked", "whole", "stream"] = "asked"
    """Whole or streamed whatever was asked; an error status is always whole."""
    usage: Any = msgspec.UNSET
    """`usage` of a whole answer."""
    content_type: str | None = None
    gzip: bool = False
    waits: bool = False
    """The pause is before the head."""
    seconds: float | None = None
    """Of a pause or a wait, unless the name ends in another number."""
    size_bytes: int | None = None
    """Of an event, likewise."""
    after: Literal["reset", "close", "idle"] | None = None
    """How the connection ends: in the instant of its next request, or once it is idle for the seconds."""
    billed: tuple[int, int] = (PROMPT_TOKENS, COMPLETION_TOKENS)
    """Tokens of the prompt and the completion: what is true, whatever the answer reports."""


def refused(
    status: int, about: str, body: object, headers: dict[str, str] | None = None, seconds: float | None = None
) -> ProviderFault:
    """An error status, which bills nothing."""
    return ProviderFault(about=about, status=status, body=body, headers=headers or {}, seconds=seconds, billed=(0, 0))


def streamed(about: str, *events: object, **fields: Any) -> ProviderFault:
    """An answer that is unusual as a stream only."""
    return ProviderFault(about=about, events=events, **fields)


def usage_of(prompt: object = PROMPT_TOKENS, completion: object = COMPLETION_TOKENS, **more: object) -> dict[str, Any]:
    """A usage object with OpenAI's names."""
    return {"prompt_tokens": prompt, "completion_tokens": completion, **more}


def chunk(text: str | None = None, finish: object = None, **more: object) -> dict[str, Any]:
    """A chunk of a completion; `more` adds fields to it or replaces them."""
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {**_FRAME, "object": "chat.completion.chunk", "choices": [choice], **more}


def completion(finish: object = "stop", **more: object) -> dict[str, Any]:
    """A whole completion; `more` adds fields to it or replaces them."""
    choice = {"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": finish}
    return {**_FRAME, "object": "chat.completion", "choices": [choice], "usage": USAGE, **more}


_FRAME: Final = {"id": "chatcmpl-sim-fault", "created": 1_760_000_000, "model": "sim-fault"}
TEXT: Final = "hey"
USAGE: Final = usage_of(total_tokens=PROMPT_TOKENS + COMPLETION_TOKENS)
DONE: Final = "data: [DONE]\n\n"
HEY: Final = chunk(TEXT)
STOP: Final = chunk(None, "stop")
USED: Final = chunk(choices=[], usage=USAGE)
END: Final = (STOP, USED, DONE)
"""How a stream ends in good order."""
