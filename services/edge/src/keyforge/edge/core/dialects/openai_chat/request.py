"""The request bodies that agents send, field by field: what is here is forwarded, all else is refused by its name.

A field that is absent is UNSET and stays absent; an explicit null stays null. So writing a request back gives exactly
the keys that were read, which is how `strict_json.py` notices duplicate keys. Fields beyond OpenAI's own are those of
its compatible providers that cannot raise a bill past the worst case of `worst_case.py`.
"""

from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from keyforge.edge.core.dialects.left_out import OnlyInAnswers
from keyforge.edge.core.dialects.strict_json import BodyForm

COMPLETIONS_MAX: Final = 128
"""What OpenAI's API takes as `n`."""
MESSAGES_MAX: Final = 4096
"""Below a tenth of `strict_json.CONTAINERS_MAX`, since a message has parts."""
TOKEN_COUNT_MAX: Final = 100_000_000
"""`COMPLETIONS_MAX` times this, at 600 dollars for a million tokens, is 7.68 million dollars: in nano-dollars a number
of 64 bits."""

Count = Annotated[int, Meta(ge=1, le=TOKEN_COUNT_MAX)]
Number = int | float
"""As the agent wrote it: an integer stays one, since some providers take no other form (`top_k: 40.0`)."""
T = TypeVar("T")
Maybe: TypeAlias = T | UnsetType | None
"""A field that may be absent, and may be null."""
Free = dict[str, Any]
"""An object whose keys are the caller's: a JSON schema, metadata."""


