"""What other APIs than OpenAI's chat document, or were recorded to report, as usage: also found where a compatible
endpoint lets it through."""

import pytest

from keyforge.contracts.usage import Usage

RECORDED = "recorded traffic"
OPENAI_RESPONSES = "https://platform.openai.com/docs/api-reference/responses/object"
ANTHROPIC = "https://platform.claude.com/docs/en/build-with-claude/prompt-caching"
ANTHROPIC_STEPS = "https://platform.claude.com/docs/en/build-with-claude/compaction"
GEMINI = "https://ai.google.dev/api/generate-content#UsageMetadata"
XAI_CACHE = "https://docs.x.ai/developers/advanced-api-usage/prompt-caching/usage-and-pricing"

OTHER_APIS = [
    pytest.param(
        OPENAI_RESPONSES,
        {
            "input_tokens": 328, "input_tokens_details": {"cached_tokens": 128}, "output_tokens": 52,
            "output_tokens_details": {"reasoning_tokens": 32}, "total_tokens": 380,
        },
        Usage(input_tokens=200, cache_read_tokens=128, output_tokens=20, reasoning_tokens=32), 380,
        id="OpenAI's responses",
    ),
    pytest.param(
        RECORDED,
        {
            "cache_creation": {"ephemeral_1h_input_tokens": 0, "ephemeral_5m_input_tokens": 574},
            "cache_creation_input_tokens": 574, "cache_read_input_tokens": 20443, "input_tokens": 6,
            "output_tokens": 489, "output_tokens_details": {"thinking_tokens": 77},
            "server_tool_use": {"web_search_requests": 0}, "service_tier": "standard",
        },
        Usage(
            input_tokens=6, cache_read_tokens=20443, cache_write_tokens=574, output_tokens=412, reasoning_tokens=77
        ),
        6 + 574 + 20443 + 489, id="Anthropic",
    ),
    pytest.param(
        ANTHROPIC,
        {
            "input_tokens": 2048, "cache_read_input_tokens": 1800, "cache_creation_input_tokens": 248,
            "output_tokens": 503,
            "cache_creation": {"ephemeral_5m_input_tokens": 148, "ephemeral_1h_input_tokens": 100},
        },
        Usage(
            input_tokens=2048, cache_read_tokens=1800, cache_write_tokens=148, cache_write_1h_tokens=100,
            output_tokens=503,
        ),
        2048 + 1800 + 248 + 503, id="Anthropic, both lifetimes",
    ),
    pytest.param(
        ANTHROPIC_STEPS,
        {
            "input_tokens": 23000, "output_tokens": 1000,
            "iterations": [
                {"type": "compaction", "input_tokens": 180000, "output_tokens": 3500},
                {"type": "message", "input_tokens": 23000, "output_tokens": 1000},
            ],
        },
        Usage(input_tokens=203000, output_tokens=4500), 207500, id="Anthropic, a step that is not in its counts",
    ),
    pytest.param(
        RECORDED,
        {
            "candidatesTokenCount": 40, "promptTokenCount": 15, "thoughtsTokenCount": 257,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 15}], "serviceTier": "standard",
            "toolUsePromptTokenCount": 288, "totalTokenCount": 600,
            "toolUsePromptTokensDetails": [{"modality": "TEXT", "tokenCount": 288}],
        },
        Usage(input_tokens=303, output_tokens=40, reasoning_tokens=257), 600, id="Gemini, thoughts and tools",
    ),
    pytest.param(
        GEMINI,
        {
            "prompt_token_count": 900, "cached_content_token_count": 600, "candidates_token_count": 50,
            "thoughts_token_count": 0, "total_token_count": 950,
            "prompt_tokens_details": [
                {"modality": "TEXT", "token_count": 500}, {"modality": "AUDIO", "token_count": 400},
            ],
            "cache_tokens_details": [{"modality": "AUDIO", "token_count": 300}],
        },
        Usage(input_tokens=200, cache_read_tokens=600, input_audio_tokens=100, output_tokens=50), 950,
        id="Gemini, sound of which some is cached",
    ),
    pytest.param(
        RECORDED,
        {"promptTokenCount": 34, "totalTokenCount": 102, "thoughtsTokenCount": 68},
        Usage(input_tokens=34, reasoning_tokens=68), 102, id="Gemini leaves out a completion of nothing",
    ),
    pytest.param(
        XAI_CACHE,
        {
            "input_tokens": 125, "output_tokens": 48, "total_tokens": 173,
            "input_tokens_details": {"cached_tokens": 98}, "output_tokens_details": {"reasoning_tokens": 0},
        },
        Usage(input_tokens=27, cache_read_tokens=98, output_tokens=48), 173, id="xAI's responses",
    ),
    pytest.param(
        RECORDED,
        {
            "billed_units": {"input_tokens": 41, "output_tokens": 25}, "cached_tokens": 144,
            "tokens": {"input_tokens": 1441, "output_tokens": 54},
        },
        Usage(input_tokens=41, output_tokens=25), 66, id="Cohere bills some of its tokens",
    ),
    pytest.param(
        RECORDED,
        {"tokens": {"input_tokens": 1441, "output_tokens": 54}},
        Usage(input_tokens=1441, output_tokens=54), 1495, id="Cohere, its tokens alone",
    ),
    pytest.param(
        RECORDED,
        {
            "cacheReadInputTokenCount": 2752, "cacheReadInputTokens": 2752, "cacheWriteInputTokenCount": 0,
            "cacheWriteInputTokens": 0, "inputTokens": 433, "outputTokens": 16, "serverToolUsage": {},
            "totalTokens": 3201,
        },
        Usage(input_tokens=433, cache_read_tokens=2752, output_tokens=16), 3201, id="Bedrock",
    ),
    pytest.param(
        RECORDED,
        {
            "cacheDetails": [{"inputTokens": 1000, "ttl": "5m"}, {"inputTokens": 712, "ttl": "1h"}],
            "cacheReadInputTokens": 0, "cacheWriteInputTokens": 1712, "inputTokens": 3, "outputTokens": 227,
            "totalTokens": 1942,
        },
        Usage(input_tokens=3, cache_write_tokens=1000, cache_write_1h_tokens=712, output_tokens=227), 1942,
        id="Bedrock, both lifetimes",
    ),
]  # fmt: skip
