"""The worst case of a request: the most that any provider can bill for it, in tokens and in nano-dollars.

Input: what a provider reads is in the body that we send, and no tokenizer makes more tokens than there are UTF-8
bytes. The body is JSON, in which a character is never shorter than in UTF-8, so its length bounds the text, tools and
schemas in it; constants are added for what providers put around a message and in front of tools. Images and audio are
not text: their bytes are taken out where they are inlined, and the most that a provider is known to bill is put in.
Some providers take a document or a film where an image should be: a few bytes of those are many pages, and are refused.
Output: the cap that we inject, for each completion. Reasoning is output; a prediction can be billed as output.
"""

import msgspec

from keyforge.contracts.directory import PriceEntry
from keyforge.contracts.errors import Problem, problem
from keyforge.contracts.money import TOKENS_PER_MTOK
from keyforge.contracts.usage import UnitPrices
from keyforge.edge.core.dialects.openai_chat.request import (
    AudioPart,
    ChatRequest,
    ImagePart,
    ImageUrl,
    Part,
    RequestBody,
    TextPart,
)
from keyforge.edge.core.pricing import audio

OUTPUT_TOKENS_DEFAULT = 4096
"""What a request that names no maximum may write at most."""
REQUEST_TOKENS = 64
"""What a provider may add to a request. Chosen: 20 times the 3 tokens with which OpenAI begins each answer."""
MESSAGE_TOKENS = 16
"""What it may add to each message; OpenAI adds 3 or 4."""
TOOLS_TOKENS = 1024
"""The instructions that a provider puts in front of tools; the largest known is 735 tokens."""
IMAGE_TOKENS = 50_000
"""The most expensive image known: 48,169 tokens, eight tiles of gpt-4o-mini."""
IMAGE_TOKENS_LOW = 3_072
"""With `detail: low`, at a provider that knows it: 2,833 tokens with gpt-4o-mini."""
IMAGE_BY_KIND = {"anthropic": 5_000, "mistral": 4_500}
"""Providers with a lower maximum, whatever the detail."""
IMAGES_MAX = 64
"""Chosen: at IMAGE_TOKENS each they are 3.2 million tokens, more than any model takes."""
AUDIO_BYTES_PER_TOKEN = 16
"""At most 32 tokens a second are billed, and what `audio.py` accepts has at least 1,000 bytes a second."""
AUDIO_TOKENS = 64
"""For the audio's head and a last second begun."""
_SCHEME_CHARS = 16
"""Enough of an address to see what it is."""


class Content(msgspec.Struct):
    """What of a request's content is not text."""

    images: int = 0
    image_tokens: int = 0
    audio_tokens: int = 0
    inline_bytes: int = 0
    unbounded: str = ""
    """What it holds that has no bound."""


class WorstCase(msgspec.Struct, frozen=True):
    """The most that a request can use and cost."""

    nusd: int
    input_tokens: int
    output_tokens: int

    @property
    def tokens(self) -> int:
        """All tokens."""
        return self.input_tokens + self.output_tokens


def output_cap(request: ChatRequest, key_max: int | None, price: PriceEntry) -> int:
    """Return how many tokens one completion may have: what was asked for, else a default, within every maximum."""
    cap = request.max_completion_tokens or request.max_tokens or OUTPUT_TOKENS_DEFAULT
    if request.max_tokens and request.max_tokens < cap:
        cap = request.max_tokens
    for tokens_max in (key_max, price.max_output_tokens, price.context_tokens):
        if tokens_max is not None and tokens_max < cap:
            cap = tokens_max
    return cap


def worst_case(request: RequestBody, body_bytes: int, cap: int, kind: str, prices: UnitPrices) -> WorstCase | Problem:
    """Return the worst case of `request`, whose body as sent to a provider of `kind` has `body_bytes`; `cap` is what
    `output_cap` returned, and is in that body. A problem if the content cannot be bounded."""
    if not isinstance(request, ChatRequest):
        inputs = len(request.input) if isinstance(request.input, list) else 1
        return _cost(body_bytes + REQUEST_TOKENS + MESSAGE_TOKENS * inputs, 0, prices, audio=False)
    content = _content(request, kind)
    if content.images > IMAGES_MAX:
        return problem(
            "unbounded_content",
            f"A request may contain at most {IMAGES_MAX} images.",
            metadata={"images_max": IMAGES_MAX},
        )
    if content.unbounded:
        return problem("unbounded_content", content.unbounded)
    given = body_bytes - content.inline_bytes + content.image_tokens + content.audio_tokens
    given += REQUEST_TOKENS + MESSAGE_TOKENS * len(request.messages)
    if request.tools or request.functions:
        given += TOOLS_TOKENS
    written = cap
    if request.prediction:
        written += len(_text_of(request.prediction.content).encode())
    return _cost(given, written * (request.n or 1), prices, audio=content.audio_tokens > 0)


def _cost(input_tokens: int, output_tokens: int, prices: UnitPrices, *, audio: bool) -> WorstCase:
    """Price it at the highest price that can apply: audio has its price only where some was sent; none is output."""
    input_nusd = max(prices.input_nusd, prices.cache_read_nusd, prices.cache_write_nusd)
    if audio:
        input_nusd = max(input_nusd, prices.input_audio_nusd)
    output_nusd = max(prices.output_nusd, prices.reasoning_nusd)
    scaled = input_tokens * input_nusd + output_tokens * output_nusd
    return WorstCase(prices.request_nusd - (-scaled // TOKENS_PER_MTOK), input_tokens, output_tokens)


def _content(request: ChatRequest, kind: str) -> Content:
    """Add up what is not text."""
    content = Content()
    for message in request.messages:
        if isinstance(message.content, list):
            for part in message.content:
                _add(content, part, kind)
    return content


def _add(content: Content, part: Part, kind: str) -> None:
    if isinstance(part, ImagePart):
        image = part.image_url
        url = image.url if isinstance(image, ImageUrl) else image
        low = isinstance(image, ImageUrl) and image.detail == "low" and kind == "openai"
        content.images += 1
        content.image_tokens += IMAGE_TOKENS_LOW if low else IMAGE_BY_KIND.get(kind, IMAGE_TOKENS)
        start = url[:_SCHEME_CHARS].lower()
        if start.startswith("data:image/"):
            content.inline_bytes += len(url)
        elif not start.startswith(("https://", "http://")):
            content.unbounded = "`image_url` must be an http(s) URL or a `data:` URL with an image type."
    elif isinstance(part, AudioPart):
        data = part.input_audio.data
        if not audio.is_bounded(data, part.input_audio.format):
            content.unbounded = "`input_audio` must be an mp3, or an uncompressed wav that begins with its header."
        content.audio_tokens += len(data) // AUDIO_BYTES_PER_TOKEN + AUDIO_TOKENS
        content.inline_bytes += len(data)


def _text_of(content: str | list[TextPart]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)
