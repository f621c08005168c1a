"""Usage blocks of the providers that are shipped, as they stand in whole answers, at the end of streams, in embeddings.

`billed` is what the provider counts in all, by its own words: its `total_tokens`, or what its page says.
"""

import json
from typing import Any, Literal, NamedTuple

from keyforge.contracts.usage import Usage

Form = Literal["whole", "stream", "embeddings"]
RECORDED = "recorded traffic"
CAPTURED = "public captures of its answers"
EMBEDDINGS_OF_OPENAI = "https://platform.openai.com/docs/api-reference/embeddings/create"
OPENAI = "https://platform.openai.com/docs/api-reference/chat/object"
OPENAI_STREAM = "https://platform.openai.com/docs/api-reference/chat-streaming"
ANTHROPIC = "https://platform.claude.com/docs/en/api/openai-sdk"
GROQ = "https://console.groq.com/docs/prompt-caching"
MISTRAL = "https://docs.mistral.ai/api"
DEEPSEEK = "https://api-docs.deepseek.com/api/create-chat-completion"
DEEPSEEK_WAITS = "https://api-docs.deepseek.com/quick_start/rate_limit"
OPENROUTER = "https://openrouter.ai/docs/guides/administration/usage-accounting"
OPENROUTER_EMBEDDINGS = "https://openrouter.ai/docs/api/reference/embeddings"
GEMINI = "https://ai.google.dev/gemini-api/docs/openai"

NO_EMBEDDINGS = frozenset(("anthropic", "groq", "deepseek"))
"""These have no endpoint for them."""


class UsageRow(NamedTuple):
    """`cost_nusd`: the provider's own reckoning, where it reports one."""

    kind: str
    form: Form
    source: str
    sent: bytes
    usage: Usage
    billed: int
    cost_nusd: int | None = None


