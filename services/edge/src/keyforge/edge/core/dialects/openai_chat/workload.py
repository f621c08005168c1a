"""What a request in this dialect asks of a model: what of it is not text, and how much it may write.

Some providers take a document or a film where an image should be: a few bytes of those are many pages, so what is not
an image is unbounded.
"""

import math
from collections.abc import Iterable
from operator import attrgetter
from typing import Any, Final

import msgspec
from msgspec import UNSET

from keyforge.edge.core.dialects.base import ParsedRequest
from keyforge.edge.core.dialects.openai_chat.request import (
    AudioPart,
    ChatMessage,
    ChatRequest,
    EmbeddingsRequest,
    ImagePart,
    ImageUrl,
    Part,
    TextPart,
    Tool,
)
from keyforge.edge.core.pricing import audio
from keyforge.edge.core.pricing.workload import Workload

AUDIO_BYTES_PER_TOKEN: Final = 16
"""At most 32 tokens a second are billed, and what `audio.py` accepts has at least 1,000 bytes a second."""
AUDIO_TOKENS: Final = 64
"""For the audio's head and a last second begun."""
_USUAL_TTLS: Final = frozenset((UNSET, None, "5m"))
_MARKED: Final = (TextPart, ImagePart)
"""The parts that can be kept in a cache."""
_cache_control, _content = attrgetter("cache_control"), attrgetter("content")
_SCHEME_CHARS: Final = 16
"""Enough of an address to see what it is."""


def of_embeddings(parsed: ParsedRequest) -> Workload:
    """Return the workload of a request for embeddings."""
    request: EmbeddingsRequest = parsed.content
    return Workload(parts=len(request.input) if isinstance(request.input, list) else 1, writes=False)


def of_chat(parsed: ParsedRequest) -> Workload:
    """Return the workload of a chat completion."""
    request: ChatRequest = parsed.content
    messages, prediction = request.messages, request.prediction
    workload = Workload(
        parts=len(messages),
        output_asked=_asked(request),
        completions=request.n or 1,
        thinking_asked=_thinking(request) if request.thinking or request.reasoning else 0,
        predicted_tokens=len(_text_of(prediction.content).encode()) if prediction else 0,
        tools=bool(request.tools or request.functions),
        cache_1h=_asks_for_an_hour((*messages, *request.tools) if request.tools else messages),
    )
    if list not in map(type, map(_content, messages)):  # one look at all of them: most conversations have no parts
        return workload
    workload = _with_parts(workload, messages)
    return msgspec.structs.replace(workload, unbounded=_placed(request)) if workload.unbounded else workload


def _with_parts(workload: Workload, messages: list[ChatMessage]) -> Workload:
    """Add what parts of messages contain besides text."""
    parts = [part for message in messages if isinstance(message.content, list) for part in message.content]
    images = [part for part in parts if isinstance(part, ImagePart)]
    sounds = [part for part in parts if isinstance(part, AudioPart)]
    return msgspec.structs.replace(
        workload,
        images=len(images),
        images_low=sum(isinstance(one.image_url, ImageUrl) and one.image_url.detail == "low" for one in images),
        audio_tokens=sum(len(one.input_audio.data) // AUDIO_BYTES_PER_TOKEN + AUDIO_TOKENS for one in sounds),
        inline_bytes=sum(map(_inline_bytes, parts)),
        unbounded=next(filter(None, map(_unbounded, parts)), ""),
        cache_1h=workload.cache_1h or _asks_for_an_hour(part for part in parts if isinstance(part, _MARKED)),
    )


def _asked(request: ChatRequest) -> int | None:
    one, other = request.max_completion_tokens, request.max_tokens
    return min(one, other) if one and other else one or other or None


def _thinking(request: ChatRequest) -> int:
    """Return the largest number in what an agent says of thinking, whatever its name is there: `budget_tokens`
    (Anthropic, Z.ai), `max_tokens` of OpenRouter's `reasoning`."""
    largest = (request.reasoning.max_tokens or 0) if request.reasoning else 0
    rest: list[Any] = [request.thinking]
    while rest:
        value = rest.pop()
        if isinstance(value, dict):
            rest += value.values()
        elif isinstance(value, list):
            rest += value
        elif isinstance(value, int | float) and value > largest:
            largest = math.ceil(value)
    return largest


def _asks_for_an_hour(marked: Iterable[ChatMessage | TextPart | ImagePart | Tool]) -> bool:
    """Return whether anything is to be kept in a cache for longer than the usual five minutes."""
    controls = [*filter(None, map(_cache_control, marked))]
    return bool(controls) and any(control.ttl not in _USUAL_TTLS for control in controls)


def _url(part: ImagePart) -> str:
    return part.image_url.url if isinstance(part.image_url, ImageUrl) else part.image_url


def _inline_bytes(part: Part) -> int:
    if isinstance(part, AudioPart):
        return len(part.input_audio.data)
    if isinstance(part, ImagePart) and _is_inline(_url(part)):
        return len(_url(part))
    return 0


def _is_inline(url: str) -> bool:
    return url[:_SCHEME_CHARS].lower().startswith("data:image/")


def _unbounded(part: Part) -> str:
    if isinstance(part, AudioPart) and not audio.is_bounded(part.input_audio.data, part.input_audio.format):
        return "`input_audio` must be an mp3, or an uncompressed wav that begins with its header."
    if isinstance(part, ImagePart):
        url = _url(part)
        if not _is_inline(url) and not url[:_SCHEME_CHARS].lower().startswith(("https://", "http://")):
            return "`image_url` must be an http(s) URL or a `data:` URL with an image type."
    return ""


def _placed(request: ChatRequest) -> str:
    """Return what is wrong with the first part whose cost has no bound, with its whole path."""
    for number, message in enumerate(request.messages):
        for place, part in enumerate(message.content if isinstance(message.content, list) else ()):
            if wrong := _unbounded(part):
                return wrong.replace("`", f"`messages[{number}].content[{place}].", 1)
    return ""


def _text_of(content: str | list[TextPart]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)
