"""Takes out of a request what says nothing, and what the API of its provider does not know; each is named.

Only what leaves the answer's form and its cost as they are is taken out: defaults spelled out, how tokens are sampled,
fields of messages that a provider refuses. What asks for more than the provider has is refused by its name (`refused`).
"""

from collections.abc import Callable
from functools import cache
from operator import attrgetter
from typing import Any, Final

from msgspec import UNSET

from keyforge.edge.core.dialects.openai_chat.request import ChatMessage, ChatRequest
from keyforge.edge.core.dialects.quirks import Quirks

_NO_OPS: Final[tuple[tuple[str, tuple[Any, ...]], ...]] = (
    ("n", (None, 1)),
    ("logprobs", (None, False)),
    ("top_logprobs", (None, 0)),
    ("logit_bias", (None, {})),
    ("modalities", (None, [], ["text"])),
    ("audio", (None,)),
    ("web_search_options", (None,)),
    ("metadata", (None, {})),
)
"""What each of these means where it is absent, in OpenAI's reference. `store` is not here: an account may keep answers
unless `store` is false ("Migrate to the Responses API": stored by default for new accounts)."""
_NO_LIST: Final[tuple[Any, ...]] = (None, [])
_NO_CHOICE: Final = (None, "auto", "none")
"""What may be said of tools, or functions, where there are none; providers refuse even this then."""


_no_ops = attrgetter(*(name for name, _ in _NO_OPS))
_NONE_GIVEN: Final = (UNSET,) * len(_NO_OPS)
_calls = attrgetter("tool_calls")


def take_out_no_ops(request: ChatRequest, names: list[str]) -> None:
    """Take out what changes nothing, whatever the provider; adds the paths to `names`."""
    if _no_ops(request) != _NONE_GIVEN:
        for name, values in _NO_OPS:
            _take_out_if(request, name, values, names)
    # OpenAI refuses empty lists of tools and calls; vLLM's answers have one in each message.
    if request.tools is not UNSET and not request.tools:
        _take_out_if(request, "tools", _NO_LIST, names)
        _take_out_if(request, "tool_choice", _NO_CHOICE, names)
        _take_out_if(request, "parallel_tool_calls", (None, True, False), names)
    if request.functions is not UNSET and not request.functions:
        _take_out_if(request, "functions", _NO_LIST, names)
        _take_out_if(request, "function_call", _NO_CHOICE, names)
    calls = [*map(_calls, request.messages)]
    if None in calls or [] in calls:
        _take_out_empty_calls(request, names)


def _take_out_empty_calls(request: ChatRequest, names: list[str]) -> None:
    for place, message in enumerate(request.messages):
        if message.tool_calls is not UNSET and not message.tool_calls:
            message.tool_calls = UNSET
            names.append(f"messages[{place}].tool_calls")


def fit(request: ChatRequest, quirks: Quirks, names: list[str]) -> None:
    """Take out what the provider's API does not know; adds the paths to `names`."""
    if quirks.lacks:
        lacking = quirks.lacks
        for name, value in zip(lacking, _values(lacking)(request), strict=True):
            if value is not UNSET:
                setattr(request, name, UNSET)
                names.append(name)
    if quirks.seed_field == "random_seed":
        if request.random_seed is UNSET:
            request.random_seed = request.seed
        request.seed = UNSET
    elif request.random_seed is not UNSET:
        if request.seed is UNSET:
            request.seed = request.random_seed
        request.random_seed = UNSET
    if request.store is False and not quirks.may_store:
        request.store = UNSET
        names.append("store")
    if quirks.messages_lack:
        _fit_messages(request, quirks.messages_lack, names)


@cache
def _values(names: tuple[str, ...]) -> Callable[[ChatRequest | ChatMessage], tuple[Any, ...]]:
    """Return what reads these fields of a request, or of a message; most have none of them. Bounded: by the rows of
    quirks."""
    values = attrgetter(*names)
    return values if len(names) > 1 else lambda one: (values(one),)


def _fit_messages(request: ChatRequest, lacking: tuple[str, ...], names: list[str]) -> None:
    values_of, nothing = _values(lacking), (UNSET,) * len(lacking)
    for place, message in enumerate(request.messages):
        values = values_of(message)
        if values == nothing:
            continue
        for name, value in zip(lacking, values, strict=True):
            if value is UNSET or (name == "refusal" and value) or (name == "name" and message.role == "tool"):
                continue  # words of the conversation, and the name of a tool, which those that refuse names know
            setattr(message, name, UNSET)
            names.append(f"messages[{place}].{name}")


def _take_out_if(request: ChatRequest, name: str, values: tuple[Any, ...], names: list[str]) -> None:
    value = getattr(request, name)
    if value is not UNSET and value in values:
        setattr(request, name, UNSET)
        names.append(name)