class Strict(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """An object in which every key is known."""


# --- content ----------------------------------------------------------------------------------------------------------


class CacheControl(Strict):
    """Asks a provider to keep what it has read so far: for five minutes, or for an hour, which has a price of its
    own."""

    type: Literal["ephemeral"]
    ttl: Maybe[Literal["5m", "1h"]] = UNSET


class PromptCacheBreakpoint(Strict):
    """Where a prefix ends that OpenAI keeps. For half an hour, the default: twelve hours may cost more."""

    mode: Literal["explicit"]
    ttl: Maybe[Literal["30m"]] = UNSET


class TextPart(Strict, tag_field="type", tag="text"):
    """Text."""

    text: str
    cache_control: Maybe[CacheControl] = UNSET
    prompt_cache_breakpoint: Maybe[PromptCacheBreakpoint] = UNSET


class RefusalPart(Strict, tag_field="type", tag="refusal"):
    """What an assistant refused with, given back to it."""

    refusal: str


class ThinkingPart(Strict, tag_field="type", tag="thinking"):
    """What an assistant thought, given back to it."""

    thinking: str | list[TextPart]
    signature: Maybe[str] = UNSET
    closed: bool | UnsetType = UNSET


class ImageUrl(Strict):
    """Where an image is, or the image itself as a data URL."""

    url: str
    detail: Maybe[Literal["auto", "low", "high"]] = UNSET


class ImagePart(Strict, tag_field="type", tag="image_url"):
    """An image."""

    image_url: ImageUrl | str
    cache_control: Maybe[CacheControl] = UNSET
    prompt_cache_breakpoint: Maybe[PromptCacheBreakpoint] = UNSET


class InputAudio(Strict):
    """Sound, in base64."""

    data: str
    format: Literal["wav", "mp3"]


class AudioPart(Strict, tag_field="type", tag="input_audio"):
    """Sound."""

    input_audio: InputAudio
    prompt_cache_breakpoint: Maybe[PromptCacheBreakpoint] = UNSET


Part = TextPart | ImagePart | AudioPart | RefusalPart | ThinkingPart


class Called(Strict):
    """A function that an assistant called."""

    name: str
    arguments: str | Free


class ToolCall(Strict):
    """A tool that an assistant called."""

    id: str | UnsetType = UNSET
    type: Literal["function", "custom"] | UnsetType = UNSET
    index: int | UnsetType = UNSET
    function: Called | UnsetType = UNSET
    custom: Free | UnsetType = UNSET
    extra_content: Maybe[Free] = UNSET


class ChatMessage(Strict):
    """One message of a conversation, of any role."""

    role: Literal["developer", "system", "user", "assistant", "tool", "function"]
    content: Maybe[str | list[Part]] = UNSET
    name: Maybe[str] = UNSET
    tool_calls: Maybe[list[ToolCall]] = UNSET
    tool_call_id: Maybe[str] = UNSET
    function_call: Maybe[Called] = UNSET
    refusal: Maybe[str] = UNSET
    reasoning: Maybe[str] = UNSET
    reasoning_content: Maybe[str] = UNSET
    reasoning_details: Maybe[list[Any]] = UNSET
    extra_content: Maybe[Free] = UNSET  # Gemini: the signature of a thought, which its next turn needs
    prefix: bool | UnsetType = UNSET
    cache_control: Maybe[CacheControl] = UNSET


ONLY_IN_ANSWERS: Final[OnlyInAnswers] = {
    ChatMessage: frozenset(
        (
            "annotations",  # OpenAI, OpenRouter: where it was found
            "parsed",  # openai-python and -node: chat.completions.parse
            "executed_tools",  # Groq's compound systems
            "channel",  # Groq's gpt-oss
            "images",  # OpenRouter
            "model",  # OpenRouter
            "provider_specific_fields",  # LiteLLM
            "thinking_blocks",  # LiteLLM
            "thought_signature",  # Gemini: what `extra_content` also has
            "context",  # Azure OpenAI On Your Data
            "end_turn",  # Azure OpenAI On Your Data
        )
    ),
    ToolCall: frozenset(("provider_specific_fields",)),  # LiteLLM
    Called: frozenset(("parsed_arguments", "provider_specific_fields")),  # openai-python's `parse`, LiteLLM
}
"""What official clients and frameworks give back of an answer, and no provider reads: taken out, and named."""


# --- chat -------------------------------------------------------------------------------------------------------------


class Tool(Strict):
    """A tool that the agent itself runs. Tools that a provider runs have other types, and a cost without bound."""

    type: Literal["function", "custom"] | UnsetType = UNSET  # some providers let it be left out
    function: Free | UnsetType = UNSET
    custom: Free | UnsetType = UNSET
    cache_control: Maybe[CacheControl] = UNSET


class StreamOptions(Strict):
    """What a stream should carry."""

    include_usage: Maybe[bool] = UNSET
    include_obfuscation: Maybe[bool] = UNSET


class Reasoning(Strict):
    """How OpenRouter's models should think. `mode: pro` would go to another model than the one that was priced."""

    effort: Maybe[str] = UNSET
    max_tokens: Maybe[Annotated[int, Meta(ge=0, le=TOKEN_COUNT_MAX)]] = UNSET
    exclude: Maybe[bool] = UNSET
    enabled: Maybe[bool] = UNSET
    summary: Maybe[str] = UNSET
    context: Maybe[str] = UNSET
    mode: Maybe[Literal["standard"]] = UNSET


class Prediction(Strict):
    """A guess at the answer. What of it is not used is billed as output."""

    type: Literal["content"]
    content: str | list[TextPart]


class PromptCacheOptions(Strict):
    """How OpenAI keeps prefixes."""

    mode: Maybe[Literal["implicit", "explicit"]] = UNSET
    ttl: Maybe[Literal["30m"]] = UNSET


class Moderation(Strict):
    """Has OpenAI's moderation, which is free, look at a prompt and its answer."""

    model: str
    policy: Maybe[Free] = UNSET


class ChatRequest(Strict):
    """POST /v1/chat/completions."""

    model: str
    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=MESSAGES_MAX)]
    stream: Maybe[bool] = UNSET
    stream_options: Maybe[StreamOptions] = UNSET
    max_tokens: Maybe[Count] = UNSET
    max_completion_tokens: Maybe[Count] = UNSET
    n: Maybe[Annotated[int, Meta(ge=1, le=COMPLETIONS_MAX)]] = UNSET
    temperature: Maybe[Number] = UNSET
    top_p: Maybe[Number] = UNSET
    frequency_penalty: Maybe[Number] = UNSET
    presence_penalty: Maybe[Number] = UNSET
    stop: Maybe[str | list[str]] = UNSET
    seed: Maybe[int] = UNSET
    logprobs: Maybe[bool] = UNSET
    top_logprobs: Maybe[int] = UNSET
    logit_bias: Maybe[dict[str, Number]] = UNSET
    tools: Maybe[list[Tool]] = UNSET
    tool_choice: Maybe[str | Free] = UNSET
    parallel_tool_calls: Maybe[bool] = UNSET
    functions: Maybe[list[Free]] = UNSET
    function_call: Maybe[str | Free] = UNSET
    response_format: Maybe[Free] = UNSET
    reasoning_effort: Maybe[str] = UNSET
    verbosity: Maybe[str] = UNSET
    prediction: Maybe[Prediction] = UNSET
    modalities: Maybe[list[Literal["text"]]] = UNSET
    service_tier: Maybe[Literal["auto", "default"]] = UNSET
    audio: UnsetType | None = UNSET
    web_search_options: UnsetType | None = UNSET
    user: Maybe[str] = UNSET
    metadata: Maybe[Free] = UNSET
    store: Maybe[bool] = UNSET
    safety_identifier: Maybe[str] = UNSET
    prompt_cache_key: Maybe[str] = UNSET
    prompt_cache_retention: Maybe[str] = UNSET
    prompt_cache_options: Maybe[PromptCacheOptions] = UNSET
    moderation: Maybe[Moderation] = UNSET
    session_id: Maybe[str] = UNSET
    # of compatible providers
    top_k: Maybe[Number] = UNSET
    top_a: Maybe[Number] = UNSET
    min_p: Maybe[Number] = UNSET
    repetition_penalty: Maybe[Number] = UNSET
    random_seed: Maybe[int] = UNSET
    safe_prompt: Maybe[bool] = UNSET
    thinking: Maybe[Free] = UNSET
    clear_thinking: Maybe[bool] = UNSET
    reasoning: Maybe[Reasoning] = UNSET
    reasoning_format: Maybe[str] = UNSET
    include_reasoning: Maybe[bool] = UNSET


class EmbeddingsRequest(Strict):
    """POST /v1/embeddings."""

    model: str
    input: str | Annotated[list[str | int | list[int]], Meta(min_length=1)]
    encoding_format: Maybe[Literal["float", "base64"]] = UNSET
    dimensions: Maybe[Count] = UNSET
    user: Maybe[str] = UNSET
    input_type: Maybe[str] = UNSET


_ONLY_IN_ANSWERS_ASKED_FOR: Final = frozenset(("usage",))
"""How OpenRouter was once asked for what all its answers have: "`usage: { include: true }` [...] deprecated and have no
effect" ("Usage Accounting" of its documentation). LiteLLM still sends it."""
CHAT: Final = BodyForm(
    ChatRequest,
    unbounded=r"messages\[\d+\]\.(content\[\d+\]\.(type|input_audio\.format)|audio)|tools\[\d+\]\.type",
    costly=r"(audio|modalities|service_tier|web_search_options)\b.*|reasoning\.mode|.*\bcache_control\.ttl"
    r"|.*\bprompt_cache_(breakpoint|options)\.ttl",
    only_in_answers={**ONLY_IN_ANSWERS, ChatRequest: _ONLY_IN_ANSWERS_ASKED_FOR},
)
EMBEDDINGS: Final = BodyForm(EmbeddingsRequest)
