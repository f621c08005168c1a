"""Reads in a provider's error that it refuses something that we added, and what to concede then.

Providers word that each in its own way (the tests have some twenty), but all name the field and say that they do not
know it, or name the most that it may be. What they say of a value is not mistaken for a word on the name: another name
could be one that the provider ignores, and the cap with it.
"""

import re
from typing import Final

import msgspec

from keyforge.edge.core.dialects.additions import Concessions
from keyforge.edge.core.dialects.base import ParsedRequest, Sending
from keyforge.edge.core.dialects.openai_chat.render import cap_field
from keyforge.edge.core.dialects.openai_chat.request import ChatRequest
from keyforge.edge.core.dialects.provider_error import MESSAGE_CHARS_MAX, ProviderError
from keyforge.edge.core.dialects.quirks import CapField
from keyforge.edge.core.dialects.strict_json import ENCODER
from keyforge.edge.core.pricing.workload import Workload

TEXT_CHARS_MAX: Final = 2 * MESSAGE_CHARS_MAX
"""Of an error that is looked at. Chosen: as many as `MESSAGE_CHARS_MAX` again for its codes, whose length has no
bound."""
CAP_UNNAMED: Final = 4_096
"""Where a provider says that a cap is too large and names no number. Precedent: the least that a current model of a
provider that we ship can write (gpt-3.5-turbo, gpt-4-turbo)."""

_UNKNOWN: Final = re.compile(
    r"unknown|unrecogni[sz]ed|unsupported|unexpected|extraneous|extra_forbidden|extra (inputs?|fields?|keys?)\b"
    r"|additional propert|not (be |currently |yet |a )?(supported|permitted|allowed|recogni[sz]ed|accepted|known|valid)"
    r"|(does|do)(n't| not) (support|accept|allow)|can(not|'t| not) (be used|be set|find)|no such|incompatible"
)
"""That a field is not one of its own."""
_INSTEAD: Final = re.compile(
    r"expected one of|did you mean"
    r"|(?:allowed|valid|known|supported|permitted) (?:fields|parameters|properties|keys|names)"
)
"""What comes after it is a list of other fields."""
_TOO_LARGE: Final = re.compile(
    r"too (large|big|high|long|many)|at most|maximum|range|less than|exceed|above|limited|<=|>"
)
"""That a value is more than it takes."""
_OF_A_VALUE: Final = re.compile(
    _TOO_LARGE.pattern + r"|too (small|low)|at least|minimum|greater than|positive|must be|should be|integer"
)
"""That a value is not one that it takes."""
_OF_THE_CAP: Final = re.compile(
    r"max_(completion_|new_|output_)?tokens|(completion|output) tokens|in the (completion|output)"
)
_NUMBER: Final = re.compile(r"(?<![\w.-])(\d{1,3}(?:[,_]\d{3})+|\d{1,15})(?![\w-]|[.,_]?\d)")
"""No part of a model's name, of an id or of a decimal number."""
_CONTEXT: Final = re.compile(
    r"(?:context (?:length|window|limit)|\+\s?`?max_(?:new_)?tokens`? (?:must|should|can))[^\d>]*(\d[\d,_]*)"
)
"""How many tokens prompt and answer may have together; the second form is that of text-generation-inference."""
_OF_THE_PROMPT: Final = re.compile(
    r"prompt|messages\b|\binputs\b|input (?:token|length|text|messages)|\bremain|\b(?:room|total|combined|sum)\b|\+"
)
"""That it depends on the length of one prompt how large a cap may be."""
_ADDED: Final = re.compile(r'"max_(?:completion_)?tokens":\d+|"stream_options":\{[^{}]*\}')
"""The cap and the wish for usage, as they are rendered."""
_WORDS: Final = re.compile(
    r"max_(completion_|new_|output_)?tokens|stream_options|include_usage|(completion|output)(\s|\\.)+tokens"
    r"|in(\s|\\.)+the(\s|\\.)+(completion|output)"
)
"""What names them in an error, as a body has it."""
_ROOM: Final = re.compile(r">\s*(\d[\d,_]*)")


