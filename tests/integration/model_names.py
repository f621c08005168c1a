"""What providers call their models: the spellings that a name must be able to have."""

from typing import Final

NAMES: Final = (
    "@cf/meta/llama-3-8b",  # Cloudflare
    "@hf/thebloke/zephyr-7b-beta-awq",  # Cloudflare
    "~anthropic/claude-sonnet-latest",  # an alias of OpenRouter
    "accounts/fireworks/models/llama-v3p1-8b-instruct",
    "accounts/fireworks/models/mixtral-8x7b#accounts/alice/deployments/12345678",
    "anthropic.claude-3-5-sonnet-20241022-v2:0",  # Bedrock
    "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-pro-v1:0",
    "models/gemini-2.0-flash",
    "publishers/google/models/gemini-2.0-flash-001",
    "org/model:free",  # OpenRouter
    "gpt-4o@2024",
    "ft:gpt-4o-mini-2024-07-18:my-org::abc123",
    "meta-llama/Llama-3.1-8B-Instruct:fireworks-ai",  # Hugging Face
    "hf.co/unsloth/Qwen3-8B-GGUF:Q4_K_M",  # Ollama
    "gpt://b1gfolder/yandexgpt/latest",
    "text-embedding-nomic-embed-text-v1.5@q8_0",  # LM Studio
)
WRONG: Final = ("", "/x", ".x", "-x", "#x", "a b", "a?b", "a%b", "a\\b", "a*", "a>b", "é", "a\x00", "a" * 201)
"""No names of models."""
