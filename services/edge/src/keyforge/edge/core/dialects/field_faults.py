"""What is wrong with a field of a body that is JSON: which field, and what is allowed in it.

The message says both by itself, since official clients show it alone (openai-node), without `param`.
"""

import re
from collections.abc import Iterator
from typing import Final

from msgspec.inspect import ListType, LiteralType, StructType, Type

from keyforge.contracts.errors import Problem, problem
from keyforge.edge.core.dialects.json_faults import PARAM_CHARS_MAX
from keyforge.edge.core.dialects.left_out import choices

REASON_CHARS_MAX: Final = 200
"""Of what the decoder says, which may quote the body."""

_UNKNOWN_FIELD: Final = re.compile(r"Object contains unknown field `(.*?)`(?: - at `\$\.?([^`]*)`)?", re.DOTALL)
_MISSING_FIELD: Final = re.compile(r"Object missing required field `(.*?)`(?: - at `\$\.?([^`]*)`)?", re.DOTALL)
_AT: Final = re.compile(r"(.*) - at `\$\.?([^`]*)`", re.DOTALL)
_EXPECTED: Final = re.compile(r"Expected (`[^`]*`[^`]*?)(?:, got (`[^`]*`))?")
_STEP: Final = re.compile(r"[^.\[\]]+|\[[^\]]*\]")
_WHOLE: Final = "The request body"


def explain(text: str, tree: Type, *, unbounded: re.Pattern[str], costly: re.Pattern[str]) -> Problem:
    """Return the problem that msgspec describes with `text`, of a body whose type is `tree`.

    `unbounded`: paths of values whose cost has no bound unless they are of our types; `costly`: of those that are
    accepted only with values that cost nothing more.
    """
    if found := _UNKNOWN_FIELD.fullmatch(text):
        path = _joined(found[2], found[1])
        if unbounded.fullmatch(path):
            reason = f"`{_cut(path)}` is not supported: its cost cannot be bounded in advance."
            return problem("unbounded_content", reason, param=_cut(path))
        reason = f"`{_cut(path)}` is not supported: its effect on the cost is not known. Leave it out."
        return problem("field_unsupported", reason, param=_cut(path))
    if found := _MISSING_FIELD.fullmatch(text):
        reason = f"`{_cut(_joined(found[2], found[1]))}` is required."
        return problem("request_invalid", reason, param=_cut(found[2] or "") or None)
    found = _AT.fullmatch(text)
    reason, path = (found[1], found[2]) if found else (text, "")
    allowed, param = _listed(allowed_at(tree, path)), _cut(path) or None
    field = f"`{param}`" if param else _WHOLE
    if unbounded.fullmatch(path):
        must = f"{field} must be {allowed}: the cost of anything else cannot be bounded in advance."
        return problem("unbounded_content", must, param=param)
    if costly.fullmatch(path):
        must = f"{allowed}, or left out" if allowed else "left out"
        return problem("field_unsupported", f"{field} must be {must}: it could cost more than is known.", param=param)
    return problem("request_invalid", f"{field}{_wanted(reason[:REASON_CHARS_MAX], allowed)}", param=param)


def allowed_at(tree: Type, path: str) -> tuple[str, ...]:
    """Return the values of which a field must have one, by its path without `$`; none: it may have others, or none."""
    types = [tree]
    for step in _STEP.findall(path):
        types = [inner for one in types for inner in _inner(one, step)]
    values = [value for one in types for choice in choices(one) for value in _values(choice)]
    return tuple(dict.fromkeys(values))


def _inner(type_: Type, step: str) -> Iterator[Type]:
    for one in choices(type_):
        if isinstance(one, ListType) and step.startswith("["):
            yield one.item_type
        elif isinstance(one, StructType):
            types: dict[str | None, Type] = {field.encode_name: field.type for field in one.fields}
            types[one.tag_field] = LiteralType((one.tag,))
            if step in types:
                yield types[step]


def _values(type_: Type) -> Iterator[str]:
    return (str(value) for value in type_.values) if isinstance(type_, LiteralType) else iter(())


def _wanted(reason: str, allowed: str) -> str:
    if found := _EXPECTED.fullmatch(reason):
        got = f", not {found[2]}" if found[2] else ""
        return f" must be {found[1]}{got}."
    return f" must be {allowed}." if allowed else f": {reason[:1].lower()}{reason[1:]}."


def _listed(values: tuple[str, ...]) -> str:
    names = [f"`{value}`" for value in values]
    if len(names) > 2:
        return f"one of {', '.join(names)}"
    return " or ".join(names)


def _joined(path: str | None, name: str) -> str:
    return f"{path}.{name}" if path else name


def _cut(path: str) -> str:
    return path[:PARAM_CHARS_MAX]
