"""What APIs call the tokens that they count, and where in an answer they report them. Data, which `usage_table` reads.

A name is a path: the names of the objects around a count, and its own, with dots between. Where an API lists counts
by a label, such as a modality, the label is the last part of the path.

    OpenAI      https://platform.openai.com/docs/api-reference/chat/object and .../responses/object
    DeepSeek    https://api-docs.deepseek.com/api/create-chat-completion: prompt_cache_hit_tokens
    Mistral     recorded traffic: num_cached_tokens;  Together, Moonshot: cached_tokens
    OpenRouter  https://openrouter.ai/docs/guides/best-practices/prompt-caching: cache_write_tokens, within the prompt
    xAI         https://docs.cloud.google.com/vertex-ai/generative-ai/docs/partner-models/grok/capabilities/reasoning:
                reasoning is in the total, not in the completion
    Alibaba     https://www.alibabacloud.com/help/en/model-studio/context-cache: cache_creation in the details
    Anthropic   https://platform.claude.com/docs/en/build-with-claude/prompt-caching: caches are beside input_tokens
    LiteLLM     github.com/BerriAI/litellm/issues/15945: Anthropic's names within prompt_tokens
    new-api     https://doc.302.ai/api-263332597, an answer of one: claude_cache_creation_5_m_tokens
    Gemini      https://ai.google.dev/api/generate-content#UsageMetadata: thoughts and tools are beside
    Bedrock     https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html and _CacheDetail
    Cohere      https://docs.cohere.com/reference/chat: billed_units are what it bills, of the tokens
    Perplexity  https://docs.perplexity.ai/guides/pricing: citations and reasoning of a deep research are beside
"""

from collections.abc import Iterator, Mapping
from typing import Final, Literal

import msgspec

Part = Literal["read", "written", "written_5m", "written_1h", "audio", "read_audio", "more", "reasoning", "spoken"]
"""What tokens of a prompt or of a completion are. `written` has in it those for five minutes and for an hour, where an
API tells them apart. `read_audio` is also in `read` and `audio`. `more` is given, and of no kind of its own."""
Paths = Mapping[Part, tuple[str, ...]]

PLACES: Final = (
    "usage",
    "x_groq.usage",
    "usageMetadata",
    "usage_metadata",
    "meta",
    "message.usage",
    "response.usage",
    "delta.usage",
    "amazon-bedrock-invocationMetrics",
)
"""Where a whole answer or an event of a stream reports what was used: OpenAI's; Groq's in a stream; Gemini's, also
where a compatible endpoint lets it through; Cohere's; Anthropic's at the start of a stream; a stream of responses;
Cohere's at the end of a stream; Bedrock's."""

LISTS: Final[Mapping[str, tuple[str, str]]] = {
    "promptTokensDetails": ("modality", "tokenCount"),
    "cacheTokensDetails": ("modality", "tokenCount"),
    "candidatesTokensDetails": ("modality", "tokenCount"),
    "prompt_tokens_details": ("modality", "token_count"),
    "cache_tokens_details": ("modality", "token_count"),
    "candidates_tokens_details": ("modality", "token_count"),
    "cacheDetails": ("ttl", "inputTokens"),
}
"""By the name of a list of counts: the names in an entry of its label, and of its count."""

STEPS: Final = "iterations"
"""Anthropic's steps of one request, each with a usage. Those that made the context shorter are not in its own counts
(https://platform.claude.com/docs/en/build-with-claude/compaction), nor are those of another model, which it names."""


class Spelling(msgspec.Struct, frozen=True, kw_only=True):
    """The names of one API. Of several names of one thing the first that is there counts, of what may cost more than
    other tokens the largest."""

    prompt: str
    completion: str
    total: str = ""
    within: Paths
    """Parts of the prompt or of the completion."""
    beside: Paths = {}
    """What the prompt and the completion do not contain."""
    total_is_witness: bool = False
    """What is named beside is within after all where the total is no more than prompt and completion: several gateways
    give the names of one API to the counts of another."""
    leaves_out_zero: bool = False
    """A completion of no tokens is left out, as protocol buffers write it; the total shows that."""
    only_with: str = ""
    """These names mean this only where that one is there as well."""
    not_with: str = ""

    def paths(self) -> Iterator[str]:
        """Yield all its names."""
        yield from filter(None, (self.prompt, self.completion, self.total, self.only_with))
        for names in (*self.within.values(), *self.beside.values()):
            yield from names


