"""What is wrong with a body that is no JSON: named, with its place, as far as that costs no more than reading it did.

Bytes are counted from 0, after a byte order mark if there is one.
"""

import json
import re
from typing import Any, Final

import msgspec

from keyforge.contracts.errors import Problem, problem
from keyforge.contracts.json_text import encoding_fault, not_utf8_at, wide_encoding

EXPLAINED_BYTES_MAX: Final = 128 * 1024
"""Larger bodies that are wrong are not parsed again for a better message: that would delay all other requests."""
TOKENS_MAX: Final = 20_000
"""Strings and signs, or escapes, that are looked at to find a place. Measured: 0.6 us each, so 12 ms at most; doubled,
twice that, in which nothing else is served. A conversation of 4 MiB has a few thousand, as its texts are long."""
PARAM_CHARS_MAX: Final = 100
"""Of the field that a message names; in a body a name may be as long as the body."""

_TOKEN: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[{}\[\],:]', re.DOTALL)
_SURROGATE: Final = re.compile(
    rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(\\u[dD][c-fC-F][0-9a-fA-F]{2})?|[c-fC-F][0-9a-fA-F]{2})"
)
"""An escape of a surrogate, or of a pair of them (then with a group)."""
_MALFORMED: Final = "JSON is malformed: "
"""How msgspec begins what it found."""


def not_utf8(body: bytes) -> Problem | None:
    """Return the problem of a body that is in another encoding than UTF-8, or in none."""
    if wide_encoding(body):
        return problem("json_invalid", encoding_fault(body))
    at = not_utf8_at(body)
    if at < 0:
        return None
    param, where = place_of(body, at)
    return problem("json_invalid", encoding_fault(body, where), param=param)


def half_surrogate(body: bytes) -> Problem | None:
    """Return the problem of a body in which an escape is half of a surrogate pair: it stands for no character."""
    at = _half_surrogate_at(body)
    if at < 0:
        return None
    param, where = place_of(body, at)
    escape = body[at : at + 6].decode()
    message = (
        f"`{escape}` at byte {at}{where} is half of a surrogate pair, which is no character: a text was cut in two."
    )
    return problem("json_invalid", message, param=param)


def _half_surrogate_at(body: bytes) -> int:
    """Return where the first escape is that is half of a pair; -1: it was not found within bounds."""
    start = 0
    for _ in range(TOKENS_MAX):
        found = _SURROGATE.search(body, start)
        if found is None:
            break
        at = found.start()
        before = at
        while before and body[before - 1] == 0x5C:
            before -= 1
        if (at - before) % 2:  # its backslash is itself escaped: text that looks like an escape
            start = at + 2
        elif found[1]:
            start = found.end()
        else:
            return at
    return -1


def malformed(error: Exception | None) -> Problem:
    """Return the problem of a body that is no JSON, in the words of the parser, which quote nothing of it."""
    if not isinstance(error, msgspec.DecodeError) or isinstance(error, msgspec.ValidationError):
        return problem("json_invalid")
    text = str(error)
    reason = text.removeprefix(_MALFORMED) if text.startswith(_MALFORMED) else "it ends early"
    return problem("json_invalid", f"The request body is not valid JSON: {reason}.")


def duplicate_key(body: bytes) -> Problem | None:
    """Return the problem of JSON that has a key twice in one object. Raises ValueError and RecursionError as `json`
    does."""
    try:
        json.loads(body.decode(), object_pairs_hook=_each_once, parse_constant=_refuse_constant, parse_int=str)
    except _DuplicateKeyError as duplicate:
        # Half of a surrogate pair, which JSON can escape, cannot be in an answer.
        param = str(duplicate)[:PARAM_CHARS_MAX].encode(errors="replace").decode()
        return problem(
            "json_duplicate_key", f"The request body has the key `{param}` in one object twice.", param=param
        )
    return None


def place_of(body: bytes, at: int) -> tuple[str | None, str]:
    """Return the field in which a byte is, and how a message says so. None and nothing: it is in none, or that cannot
    be found within bounds."""
    path, in_key = _path_at(body, at)
    if path is None:
        return None, ""
    if in_key:
        return path or None, f", in a key of `{path}`" if path else ", in a key"
    return (path, f", in `{path}`") if path else (None, "")


def _path_at(body: bytes, at: int) -> tuple[str | None, bool]:
    """Return the path of the field whose value, a string, has the byte `at`; or that of the object one of whose keys
    has it, and True. A bytes level scan: `body` may be no JSON."""
    open_: list[str | int | None] = []  # of an object the key that is read (None: not yet), of an array the index
    for number, token in enumerate(_TOKEN.finditer(body)):
        if token.start() > at or number >= TOKENS_MAX:
            break
        sign = body[token.start()]
        if sign == 0x22:  # a string
            is_key = bool(open_) and open_[-1] is None
            if token.end() > at:
                return _joined(open_[:-1] if is_key else open_), is_key
            if is_key:
                open_[-1] = token[0][1:-1].decode(errors="replace")
        elif sign in b"{[":
            open_.append(None if sign == 0x7B else 0)
        elif sign in b"}]":
            del open_[-1:]
        elif sign == 0x2C and open_:  # a comma
            last = open_[-1]
            open_[-1] = last + 1 if isinstance(last, int) else None
    return None, False


def _joined(path: list[str | int | None]) -> str:
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.removeprefix(".")[:PARAM_CHARS_MAX]


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
