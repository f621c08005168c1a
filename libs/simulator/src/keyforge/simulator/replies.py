"""What the simulated model answers beside plain words: calls of tools, JSON, reasoning; the same each time."""

from collections.abc import Iterator
from typing import Any, Final, Literal

import msgspec

from keyforge.simulator.fitting import UnmetSchemaError, fitting
from keyforge.simulator.script import Behaviour

CALLS_MAX: Final = 4
"""Of tools in one answer. Chosen: what agents run at once is two or three."""
TOKEN_CHARS: Final = 4
"""Of what is made here, in tokens. Precedent: OpenAI's rule of thumb, four characters a token."""
THOUGHT: Final = "thought "
_EFFORTS: Final = {"none": 0, "minimal": 4, "low": 8, "medium": 16, "high": 32, "xhigh": 64}
"""Tokens of reasoning."""
_EFFORT_DEFAULT: Final = "medium"
_JSON: Final = {"answer": "word"}
_encode = msgspec.json.Encoder().encode

ReasoningField = Literal["reasoning_content", "reasoning"]


class RequestError(ValueError):
    """A request that the API refuses: `param` is the field."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


class MadeCall(msgspec.Struct, frozen=True):
    """One call of a tool."""

    kind: Literal["function", "custom"]
    name: str
    arguments: str

    @property
    def tokens(self) -> int:
        """One more than its text: the call itself."""
        return 1 + _tokens(self.name + self.arguments)


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """One completion. `content` None: plain words, as many as are billed."""

    content: str | None = None
    calls: tuple[MadeCall, ...] = ()
    reasoning_tokens: int = 0
    reasoning_field: ReasoningField = "reasoning_content"
    finish: str = "stop"
    legacy: bool = False
    """The call is in `function_call`, since `functions` were given."""

    @property
    def reasoning(self) -> str:
        """The text of the reasoning."""
        return THOUGHT * self.reasoning_tokens

    @property
    def made_tokens(self) -> int | None:
        """Tokens beside the reasoning; None where they are plain words."""
        if self.calls:
            return sum(call.tokens for call in self.calls)
        return None if self.content is None else _tokens(self.content)

    def message(self, completion_id: str) -> dict[str, Any]:
        """Return the message of a whole answer, without plain words."""
        message: dict[str, Any] = {"role": "assistant", "content": self.content, "refusal": None}
        if self.reasoning_tokens:
            message[self.reasoning_field] = self.reasoning
        if self.legacy:
            message["function_call"] = _function(self.calls[0], self.calls[0].arguments)
        elif self.calls:
            message["tool_calls"] = [
                {"id": _call_id(completion_id, at), "type": call.kind, call.kind: _function(call, call.arguments)}
                for at, call in enumerate(self.calls)
            ]
        return message

    def deltas(self, completion_id: str, chunks: int) -> Iterator[dict[str, Any]]:
        """Yield the deltas of a stream without plain words: each text in `chunks` pieces at most, calls one by one."""
        for piece in _pieces(self.reasoning, min(chunks, self.reasoning_tokens)):
            yield {self.reasoning_field: piece}
        if self.content is not None:
            for piece in _pieces(self.content, min(chunks, _tokens(self.content))):
                yield {"content": piece}
        for at, call in enumerate(self.calls):
            pieces = _pieces(call.arguments, min(chunks, call.tokens - 1))
            if self.legacy:
                yield {"function_call": _function(call, "")}
                yield from ({"function_call": {"arguments": piece}} for piece in pieces)
                continue
            field = "arguments" if call.kind == "function" else "input"
            first = {"index": at, "id": _call_id(completion_id, at), "type": call.kind}
            yield {"tool_calls": [{**first, call.kind: _function(call, "")}]}
            for piece in pieces:
                yield {"tool_calls": [{"index": at, call.kind: {field: piece}}]}


def reply_to(request: dict[str, Any], behaviour: Behaviour, tokens_max: int) -> Reply | None:
    """Return what to answer with, cut at a maximum; None: plain words. Raises RequestError."""
    if behaviour.content is not None:
        return None
    reasoning, field = _reasoning(request, behaviour)
    made = Reply()
    if request.get("tools") or request.get("functions"):
        made = _calling(request)
    if not made.calls and request.get("response_format"):
        made = Reply(content=_json(request["response_format"]))
    if not reasoning:
        return None if made.content is None and not made.calls else _cut(made, tokens_max)
    made = msgspec.structs.replace(made, reasoning_tokens=reasoning, reasoning_field=field)
    return _cut(made, tokens_max)


def _cut(made: Reply, tokens_max: int) -> Reply:
    """A model stops at the maximum, wherever it is then."""
    reasoning = min(made.reasoning_tokens, tokens_max)
    left = tokens_max - reasoning
    if (made.made_tokens or (0 if made.calls or made.content is not None else 1)) <= left:
        return made
    calls: list[MadeCall] = []
    for call in made.calls:
        room = left * TOKEN_CHARS - len(call.name) - TOKEN_CHARS
        if room < 0:
            break
        calls.append(msgspec.structs.replace(call, arguments=call.arguments[:room]))
        left -= calls[-1].tokens
    content = None if calls else (made.content or "")[: left * TOKEN_CHARS]
    return msgspec.structs.replace(
        made,
        reasoning_tokens=reasoning,
        content=content,
        calls=tuple(calls),
        finish="length",
        legacy=made.legacy and bool(calls),
    )


def _reasoning(request: dict[str, Any], behaviour: Behaviour) -> tuple[int, ReasoningField]:
    """Tokens of reasoning, and its field: `reasoning` where a request asks as one does at OpenRouter."""
    asked = request.get("reasoning")
    if isinstance(asked, dict):
        effort = asked.get("effort") or (_EFFORT_DEFAULT if asked.get("enabled", True) else "none")
        return (0 if asked.get("exclude") is True else _EFFORTS.get(str(effort), 0)), "reasoning"
    effort = request.get("reasoning_effort") or (_EFFORT_DEFAULT if behaviour.reasoning else "none")
    return _EFFORTS.get(str(effort), 0), behaviour.reasoning or "reasoning_content"


def _json(wanted: object) -> str | None:
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if not isinstance(wanted, dict) or kind not in ("text", "json_object", "json_schema"):
        raise RequestError("response_format", "response_format.type must be text, json_object or json_schema.")
    if kind != "json_schema":
        return None if kind == "text" else _encode(_JSON).decode()
    given = wanted.get("json_schema")
    schema = given.get("schema", True) if isinstance(given, dict) else None
    try:
        return _encode(fitting(schema)).decode()
    except UnmetSchemaError as error:
        raise RequestError("response_format", f"Invalid schema for response_format: {error}") from error


def _calling(request: dict[str, Any]) -> Reply:
    """Call the tools that are offered: once they have answered, the model answers in words unless it must call."""
    legacy = not request.get("tools")
    offered = _offered(request.get("functions"), legacy=True) if legacy else _offered(request["tools"], legacy=False)
    field = "function_call" if legacy else "tool_choice"
    choice = request.get(field)
    names = _chosen(choice, offered, field)
    if choice == "none" or not names or (_answered(request) and choice in (None, "auto")):
        return Reply()
    most = 1 if legacy or request.get("parallel_tool_calls") is False else CALLS_MAX
    calls = tuple(_call(offered[name]) for name in names[:most])
    # A function that the request named is no decision of the model's: OpenAI's reference says `stop`.
    forced = isinstance(choice, dict) and choice.get("type") != "allowed_tools"
    finish = "stop" if forced else "function_call" if legacy else "tool_calls"
    return Reply(calls=calls, finish=finish, legacy=legacy)


def _offered(tools: object, *, legacy: bool) -> dict[str, tuple[str, dict[str, Any]]]:
    """Tools by name, with their kind; those that a provider runs itself have none and are not called."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for tool in tools if isinstance(tools, list) else ():
        if isinstance(tool, dict):
            kind = "function" if legacy else tool.get("type", "function")
            inner = tool if legacy else tool.get(kind)
            if kind in ("function", "custom") and isinstance(inner, dict) and isinstance(inner.get("name"), str):
                found[inner["name"]] = (kind, inner)
    return found


