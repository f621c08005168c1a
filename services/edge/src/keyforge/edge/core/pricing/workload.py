"""What a request asks of a model, as far as its cost depends on it, in whatever dialect it came."""

import msgspec


class Workload(msgspec.Struct, frozen=True, gc=False):
    """A request as `worst_case` sees it. Text is not counted here: it is bounded by the bytes of the body that is sent.

    `output_asked` None: the request names no maximum of output tokens for a completion.
    """

    parts: int = 1
    """Messages, or texts to embed: a provider puts tokens of its own around each."""
    writes: bool = True
    """Whether a model writes an answer; embeddings have none."""
    output_asked: int | None = None
    completions: int = 1
    predicted_tokens: int = 0
    """Of a prediction: what of it is not used is billed as output."""
    thinking_asked: int = 0
    """The largest budget of tokens for thinking that it names, for a completion; 0: none."""
    tools: bool = False
    images: int = 0
    images_low: int = 0
    """Images of `detail: low`, which are cheaper at a provider that knows it; among `images`."""
    audio_tokens: int = 0
    cache_1h: bool = False
    """Whether it asks for caches of an hour, whose writes cost more."""
    inline_bytes: int = 0
    """Of images and sound within the body: these are not text."""
    unbounded: str = ""
    """What it contains that has no bound, as the agent gets it; empty: nothing."""