def conceded(parsed: ParsedRequest, workload: Workload, sending: Sending, error: ProviderError) -> Concessions | None:
    """Return what to concede where an error refuses something that was added to a request, beside what was conceded
    before; None: it refuses something else, or what the agent itself sent."""
    found = _conceded(parsed, workload, sending, error)
    return found and msgspec.structs.replace(found, lasts=found.lasts and not _may_be_quoted(parsed.content))


def _may_be_quoted(request: ChatRequest) -> bool:
    """Return whether an agent itself sent words for what was added: an error may quote them. An agent whose picture can
    be loaded at the second time only could so make its provider refuse a field, and take the request without it."""
    text = ENCODER.encode(request).decode("utf-8", "replace").lower()
    return _WORDS.search(_ADDED.sub("", text, count=2)) is not None


def _conceded(parsed: ParsedRequest, workload: Workload, sending: Sending, error: ProviderError) -> Concessions | None:
    text, before = _text(error), sending.concessions
    if _UNKNOWN.search(text):
        found = before
        if _asked_by_us(parsed) and _names(text, "stream_options", "include_usage"):
            found = msgspec.structs.replace(found, asks_usage=False)
        # What was conceded for another request may be wrong for this one; within one request no name is taken again.
        other = _other_name(parsed.content, text) if before.cap_field is None or not sending.again else None
        if other is not None:
            found = msgspec.structs.replace(found, cap_field=other)
        if found is not before:
            return found
    if workload.output_asked is None and _TOO_LARGE.search(text) and _OF_THE_CAP.search(text):
        return _lowered(text, sending.cap, before)
    return None


def _asked_by_us(parsed: ParsedRequest) -> bool:
    options = parsed.content.stream_options
    return bool(options and options.include_usage) and not parsed.shows_usage


def _other_name(request: ChatRequest, text: str) -> CapField | None:
    """Return what else the cap may be called, where the name that was sent is not known; None: nothing is wrong with
    it, or only with its value, or it stands beside a prediction, which has no other."""
    name = cap_field(request)
    if request.prediction or not _names(text, name) or _OF_A_VALUE.search(text):
        return None
    return "max_completion_tokens" if name == "max_tokens" else "max_tokens"


def _text(error: ProviderError) -> str:
    """Return all that may name a field that is refused, in lower case: not those that would be taken in its place."""
    param = error.details.get("param")
    refused = _INSTEAD.split(error.message.lower(), maxsplit=1)[0]
    return " ".join((refused, str(param or "").lower(), *error.words))[:TEXT_CHARS_MAX]


def _names(text: str, *fields: str) -> bool:
    return any(re.search(rf"(?<!\w){field}(?!\w)", text) for field in fields)


def _lowered(text: str, cap: int, before: Concessions) -> Concessions | None:
    """Return the largest cap that an error leaves room for; None: none that is less than what was sent."""
    numbers = [_number(one) for one in _NUMBER.findall(text)]
    context = _CONTEXT.search(text)
    if context is None:
        lower = max((number for number in numbers if number < cap), default=CAP_UNNAMED)
    else:
        window = _number((_ROOM.search(text) or context)[1])
        with_cap = [number for number in numbers if number > max(window, cap)]  # what was asked for, prompt and cap
        others = [number for number in numbers if number < window and number != cap]
        if any(window < number < cap for number in numbers):
            return None  # the prompt alone is too long
        lower = window - (min(with_cap) - cap if with_cap else max(others, default=0))
    if not 1 <= lower < cap:
        return None
    lasts = context is None and _OF_THE_PROMPT.search(text) is None
    return msgspec.structs.replace(before, cap_max=lower, cap_max_lasts=lasts)


def _number(text: str) -> int:
    return int(text.replace(",", "").replace("_", ""))