def _chosen(choice: object, offered: dict[str, Any], field: str) -> list[str]:
    """Names that may be called, in order."""
    if choice in (None, "none", "auto", "required"):
        return list(offered)
    named: list[Any] = []
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        allowed = choice.get("allowed_tools")
        named = allowed.get("tools", []) if isinstance(allowed, dict) else []
    elif isinstance(choice, dict):
        named = [choice]
    inner = [one.get(one.get("type", ""), one) for one in named if isinstance(one, dict)]
    names = [one["name"] for one in inner if isinstance(one, dict) and isinstance(one.get("name"), str)]
    if not names or any(name not in offered for name in names):
        raise RequestError(field, f"{field} must be none, auto, required or name tools that the request offers.")
    return names


def _answered(request: dict[str, Any]) -> bool:
    messages = request.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    return isinstance(last, dict) and last.get("role") in ("tool", "function")


def _call(tool: tuple[str, dict[str, Any]]) -> MadeCall:
    kind, given = tool
    if kind == "custom":
        return MadeCall("custom", given["name"], "word")
    parameters = given.get("parameters") or {"type": "object"}
    try:
        arguments = fitting(parameters)
    except UnmetSchemaError as error:
        if given.get("strict") is True:
            raise RequestError("tools", f"Invalid schema for function {given['name'][:64]!r}: {error}") from error
        arguments = {}  # only a strict function is sure of arguments that fit
    return MadeCall("function", given["name"], _encode(arguments).decode())


def _function(call: MadeCall, text: str) -> dict[str, str]:
    return {"name": call.name, "arguments" if call.kind == "function" else "input": text}


def _call_id(completion_id: str, at: int) -> str:
    return f"call_{completion_id}_{at}"


def _tokens(text: str) -> int:
    return -(-len(text) // TOKEN_CHARS)


def _pieces(text: str, count: int) -> Iterator[str]:
    """Cut a text into so many pieces of about one length."""
    count = max(min(count, len(text)), 1 if text else 0)
    for at in range(count):
        yield text[len(text) * at // count : len(text) * (at + 1) // count]
