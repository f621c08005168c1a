"""Reads a request body into the type of its route, or returns precisely what is wrong with it.

What is forwarded is the parse written back, so no byte of the body can mean one thing here and another to a provider.
A duplicate key is an error of its own. It is found by counting colons: the parse written back has each member once, and
its strings are those of the body, so a body has more colons exactly when a key came twice in it. Only where a body may
spell a colon as an escape are those outside the strings counted alone. Both are a small part of the standard library's
check; the property tests hold them against it.
"""

import json
import re
from typing import Any, Final, Generic, TypeVar

import msgspec

from keyforge.contracts.errors import Problem, problem

T = TypeVar("T", bound=msgspec.Struct)

DEPTH_MAX: Final = 64
"""Chosen: the default of .NET's System.Text.Json; schemas of tools have single digits of levels."""
CONTAINERS_MAX: Final = 50_000
"""Objects and arrays in one body: bounds what it costs to decode, and to find its depth. Chosen: in a body of 4 MiB,
the most by default, one in 84 bytes, which a message with its role and text hardly has."""
EXPLAINED_BYTES_MAX: Final = 128 * 1024
"""Larger bodies that are wrong are not read again for a better message: that would delay all other requests."""
MESSAGE_CHARS_MAX: Final = 200
"""Of a message that quotes the body."""
PARAM_CHARS_MAX: Final = 100
"""Of the field that a message names; in a body a name may be as long as the body."""

ENCODER: Final = msgspec.json.Encoder()
_ESCAPED_COLON: Final = b"\\u003"
"""How every escape of a colon begins, in either case."""
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_UNKNOWN_FIELD: Final = re.compile(r"Object contains unknown field `(.*?)`(?: - at `\$\.?([^`]*)`)?", re.DOTALL)
_AT: Final = re.compile(r"(.*) - at `\$\.?([^`]*)`", re.DOTALL)
_NOTHING: Final = r"(?!)"
"""Matches no field."""


class BodyForm(Generic[T]):
    """A form of body: its type, and the paths of fields that are refused for what they cost.

    `unbounded`: values of another type have a cost without bound. `costly`: accepted only with values that cost nothing
    beyond the worst case.
    """

    __slots__ = ("costly", "decode", "unbounded")

    def __init__(self, type_: type[T], *, unbounded: str = _NOTHING, costly: str = _NOTHING) -> None:
        self.decode = msgspec.json.Decoder(type_).decode
        self.unbounded = re.compile(unbounded)
        self.costly = re.compile(costly)


def read(body: bytes, form: BodyForm[T]) -> T | Problem:
    """Return the request in `body`, or the problem with it. Every value in the result is bounded by the body's size."""
    if (
        len(body) > CONTAINERS_MAX
        and _opened(body) > CONTAINERS_MAX
        and _opened(_outside_strings(body)) > CONTAINERS_MAX
    ):
        return problem("json_too_deep", metadata={"depth_max": DEPTH_MAX})
    try:
        request = form.decode(body)
        written = ENCODER.encode(request)
    except RecursionError:
        return problem("json_too_deep", metadata={"depth_max": DEPTH_MAX})
    except (msgspec.MsgspecError, UnicodeDecodeError, OverflowError) as error:
        return _explain(body, error, form)
    count = _members if b"\\" in body and _ESCAPED_COLON in body else _colons
    if count(body) != count(written):
        return _explain(body, None, form)
    if _count(body, b"{") + _count(body, b"[") > DEPTH_MAX and _too_deep(_outside_strings(body)):
        return problem("json_too_deep", metadata={"depth_max": DEPTH_MAX})
    return request


def _count(text: bytes, char: bytes) -> int:
    """Count a byte: CPython 3.11 takes bytes out three times as fast as it counts them."""
    return len(text) - len(text.replace(char, b""))


def _colons(text: bytes) -> int:
    return _count(text, b":")


def _members(text: bytes) -> int:
    """Count the members of all objects in valid JSON: each has one colon outside the strings."""
    return _outside_strings(text).count(b":")


def _outside_strings(text: bytes) -> bytes:
    """Return what stands outside the strings of valid JSON.

    Escapes exist only inside strings. Within a run of backslashes pairs go first, left to right, so what is left of it
    escapes the quote after it, or nothing.
    """
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b"".join(text.split(b'"')[::2])


def _opened(outside: bytes) -> int:
    return _count(outside, b"{") + _count(outside, b"[")


def _too_deep(outside: bytes) -> bool:
    if _opened(outside) <= DEPTH_MAX:
        return False
    brackets = outside.translate(None, _NOT_BRACKETS)
    for _ in range(DEPTH_MAX):
        brackets = brackets.replace(b"{}", b"").replace(b"[]", b"")
        if not brackets:
            return False
    return True


def _explain(body: bytes, error: Exception | None, form: BodyForm[Any]) -> Problem:
    """Return what is wrong with a body. Not JSON comes first, then duplicate keys, depth, types."""
    if len(body) > EXPLAINED_BYTES_MAX:
        if error is None:
            return problem("json_duplicate_key")
        return (
            _explain_types(str(error), form) if isinstance(error, msgspec.ValidationError) else problem("json_invalid")
        )
    try:
        json.loads(body.decode(), object_pairs_hook=_each_once, parse_constant=_refuse_constant)
    except _DuplicateKeyError as duplicate:
        return problem("json_duplicate_key", param=str(duplicate)[:PARAM_CHARS_MAX])
    except RecursionError:
        return problem("json_too_deep", metadata={"depth_max": DEPTH_MAX})
    except ValueError:
        return problem("json_invalid")
    if not isinstance(error, msgspec.ValidationError):
        return problem("json_invalid")  # lone surrogates, numbers past every range
    return _explain_types(str(error), form)


def _explain_types(text: str, form: BodyForm[Any]) -> Problem:
    if found := _UNKNOWN_FIELD.fullmatch(text):
        name, at = found[1], found[2]
        return problem("field_unsupported", param=(f"{at}.{name}" if at else name)[:PARAM_CHARS_MAX])
    found = _AT.fullmatch(text)
    reason, at = (found[1], found[2]) if found else (text, "")
    param = at[:PARAM_CHARS_MAX] or None
    if form.unbounded.fullmatch(at):
        return problem("unbounded_content", param=param)
    if form.costly.fullmatch(at):
        return problem("field_unsupported", param=param)
    return problem("request_invalid", reason[:MESSAGE_CHARS_MAX], param=param)


class _DuplicateKeyError(ValueError):
    pass


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _DuplicateKeyError(name)
        found[name] = value
    return found


def _refuse_constant(_name: str) -> float:
    raise ValueError("NaN and Infinity are not JSON")