def whole(usage: dict[str, Any], **more: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": "word"}, "finish_reason": "stop"}
    return json.dumps({"id": "c", "object": "chat.completion", "choices": [choice], "usage": usage, **more}).encode()


def chunk(choices: list[Any], **more: Any) -> bytes:
    return b"data: " + json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": choices, **more}).encode()


WORD = chunk([{"index": 0, "delta": {"content": "word"}, "finish_reason": None}])
STOP = [{"index": 0, "delta": {}, "finish_reason": "stop"}]
DONE = b"data: [DONE]"


def stream(*events: bytes) -> bytes:
    return b"\n\n".join((*events, b""))


def embeddings(usage: dict[str, Any]) -> bytes:
    data = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
    return json.dumps({"object": "list", "model": "m", "data": data, "usage": usage}).encode()


_OPENAI = {
    "prompt_tokens": 1117, "completion_tokens": 446, "total_tokens": 1563,
    "prompt_tokens_details": {"cached_tokens": 1024, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 320, "audio_tokens": 0, "accepted_prediction_tokens": 30, "rejected_prediction_tokens": 20,
    },
}  # fmt: skip
_OPENAI_READ = Usage(input_tokens=93, cache_read_tokens=1024, output_tokens=126, reasoning_tokens=320)
_SOUND = {
    "prompt_tokens": 120, "completion_tokens": 90, "total_tokens": 210,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 100, "text_tokens": 20, "image_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 70, "text_tokens": 20},
}  # fmt: skip
_CLAUDE = {
    "prompt_tokens": 12, "completion_tokens": 20, "total_tokens": 32, "prompt_tokens_details": None,
    "completion_tokens_details": None,
}  # fmt: skip
_GROQ = {
    "queue_time": 0.03, "prompt_tokens": 4641, "prompt_time": 0.009, "completion_tokens": 1817, "total_tokens": 6458,
    "completion_time": 5.5, "total_time": 5.6, "prompt_tokens_details": {"cached_tokens": 4608},
}  # fmt: skip
_GROQ_READ = Usage(input_tokens=33, cache_read_tokens=4608, output_tokens=1817)
_MISTRAL = {
    "completion_tokens": 6, "num_cached_tokens": 60, "prompt_tokens": 68, "total_tokens": 74,
    "prompt_audio_seconds": None,
}  # fmt: skip
_DEEPSEEK = {
    "completion_tokens": 79, "completion_tokens_details": {"reasoning_tokens": 26}, "prompt_tokens": 875,
    "prompt_cache_hit_tokens": 512, "prompt_cache_miss_tokens": 363, "total_tokens": 954,
    "prompt_tokens_details": {"cached_tokens": 512},
}  # fmt: skip
_DEEPSEEK_READ = Usage(input_tokens=363, cache_read_tokens=512, output_tokens=53, reasoning_tokens=26)
_OPENROUTER = {
    "prompt_tokens": 888, "completion_tokens": 74, "total_tokens": 962, "cost": 0.0145476,
    "prompt_tokens_details": {"cached_tokens": 600, "cache_write_tokens": 88, "audio_tokens": 0, "video_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 4, "image_tokens": 0, "audio_tokens": 0},
    "cost_details": {"upstream_inference_cost": 0.0001776}, "is_byok": False,
}  # fmt: skip
_OPENROUTER_READ = Usage(
    input_tokens=200, cache_read_tokens=600, cache_write_tokens=88, output_tokens=70, reasoning_tokens=4
)
_THOUGHT = {"prompt_tokens": 35, "completion_tokens": 12, "total_tokens": 109}
_THOUGHT_READ = Usage(input_tokens=35, output_tokens=12, reasoning_tokens=62)
_LIST = {"prompt_tokens": 8, "total_tokens": 8}
_GIVEN = Usage(input_tokens=8)

USAGES = [
    UsageRow("openai", "whole", OPENAI, whole(_OPENAI), _OPENAI_READ, 1563),
    UsageRow("openai", "whole", OPENAI, whole(_SOUND), Usage(input_tokens=20, input_audio_tokens=100, output_tokens=20,
        output_audio_tokens=70), 210),
    UsageRow("openai", "stream", OPENAI_STREAM, stream(WORD, chunk(STOP, usage=None), chunk([], usage=_OPENAI), DONE),
        _OPENAI_READ, 1563),
    UsageRow("openai", "embeddings", EMBEDDINGS_OF_OPENAI, embeddings(_LIST), _GIVEN, 8),
    UsageRow("anthropic", "whole", ANTHROPIC, whole(_CLAUDE), Usage(input_tokens=12, output_tokens=20), 32),
    UsageRow("anthropic", "stream", ANTHROPIC, stream(WORD, chunk(STOP), chunk([], usage=_CLAUDE), DONE),
        Usage(input_tokens=12, output_tokens=20), 32),
    UsageRow("groq", "whole", GROQ, whole(_GROQ, x_groq={"id": "req_1"}), _GROQ_READ, 6458),
    UsageRow("groq", "stream", RECORDED, stream(WORD, chunk(STOP, x_groq={"id": "req_1", "usage": _GROQ}), DONE),
        _GROQ_READ, 6458),
    # asked for, it comes twice
    UsageRow("groq", "stream", RECORDED, stream(WORD, chunk(STOP, x_groq={"id": "req_1", "usage": _GROQ}),
        chunk([], usage=_GROQ), DONE), _GROQ_READ, 6458),
    UsageRow("mistral", "whole", RECORDED, whole(_MISTRAL), Usage(input_tokens=8, cache_read_tokens=60,
        output_tokens=6), 74),
    UsageRow("mistral", "stream", MISTRAL, stream(WORD, chunk(STOP, usage=_MISTRAL), DONE), Usage(input_tokens=8,
        cache_read_tokens=60, output_tokens=6), 74),
    UsageRow("mistral", "embeddings", MISTRAL, embeddings({**_LIST, "completion_tokens": 0}), _GIVEN, 8),
    # a request that waits gets empty lines, a stream comments
    UsageRow("deepseek", "whole", DEEPSEEK_WAITS, b"\n\n\n\n" + whole(_DEEPSEEK), _DEEPSEEK_READ, 954),
    UsageRow("deepseek", "stream", DEEPSEEK, stream(b": keep-alive", b": keep-alive", WORD, chunk(STOP),
        chunk([], usage=_DEEPSEEK), DONE), _DEEPSEEK_READ, 954),
    UsageRow("deepseek", "stream", CAPTURED, stream(WORD, chunk(STOP, usage=_DEEPSEEK), DONE), _DEEPSEEK_READ, 954),
    UsageRow("openrouter", "whole", OPENROUTER, whole(_OPENROUTER), _OPENROUTER_READ, 962, 14_547_600),
    UsageRow("openrouter", "stream", RECORDED, stream(b": OPENROUTER PROCESSING", WORD, chunk(STOP),
        chunk(STOP, usage=_OPENROUTER), DONE), _OPENROUTER_READ, 962, 14_547_600),
    UsageRow("openrouter", "embeddings", OPENROUTER_EMBEDDINGS, embeddings({**_LIST, "cost": 1.6e-07}), _GIVEN, 8, 160),
    # what a model thought is in the total alone; in a stream each chunk has what was used so far
    UsageRow("gemini", "whole", RECORDED, whole(_THOUGHT), _THOUGHT_READ, 109),
    UsageRow("gemini", "stream", GEMINI, stream(
        chunk([{"index": 0, "delta": {"content": "word"}}],
            usage={"prompt_tokens": 35, "completion_tokens": 4, "total_tokens": 90}),
        chunk([{"index": 0, "delta": {"content": "s"}, "finish_reason": "stop"}], usage=_THOUGHT), DONE),
        _THOUGHT_READ, 109),
    UsageRow("gemini", "embeddings", GEMINI, embeddings(_LIST), _GIVEN, 8),
]  # fmt: skip
