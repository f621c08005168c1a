"""The fields of requests that OpenAI's own library has, by place, and which of them are billed apart from tokens."""

from typing import Any, get_type_hints

from openai.types.chat import (
    ChatCompletionAssistantMessageParam,
    ChatCompletionContentPartImageParam,
    ChatCompletionContentPartInputAudioParam,
    ChatCompletionContentPartRefusalParam,
    ChatCompletionContentPartTextParam,
    ChatCompletionDeveloperMessageParam,
    ChatCompletionFunctionMessageParam,
    ChatCompletionFunctionToolParam,
    ChatCompletionSystemMessageParam,
    ChatCompletionToolMessageParam,
    ChatCompletionUserMessageParam,
)
from openai.types.chat.chat_completion_custom_tool_param import ChatCompletionCustomToolParam
from openai.types.chat.completion_create_params import (
    CompletionCreateParamsNonStreaming,
    CompletionCreateParamsStreaming,
)
from openai.types.embedding_create_params import EmbeddingCreateParams


def _names(*types: Any) -> frozenset[str]:
    return frozenset(name for one in types for name in get_type_hints(one))


CHAT = _names(CompletionCreateParamsNonStreaming, CompletionCreateParamsStreaming)
EMBEDDINGS = _names(EmbeddingCreateParams)
MESSAGES = _names(
    ChatCompletionAssistantMessageParam,
    ChatCompletionDeveloperMessageParam,
    ChatCompletionFunctionMessageParam,
    ChatCompletionSystemMessageParam,
    ChatCompletionToolMessageParam,
    ChatCompletionUserMessageParam,
)
PARTS = _names(
    ChatCompletionContentPartImageParam,
    ChatCompletionContentPartInputAudioParam,
    ChatCompletionContentPartRefusalParam,
    ChatCompletionContentPartTextParam,
)
TOOLS = _names(ChatCompletionFunctionToolParam, ChatCompletionCustomToolParam)

APART = frozenset(("audio", "modalities", "service_tier", "web_search_options"))
"""Values of these are billed apart from tokens, or at another price: only such as cost nothing more are taken."""
_PLACES = {"": CHAT | EMBEDDINGS, "messages[]": MESSAGES, "messages[].content[]": PARTS, "tools[]": TOOLS}


def is_openais_own(field: str) -> bool:
    """Whether a field, named by its path without indexes, is one of OpenAI's that must be taken."""
    place, _, name = field.rpartition(".")
    return name in _PLACES.get(place, frozenset()) and field not in APART
