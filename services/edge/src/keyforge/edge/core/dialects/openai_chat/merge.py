"""Puts a completion together from the chunks of its stream, in time that grows with their length alone."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from keyforge.edge.core.dialects.usage_table import is_blank

_WHOLE: Final = frozenset(
    ("id", "role", "type", "name", "format", "index", "signature", "mime_type", "media_type", "expires_at")
)
"""Fields of a delta that come whole: once, or with every chunk, as some servers do. Other text comes in parts."""
_OF_COMPLETION: Final = frozenset(("choices", "usage", "object", "error"))
"""Fields of a chunk that its completion has otherwise."""


class _Text:
    """Text that comes in parts."""

    __slots__ = ("parts",)

    def __init__(self) -> None:
        self.parts: list[str] = []


class _Items:
    """A list that comes in parts: an item of the same index, or id, goes on with the one before."""

    __slots__ = ("known", "order")

    def __init__(self) -> None:
        self.order: list[Any] = []
        self.known: dict[tuple[str, ...], dict[str, Any]] = {}

    def add(self, item: object) -> None:
        if not isinstance(item, dict):
            self.order.append(item)
            return
        key: tuple[str, ...] | None = next(
            ((name, repr(item[name])) for name in ("index", "id") if item.get(name) is not None), None
        )
        into = self.known.get(key) if key else None
        if key and into and _differ(into.get("type"), item.get("type")):
            key = (*key, repr(item["type"]))  # OpenRouter: a summary and what is encrypted have one index
            into = self.known.get(key)
        if into is None:
            into = {}
            self.order.append(into)
            if key:
                self.known[key] = into
        _merge(into, item)


def merged(chunks: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the completion that chunks make. Its fields beside the choices are those that came first, and its usage
    is the last that counts anything."""
    completion: dict[str, Any] = {}
    usage: Any = None
    choices: dict[str, dict[str, Any]] = {}
    for chunk in chunks:
        for name, value in chunk.items():
            if name not in _OF_COMPLETION and completion.get(name) is None:
                completion[name] = value
        if chunk.get("usage") is not None and not is_blank(chunk["usage"]):
            usage = chunk["usage"]
        for part in chunk.get("choices") or ():
            choice = choices.setdefault(repr(part.get("index", 0)), {"index": part.get("index", 0), "delta": {}})
            _go_on(choice, part)
    completion |= {
        "object": "chat.completion",
        "choices": [_completed(choice) for choice in sorted(choices.values(), key=_place)],
    }
    return completion if usage is None else {**completion, "usage": usage}


def _place(choice: Mapping[str, Any]) -> int:
    return choice["index"] if isinstance(choice["index"], int) else 0


def _go_on(choice: dict[str, Any], part: Mapping[str, Any]) -> None:
    """Take in what a chunk has of one choice."""
    for name, value in part.items():
        if name == "delta":
            _merge(choice["delta"], value or {})
        elif name == "logprobs":
            _merge(choice, {name: value})
        elif value or choice.get(name) is None:  # "" is no reason to finish, and replaces none
            choice[name] = value


def _completed(choice: dict[str, Any]) -> dict[str, Any]:
    """Return a choice with its message."""
    message = {"role": "assistant", "content": None, **_plain(choice.pop("delta"))}
    calls = message.get("tool_calls")
    if isinstance(calls, list):
        message["tool_calls"] = [
            {name: value for name, value in call.items() if name != "index"} if isinstance(call, dict) else call
            for call in calls
        ]
    choice = _plain(choice)
    return {**choice, "message": message, "finish_reason": choice.get("finish_reason") or None}


def _differ(one: object, other: object) -> bool:
    return one is not None and other is not None and one != other


def _merge(into: dict[str, Any], part: Mapping[str, Any]) -> None:
    for name, value in part.items():
        known = into.get(name)
        if isinstance(value, str) and name not in _WHOLE:
            if isinstance(known, _Items):
                known.add({"type": "text", "text": value})
                continue
            if not isinstance(known, _Text):
                known = into[name] = _Text()
            known.parts.append(value)
        elif isinstance(value, list):
            if not isinstance(known, _Items):
                into[name] = items = _Items()
                if isinstance(known, _Text) and any(known.parts):  # Mistral: text first, then parts
                    items.add({"type": "text", "text": "".join(known.parts)})
                known = items
            for item in value:
                known.add(item)
        elif isinstance(value, dict):
            if not isinstance(known, dict):
                known = into[name] = {}
            _merge(known, value)
        elif known is None or value not in (None, ""):
            into[name] = value


def _plain(value: Any) -> Any:
    """Return a value with its parts joined."""
    if isinstance(value, _Text):
        return "".join(value.parts)
    if isinstance(value, _Items):
        return [_plain(item) for item in value.order]
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return value
