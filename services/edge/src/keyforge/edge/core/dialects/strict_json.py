"""Reads a request body into the type of its route, or returns precisely what is wrong with it.

What is forwarded is the parse written back, so no byte of the body can mean one thing here and another to a provider.
A duplicate key is an error of its own. It is found by counting colons: the parse written back has each member once, and
its strings are those of the body, so a body has more colons exactly when a key came twice in it. Only where a body may
spell a colon as an escape are those outside the strings counted alone. Both are a small part of the standard library's
check; the property tests hold them against it.
"""

import re
from typing import Any, Final, Generic, TypeVar

import msgspec
import msgspec.inspect

from keyforge.contracts.errors import Problem, problem
from keyforge.contracts.json_text import BOM
from keyforge.edge.core.dialects import field_faults, json_faults
from keyforge.edge.core.dialects.json_faults import EXPLAINED_BYTES_MAX
from keyforge.edge.core.dialects.left_out import LeftOut, OnlyInAnswers

T = TypeVar("T", bound=msgspec.Struct)

DEPTH_MAX: Final = 64
"""Chosen: the default of .NET's System.Text.Json; schemas of tools have single digits of levels."""
CONTAINERS_MAX: Final = 50_000
"""Objects and arrays in one body: bounds what it costs to decode, and to find its depth. Chosen: in a body of 4 MiB,
the most by default, one in 84 bytes, which a message with its role and text hardly has."""

_TOO_DEEP: Final = problem(
    "json_too_deep",
    f"The request body is nested more than {DEPTH_MAX} levels deep.",
    metadata={"depth_max": DEPTH_MAX},
)
_TOO_MANY: Final = problem(
    "json_too_deep",
    f"The request body has more than {CONTAINERS_MAX} objects and arrays.",
    metadata={"containers_max": CONTAINERS_MAX},
)

ENCODER: Final = msgspec.json.Encoder()
_ESCAPED_COLON: Final = b"\\u003"
"""How every escape of a colon begins, in either case."""
_BACKSLASH: Final = ord("\\")
"""A number is looked for at once; where bytes are, CPython first raises and catches a TypeError (3.11: 0.2 us)."""
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_UNKNOWN: Final = "Object contains unknown field"
_NULL: Final = "got `null`"
_PLACE: Final = " - at "
"""Before the place of what msgspec found."""
_NOTHING: Final = r"(?!)"
"""Matches no field."""
_NO_FIELDS: Final[OnlyInAnswers] = {}


class BodyForm(Generic[T]):
    """A form of body: its type, and the paths of fields that are refused for what they cost.

    `unbounded`: values of another type have a cost without bound. `costly`: accepted only with values that cost nothing
    beyond the worst case. `only_in_answers`: fields that are left out.
    """

    __slots__ = ("costly", "decode", "left_out", "tree", "type", "unbounded")

    def __init__(
        self,
        type_: type[T],
        *,
        unbounded: str = _NOTHING,
        costly: str = _NOTHING,
        only_in_answers: OnlyInAnswers = _NO_FIELDS,
    ) -> None:
        self.type = type_
        self.decode = msgspec.json.Decoder(type_).decode
        self.tree = msgspec.inspect.type_info(type_)
        self.left_out = LeftOut(self.tree, only_in_answers)
        self.unbounded = re.compile(unbounded)
        self.costly = re.compile(costly)


def read(body: bytes, form: BodyForm[T], names: list[str]) -> T | Problem:
    """Return the request in `body`, or the problem with it. Every value in the result is bounded by the body's size.

    What says nothing to a provider (`left_out.py`) is not in the result; its paths are added to `names`.
    """
    body = body.removeprefix(BOM)
    if (
        len(body) > CONTAINERS_MAX
        and _opened(body) > CONTAINERS_MAX
        and _opened(_outside_strings(body)) > CONTAINERS_MAX
    ):
        return _TOO_MANY
    try:
        request = form.decode(body)
        written = ENCODER.encode(request)
    except RecursionError:
        return _TOO_DEEP
    except (msgspec.MsgspecError, UnicodeDecodeError, OverflowError) as error:
        if isinstance(error, msgspec.ValidationError) and _may_be_left_out(str(error)):
            found = _read_shorter(body, form, names)
            if found is not None:
                return found
        return _explain(body, error, form)
    if not _has_as_many_members(body, written):
        return _explain(body, None, form)
    if _opened(body) > DEPTH_MAX and _too_deep(_outside_strings(body)):
        return _TOO_DEEP
    return request


