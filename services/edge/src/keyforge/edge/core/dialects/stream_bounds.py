"""How large a stream may be, by what was reserved for it: in all, in one event, and in text."""

from typing import Final

STREAM_BYTES_PER_TOKEN: Final = 8 * 1024
"""A stream is not held, so it may be as long as its reservation: an event for each token, with the most logprobs."""
EVENT_BYTES_MIN: Final = 4 * 1024 * 1024
"""An event may always be as large: it holds an image of 3 MB, whose tokens are few. Chosen: halved, a PNG of
1024 by 1024 pixels may not fit; doubled, each open stream may hold twice as much for little."""
EVENT_BYTES_MAX: Final = 16 * 1024 * 1024
"""No event is larger, whatever was reserved, as it is held in memory: as much as of an answer that is no stream."""
TOKEN_BYTES_MAX: Final = 1024
"""No token is longer. Measured on published vocabularies: 1,024 spaces are a token of Claude 2; the longest one has
128 bytes in cl100k, o200k, Llama 3, Qwen and DeepSeek, 113 in Llama 4, 78 in Mistral's Tekken."""
BESIDE_TEXT_BYTES: Final = 16 * 1024
"""What may stand beside a model's text in fields that are not known to be none of it, such as a signature under a
new name. Chosen: halved, the signature of a long thought does not fit; doubled, a runaway of few tokens is cut late."""


def event_bytes_max(output_tokens: int) -> int:
    """Return how large an event may be in a stream for which so many tokens of output were reserved."""
    return min(max(EVENT_BYTES_MIN, output_tokens * STREAM_BYTES_PER_TOKEN), EVENT_BYTES_MAX)


def text_bytes_max(output_tokens: int) -> int:
    """Return how many bytes of text may come for so many reserved tokens of output; more are surely not covered.

    A provider bills no more than the cap that it was sent; this cuts one that ignores it. The number of chunks proves
    nothing: some send a token in several. Nor do more bytes than tokens: a token has many. What proves it is more
    text than so many of the longest tokens have.
    """
    return output_tokens * TOKEN_BYTES_MAX + BESIDE_TEXT_BYTES
