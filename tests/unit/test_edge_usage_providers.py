"""What each provider documents, or was recorded to report, as usage: the buckets, and the provider's own total.

`total` is what the provider counts in all: its `total_tokens`, or the sum that its documentation describes.
"""

from typing import Any

import pytest

from keyforge.contracts.usage import Usage
from keyforge.edge.core.dialects import usage_table
from keyforge.edge.core.dialects.openai_chat.usage import read_usage
from tests.unit.documented_usage import OTHER_APIS

RECORDED = "recorded traffic"
OPENAI = "https://platform.openai.com/docs/api-reference/chat/object"
AZURE = "https://learn.microsoft.com/azure/ai-foundry/openai/how-to/reasoning"
ANTHROPIC_COMPATIBLE = "https://platform.claude.com/docs/en/api/openai-sdk"
DEEPSEEK = "https://api-docs.deepseek.com/api/create-chat-completion"
XAI = "https://docs.cloud.google.com/vertex-ai/generative-ai/docs/partner-models/grok/capabilities/reasoning"
OPENROUTER = "https://openrouter.ai/docs/prompt-caching"
ALIBABA = "https://www.alibabacloud.com/help/en/model-studio/context-cache"
FIREWORKS = "https://docs.fireworks.ai/api-reference/post-chatcompletions"
PERPLEXITY = "https://docs.perplexity.ai/guides/pricing"
LITELLM = "https://docs.litellm.ai/docs/completion/prompt_caching"
NEW_API = "https://doc.302.ai/api-263332597"
MOONSHOT = "https://platform.moonshot.ai/docs/api/chat"