def _may_be_left_out(text: str) -> bool:
    return text.startswith(_UNKNOWN) or _NULL in text


def _has_as_many_members(body: bytes, written: bytes) -> bool:
    """Return whether valid JSON has as many members as the parse of it written back, so no key twice.

    Here and in `_opened` a byte is counted by taking it out: CPython 3.11 does that three times as fast as it counts.
    """
    if _BACKSLASH in body and _ESCAPED_COLON in body:
        return _members(body) == _members(written)
    return len(body) - len(body.replace(b":", b"")) == len(written) - len(written.replace(b":", b""))


def _members(text: bytes) -> int:
    """Count the members of all objects in valid JSON: each has one colon outside the strings."""
    return _outside_strings(text).count(b":")


def _outside_strings(text: bytes) -> bytes:
    """Return what stands outside the strings of valid JSON.

    Escapes exist only inside strings. Within a run of backslashes pairs go first, left to right, so what is left of it
    escapes the quote after it, or nothing.
    """
    if _BACKSLASH in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b"".join(text.split(b'"')[::2])


def _opened(outside: bytes) -> int:
    return 2 * len(outside) - len(outside.replace(b"{", b"")) - len(outside.replace(b"[", b""))


def _too_deep(outside: bytes) -> bool:
    if _opened(outside) <= DEPTH_MAX:
        return False
    brackets = outside.translate(None, _NOT_BRACKETS)
    for _ in range(DEPTH_MAX):
        brackets = brackets.replace(b"{}", b"").replace(b"[]", b"")
        if not brackets:
            return False
    return True


def _read_shorter(body: bytes, form: BodyForm[T], names: list[str]) -> T | Problem | None:
    """Return what `read` does, of a body without what is left out of it; None: it has nothing of that, or an object
    with a key twice."""
    try:
        document = msgspec.json.decode(body)
        written = ENCODER.encode(document)
    except msgspec.ValidationError as error:  # a number that nothing holds, whose place it does not say
        return _explain(body, msgspec.ValidationError(str(error).partition(_PLACE)[0]), form)
    except RecursionError:
        return _TOO_DEEP
    except (msgspec.MsgspecError, UnicodeDecodeError, OverflowError) as error:
        return _explain(body, error, form)
    found = form.left_out.take_out(document) if _has_as_many_members(body, written) else []
    if not found:
        return None
    names += found
    try:
        request = msgspec.convert(document, form.type)
    except msgspec.ValidationError as error:
        return _explain_types(str(error), form)
    return _TOO_DEEP if _too_deep(_outside_strings(body)) else request


def _explain(body: bytes, error: Exception | None, form: BodyForm[Any]) -> Problem:
    """Return what is wrong with a body. Not JSON comes first, then duplicate keys, depth, types."""
    if wrong := json_faults.not_utf8(body):
        return wrong
    if len(body) > EXPLAINED_BYTES_MAX:
        if error is None:
            return problem("json_duplicate_key")
    else:
        try:
            if wrong := json_faults.duplicate_key(body):
                return wrong
        except RecursionError:
            return _TOO_DEEP
        except ValueError:
            return json_faults.malformed(error)
    if isinstance(error, msgspec.ValidationError):
        return _explain_types(str(error), form)
    return json_faults.half_surrogate(body) or json_faults.malformed(error)


def _explain_types(text: str, form: BodyForm[Any]) -> Problem:
    return field_faults.explain(text, form.tree, unbounded=form.unbounded, costly=form.costly)
