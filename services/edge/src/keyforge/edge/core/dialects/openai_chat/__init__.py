"""OpenAI's chat completions and embeddings, as agents send them and providers answer them."""

from typing import Final

NAME: Final = "openai-chat"
"""Of the dialect, as providers are registered with it."""
