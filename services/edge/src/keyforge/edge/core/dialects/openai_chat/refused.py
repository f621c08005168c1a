"""Finds in a request what a provider lacks, where the answer would have another form or cost without it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from keyforge.contracts.errors import Problem, problem
from keyforge.edge.core.dialects.openai_chat.request import ChatRequest, ImagePart, TextPart
from keyforge.edge.core.dialects.quirks import Refusable

_TEXT: Final = frozenset(("text", None))
"""Types of `response_format` that ask for nothing."""


def refused(request: ChatRequest, lacking: Iterable[Refusable]) -> Problem | None:
    """Return a problem that names the first field of those that a provider lacks; None: the request has none."""
    for name in sorted(lacking):
        if (at := next(_FINDERS[name](request), None)) is not None:
            return problem(
                "field_unsupported",
                f"The provider of this model has no `{at}`, and without it the answer is not what was asked for:"
                " leave it out, or use a model of another provider.",
                param=at,
            )
    return None


def _response_format(request: ChatRequest) -> Iterator[str]:
    if request.response_format and request.response_format.get("type") not in _TEXT:
        yield "response_format"


def _strict(request: ChatRequest) -> Iterator[str]:
    for number, tool in enumerate(request.tools or ()):
        if tool.function and tool.function.get("strict"):
            yield f"tools[{number}].function.strict"
    for number, function in enumerate(request.functions or ()):
        if function.get("strict"):
            yield f"functions[{number}].strict"


def _n(request: ChatRequest) -> Iterator[str]:
    if request.n and request.n > 1:
        yield "n"


def _logprobs(request: ChatRequest) -> Iterator[str]:
    for name in ("logprobs", "top_logprobs"):
        if getattr(request, name):
            yield name


def _cache_control(request: ChatRequest) -> Iterator[str]:
    for number, message in enumerate(request.messages):
        if message.cache_control:
            yield f"messages[{number}].cache_control"
        for place, part in enumerate(message.content if isinstance(message.content, list) else ()):
            if isinstance(part, TextPart | ImagePart) and part.cache_control:
                yield f"messages[{number}].content[{place}].cache_control"
    for number, tool in enumerate(request.tools or ()):
        if tool.cache_control:
            yield f"tools[{number}].cache_control"


_FINDERS: Final[Mapping[Refusable, Callable[[ChatRequest], Iterator[str]]]] = {
    "response_format": _response_format,
    "strict": _strict,
    "n": _n,
    "logprobs": _logprobs,
    "cache_control": _cache_control,
}
"""Each yields the places of a field, as a problem names them."""