CASES = [
    *OTHER_APIS,
    pytest.param(
        OPENAI,
        {
            "prompt_tokens": 1117, "completion_tokens": 46, "total_tokens": 1163,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
        Usage(input_tokens=1117, output_tokens=46), 1163, id="OpenAI",
    ),
    pytest.param(
        RECORDED,
        {
            "completion_tokens": 4, "prompt_tokens": 4020, "total_tokens": 4024,
            "prompt_tokens_details": {"audio_tokens": 0, "cache_write_tokens": 4012, "cached_tokens": 0},
        },
        Usage(input_tokens=8, cache_write_tokens=4012, output_tokens=4), 4024, id="OpenAI, a cache is written",
    ),
    pytest.param(
        AZURE,
        {
            "completion_tokens": 1843, "prompt_tokens": 20, "total_tokens": 1863,
            "completion_tokens_details": {"audio_tokens": None, "reasoning_tokens": 448},
            "prompt_tokens_details": {"audio_tokens": None, "cached_tokens": 0},
        },
        Usage(input_tokens=20, output_tokens=1395, reasoning_tokens=448), 1863, id="Azure",
    ),
    pytest.param(
        ANTHROPIC_COMPATIBLE,
        {
            "prompt_tokens": 12, "completion_tokens": 20, "total_tokens": 32, "prompt_tokens_details": None,
            "completion_tokens_details": None,
        },
        Usage(input_tokens=12, output_tokens=20), 32, id="Anthropic's compatibility layer",
    ),
    pytest.param(
        RECORDED,
        {"prompt_tokens": 35, "completion_tokens": 12, "total_tokens": 109},
        Usage(input_tokens=35, output_tokens=12, reasoning_tokens=62), 109, id="Gemini's compatible endpoint",
    ),
    pytest.param(
        RECORDED,
        {
            "completion_time": 0.121, "completion_tokens": 58, "completion_tokens_details": {"reasoning_tokens": 48},
            "prompt_time": 0.003, "prompt_tokens": 84, "queue_time": 0.1, "total_time": 0.12, "total_tokens": 142,
        },
        Usage(input_tokens=84, output_tokens=10, reasoning_tokens=48), 142, id="Groq",
    ),
    pytest.param(
        RECORDED,
        {"completion_tokens": 6, "num_cached_tokens": 60, "prompt_tokens": 68, "total_tokens": 74},
        Usage(input_tokens=8, cache_read_tokens=60, output_tokens=6), 74, id="Mistral",
    ),
    pytest.param(
        DEEPSEEK,
        {
            "completion_tokens": 79, "completion_tokens_details": {"reasoning_tokens": 26}, "prompt_tokens": 875,
            "prompt_cache_hit_tokens": 512, "prompt_cache_miss_tokens": 363, "total_tokens": 954,
            "prompt_tokens_details": {"cached_tokens": 512},
        },
        Usage(input_tokens=363, cache_read_tokens=512, output_tokens=53, reasoning_tokens=26), 954, id="DeepSeek",
    ),
    pytest.param(
        OPENROUTER,
        {
            "prompt_tokens": 10339, "completion_tokens": 60, "total_tokens": 10399,
            "prompt_tokens_details": {"cached_tokens": 10000, "cache_write_tokens": 318}, "cost": 0.0012,
            "cost_details": {"upstream_inference_cost": None}, "is_byok": False,
        },
        Usage(input_tokens=21, cache_read_tokens=10000, cache_write_tokens=318, output_tokens=60), 10399,
        id="OpenRouter",
    ),
    pytest.param(
        XAI,
        {
            "completion_tokens": 50, "prompt_tokens": 663, "total_tokens": 837, "num_sources_used": 0,
            "completion_tokens_details": {
                "accepted_prediction_tokens": 0, "audio_tokens": 0, "reasoning_tokens": 124,
                "rejected_prediction_tokens": 0,
            },
            "prompt_tokens_details": {"audio_tokens": 0, "cached_tokens": 654, "image_tokens": 0, "text_tokens": 663},
        },
        Usage(input_tokens=9, cache_read_tokens=654, output_tokens=50, reasoning_tokens=124), 837, id="xAI",
    ),
    pytest.param(
        RECORDED,
        {"cached_tokens": 10, "completion_tokens": 216, "prompt_tokens": 16, "total_tokens": 232},
        Usage(input_tokens=6, cache_read_tokens=10, output_tokens=216), 232, id="Together",
    ),
    pytest.param(
        FIREWORKS,
        {
            "prompt_tokens": 2015, "total_tokens": 2115, "completion_tokens": 100,
            "prompt_tokens_details": {"cached_tokens": 2000},
        },
        Usage(input_tokens=15, cache_read_tokens=2000, output_tokens=100), 2115, id="Fireworks",
    ),
    pytest.param(
        RECORDED,
        {
            "completion_tokens": 2, "prompt_tokens": 18, "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"accepted_prediction_tokens": 0, "reasoning_tokens": 0}, "total_tokens": 20,
        },
        Usage(input_tokens=18, output_tokens=2), 20, id="Cerebras",
    ),
    pytest.param(
        ALIBABA,
        {
            "prompt_tokens": 1506, "completion_tokens": 30, "total_tokens": 1536,
            "prompt_tokens_details": {
                "cached_tokens": 0, "cache_creation_input_tokens": 1494, "cache_type": "ephemeral",
                "cache_creation": {"ephemeral_5m_input_tokens": 1000, "ephemeral_1h_input_tokens": 494},
            },
        },
        Usage(input_tokens=12, cache_write_tokens=1000, cache_write_1h_tokens=494, output_tokens=30), 1536,
        id="Alibaba",
    ),
    pytest.param(
        PERPLEXITY,
        {
            "prompt_tokens": 33, "completion_tokens": 7163, "total_tokens": 7196, "citation_tokens": 20016,
            "num_search_queries": 21, "reasoning_tokens": 95305,
        },
        Usage(input_tokens=20049, output_tokens=7163, reasoning_tokens=95305), 33 + 7163 + 20016 + 95305,
        id="Perplexity, what its total leaves out",
    ),
    pytest.param(
        MOONSHOT,
        {"prompt_tokens": 19, "completion_tokens": 21, "total_tokens": 40, "cached_tokens": 10},
        Usage(input_tokens=9, cache_read_tokens=10, output_tokens=21), 40, id="Moonshot",
    ),
    pytest.param(
        LITELLM,
        {
            "prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306,
            "prompt_tokens_details": {"cached_tokens": 1920, "cache_creation_tokens": 50},
            "completion_tokens_details": None, "cache_creation_input_tokens": 50, "cache_read_input_tokens": 1920,
        },
        Usage(input_tokens=36, cache_read_tokens=1920, cache_write_tokens=50, output_tokens=300), 2306,
        id="LiteLLM: Anthropic's names for what is within",
    ),
    pytest.param(
        NEW_API,
        {
            "prompt_tokens": 686, "completion_tokens": 123, "total_tokens": 809,
            "prompt_tokens_details": {"cached_tokens": 679, "text_tokens": 686, "audio_tokens": 0, "image_tokens": 0},
            "completion_tokens_details": {"text_tokens": 11, "audio_tokens": 0, "reasoning_tokens": 112},
            "input_tokens": 0, "output_tokens": 0, "input_tokens_details": None,
            "claude_cache_creation_5_m_tokens": 0, "claude_cache_creation_1_h_tokens": 0,
        },
        Usage(input_tokens=7, cache_read_tokens=679, output_tokens=11, reasoning_tokens=112), 809,
        id="new-api: other names, all zero",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("source", "fields", "buckets", "total"), CASES)
def test_documented_usage(source: str, fields: dict[str, Any], buckets: Usage, total: int) -> None:
    assert source
    assert read_usage(fields) == usage_table.read(fields) == buckets
    assert buckets.tokens == total


@pytest.mark.parametrize(("source", "fields", "buckets", "total"), CASES)
def test_integers_come_as_floats_and_as_text(source: str, fields: Any, buckets: Usage, total: int) -> None:
    def respelled(value: Any, write: Any) -> Any:
        if isinstance(value, dict):
            return {name: respelled(inner, write) for name, inner in value.items()}
        if isinstance(value, list):
            return [respelled(inner, write) for inner in value]
        return write(value) if isinstance(value, int) and not isinstance(value, bool) else value

    assert source
    assert total
    assert read_usage(respelled(fields, float)) == read_usage(respelled(fields, str)) == buckets


EMBEDDINGS = [
    pytest.param({"usage": {"prompt_tokens": 8, "total_tokens": 8}}, 8, id="OpenAI"),
    pytest.param({"usage": {"prompt_tokens": 8, "total_tokens": 8, "completion_tokens": 0}}, 8, id="Mistral"),
    pytest.param({"usage": {"total_tokens": 10}}, 10, id="Voyage: a total alone"),
    pytest.param({"usage": {"prompt_tokens": 5}}, 5, id="a prompt alone"),
    pytest.param({"usage": {"prompt_tokens": "5.0", "total_tokens": 5}}, None, id="no digits"),
    pytest.param({"usage": {"prompt_tokens": 0, "total_tokens": 0}}, None, id="zeros"),
    pytest.param({"meta": {"billed_units": {"input_tokens": 2, "image_tokens": 7}}}, 9, id="Cohere"),
    pytest.param({"usageMetadata": {"promptTokenCount": 11, "promptTokenDetails": [{"modality": "TEXT"}]}}, 11,
                 id="Gemini"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "tokens"), EMBEDDINGS)
def test_embeddings(answer: dict[str, Any], tokens: int | None) -> None:
    expected = None if tokens is None else Usage(input_tokens=tokens)
    assert usage_table.reported(answer, embeddings=True) == expected