_ANTHROPIC: Final[Paths] = {
    "read": ("cache_read_input_tokens",),
    "written": ("cache_creation_input_tokens",),
    "written_5m": ("cache_creation.ephemeral_5m_input_tokens", "claude_cache_creation_5_m_tokens"),
    "written_1h": ("cache_creation.ephemeral_1h_input_tokens", "claude_cache_creation_1_h_tokens"),
}
_CHAT: Final[Paths] = {
    "read": (
        "prompt_tokens_details.cached_tokens",
        "prompt_cache_hit_tokens",
        "num_cached_tokens",
        "cached_tokens",
    ),
    "written": (
        "prompt_tokens_details.cache_write_tokens",
        "prompt_tokens_details.cache_creation_input_tokens",
        "prompt_tokens_details.cache_creation_tokens",
        "prompt_tokens_details.cached_creation_tokens",
        "cache_write_tokens",
    ),
    "written_5m": (
        "prompt_tokens_details.cache_creation.ephemeral_5m_input_tokens",
        "prompt_tokens_details.cache_creation_token_details.ephemeral_5m_input_tokens",
    ),
    "written_1h": (
        "prompt_tokens_details.cache_creation.ephemeral_1h_input_tokens",
        "prompt_tokens_details.cache_creation_token_details.ephemeral_1h_input_tokens",
    ),
    "audio": ("prompt_tokens_details.audio_tokens",),
    "reasoning": ("completion_tokens_details.reasoning_tokens", "reasoning_tokens"),
    "spoken": ("completion_tokens_details.audio_tokens",),
}


def _gemini(prompt: str, completion: str, total: str, read: str, thoughts: str, tools: str, details: str) -> Spelling:
    return Spelling(
        prompt=prompt,
        completion=completion,
        total=total,
        within={
            "read": (read,),
            "audio": (details.format("prompt"),),
            "read_audio": (details.format("cache"),),
            "spoken": (details.format("candidates"),),
        },
        beside={"more": (tools,), "reasoning": (thoughts,)},
        leaves_out_zero=True,
    )


SPELLINGS: Final = (
    Spelling(
        prompt="prompt_tokens",
        completion="completion_tokens",
        total="total_tokens",
        within=_CHAT,
        beside=_ANTHROPIC,
        total_is_witness=True,
        not_with="citation_tokens",
    ),
    Spelling(  # Perplexity's deep research
        prompt="prompt_tokens",
        completion="completion_tokens",
        total="total_tokens",
        within={},
        beside={"more": ("citation_tokens",), "reasoning": ("reasoning_tokens",)},
        only_with="citation_tokens",
    ),
    Spelling(  # OpenAI's responses, and Anthropic's messages
        prompt="input_tokens",
        completion="output_tokens",
        total="total_tokens",
        within={
            "read": ("input_tokens_details.cached_tokens",),
            "written": ("input_tokens_details.cache_write_tokens",),
            "audio": ("input_tokens_details.audio_tokens",),
            "reasoning": ("output_tokens_details.reasoning_tokens", "output_tokens_details.thinking_tokens"),
            "spoken": ("output_tokens_details.audio_tokens",),
        },
        beside=_ANTHROPIC,
    ),
    _gemini(
        "promptTokenCount",
        "candidatesTokenCount",
        "totalTokenCount",
        "cachedContentTokenCount",
        "thoughtsTokenCount",
        "toolUsePromptTokenCount",
        "{}TokensDetails.AUDIO",
    ),
    _gemini(
        "prompt_token_count",
        "candidates_token_count",
        "total_token_count",
        "cached_content_token_count",
        "thoughts_token_count",
        "tool_use_prompt_token_count",
        "{}_tokens_details.AUDIO",
    ),
    Spelling(  # Bedrock's Converse
        prompt="inputTokens",
        completion="outputTokens",
        total="totalTokens",
        within={},
        beside={
            "read": ("cacheReadInputTokens", "cacheReadInputTokenCount"),
            "written": ("cacheWriteInputTokens", "cacheWriteInputTokenCount"),
            "written_5m": ("cacheDetails.5m",),
            "written_1h": ("cacheDetails.1h",),
        },
    ),
    Spelling(  # Bedrock's own beside a model's answer
        prompt="inputTokenCount",
        completion="outputTokenCount",
        within={},
        beside={"read": ("cacheReadInputTokenCount",), "written": ("cacheWriteInputTokenCount",)},
    ),
    Spelling(  # Cohere
        prompt="billed_units.input_tokens",
        completion="billed_units.output_tokens",
        within={},
        beside={"more": ("billed_units.image_tokens",)},
    ),
    Spelling(
        prompt="tokens.input_tokens",
        completion="tokens.output_tokens",
        within={},
        not_with="billed_units.input_tokens",
    ),
)
