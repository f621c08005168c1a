"""Tool calls and structured output of the simulator, read by the official client."""

import json
import urllib.request
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

from keyforge.testkit.simulator_process import Simulator

HELLO: Any = [{"role": "user", "content": "hello"}]
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def function(name: str, parameters: Any = CITY, **more: Any) -> Any:
    return {"type": "function", "function": {"name": name, "parameters": parameters, **more}}


TOOLS: Any = [function("weather"), function("time"), {"type": "custom", "custom": {"name": "note"}}]


class Step(BaseModel):
    """One step of a plan."""

    text: str
    kind: Literal["think", "act"]


class Plan(BaseModel):
    """What a structured output is asked for."""

    title: str
    steps: list[Step]
    weight: float
    note: str | None


@pytest.fixture(scope="module")
def running() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def simulator(running: Simulator) -> Simulator:
    running.reset()
    return running


@pytest.fixture
def client(simulator: Simulator) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=simulator.url, api_key="fixture-credential", max_retries=0) as client:
        yield client


def send(simulator: Simulator, **fields: Any) -> bytes:
    body = json.dumps({"model": "m", "messages": HELLO, **fields}).encode()
    with urllib.request.urlopen(f"{simulator.url}/chat/completions", body, timeout=60) as answer:
        return bytes(answer.read())


def post(simulator: Simulator, **fields: Any) -> Any:
    return json.loads(send(simulator, **fields))


def called(message: Any) -> list[tuple[str, Any]]:
    return [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls]


def test_tools_are_called_in_parallel_and_their_answers_end_in_words(
    simulator: Simulator, client: openai.OpenAI
) -> None:
    first = client.chat.completions.create(model="m", messages=HELLO, tools=TOOLS[:2])
    (choice,) = first.choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    assert called(choice.message) == [("weather", {"city": "word"}), ("time", {"city": "word"})]
    calls = choice.message.tool_calls
    assert calls is not None
    assert len({call.id for call in calls}) == 2
    results: Any = [{"role": "tool", "tool_call_id": call.id, "content": "fine"} for call in calls]
    messages: Any = [*HELLO, choice.message, *results]
    last = client.chat.completions.create(model="m", messages=messages, tools=TOOLS[:2])
    assert (last.choices[0].finish_reason, last.choices[0].message.tool_calls) == ("stop", None)
    assert "word" in (last.choices[0].message.content or "")
    for answer, entry in zip((first, last), simulator.books()["entries"], strict=True):
        assert answer.usage is not None
        assert answer.usage.completion_tokens == entry["completion_tokens"] > 0


CHOICES: list[tuple[str, dict[str, Any], list[str], str]] = [
    ("auto", {"tool_choice": "auto"}, ["weather", "time", "note"], "tool_calls"),
    ("none", {"tool_choice": "none"}, [], "stop"),
    ("required", {"tool_choice": "required"}, ["weather", "time", "note"], "tool_calls"),
    ("one at a time", {"parallel_tool_calls": False}, ["weather"], "tool_calls"),
    ("named", {"tool_choice": {"type": "function", "function": {"name": "time"}}}, ["time"], "stop"),
    ("custom", {"tool_choice": {"type": "custom", "custom": {"name": "note"}}}, ["note"], "stop"),
    (
        "allowed",
        {
            "tool_choice": {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "time"}}]},
            }
        },
        ["time"],
        "tool_calls",
    ),
]


@pytest.mark.parametrize(
    ("fields", "names", "finish"), [case[1:] for case in CHOICES], ids=[case[0] for case in CHOICES]
)
def test_tool_choice_is_obeyed_whole_and_streamed(
    simulator: Simulator, client: openai.OpenAI, fields: dict[str, Any], names: list[str], finish: str
) -> None:
    whole = post(simulator, tools=TOOLS, **fields)["choices"][0]
    calls = whole["message"].get("tool_calls", [])
    assert [call[call["type"]]["name"] for call in calls] == names
    assert whole["finish_reason"] == finish
    stream = client.chat.completions.create(model="m", messages=HELLO, tools=TOOLS, stream=True, **fields)
    made: dict[int, dict[str, Any]] = {}
    ends: list[str] = []
    for chunk in stream:
        for choice in chunk.model_dump(exclude_unset=True)["choices"]:
            ends += [choice["finish_reason"]] if choice["finish_reason"] else []
            for call in choice["delta"].get("tool_calls") or ():
                known = made.setdefault(call["index"], {"type": call.get("type"), "text": "", "pieces": 0})
                inner = call[known["type"]]
                known["name"] = inner.get("name", known.get("name"))
                known["text"] += inner.get("arguments", inner.get("input", ""))
                known["pieces"] += 1
    assert ends == [finish]
    expected = [call[call["type"]].get("arguments", call[call["type"]].get("input")) for call in calls]
    assert [(call["name"], call["text"]) for call in made.values()] == list(zip(names, expected, strict=True))
    assert all(call["pieces"] > 1 for call in made.values())


def test_the_sdk_assembles_streamed_calls(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model="m", messages=HELLO, tools=[openai.pydantic_function_tool(Step)], stream_options={"include_usage": True}
    ) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert "tool_calls.function.arguments.done" in kinds
    calls = final.choices[0].message.tool_calls
    assert calls is not None
    (call,) = calls
    assert call.function.parsed_arguments == Step(text="word", kind="think")
    assert final.usage is not None


@pytest.mark.parametrize("stream", [False, True])
def test_structured_output_fits_its_schema(client: openai.OpenAI, stream: bool) -> None:
    expected = Plan(title="word", steps=[Step(text="word", kind="think")], weight=1, note="word")
    if not stream:
        whole = client.chat.completions.parse(model="m", messages=HELLO, response_format=Plan)
        assert whole.choices[0].message.parsed == expected
        return
    with client.chat.completions.stream(model="m", messages=HELLO, response_format=Plan) as opened:
        for _ in opened:
            pass
        assert opened.get_final_completion().choices[0].message.parsed == expected


def test_json_without_a_schema_and_tools_before_json(client: openai.OpenAI) -> None:
    done = client.chat.completions.create(model="m", messages=HELLO, response_format={"type": "json_object"}, n=2)
    assert [json.loads(choice.message.content or "") for choice in done.choices] == [{"answer": "word"}] * 2
    plain = client.chat.completions.create(model="m", messages=HELLO, response_format={"type": "text"})
    assert plain.choices[0].message.content == "word " * 16
    calling = client.chat.completions.parse(
        model="m", messages=HELLO, response_format=Plan, tools=[openai.pydantic_function_tool(Step)]
    )
    assert calling.choices[0].finish_reason == "tool_calls"


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"response_format": {"type": "xml"}}, "response_format", "text, json_object or json_schema"),
    ({"response_format": {"type": "json_schema"}}, "response_format", "schema must be an object"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "string", "pattern": "x"}}}},
        "response_format",
        "schema.pattern",
    ),
    ({"tools": [function("f", {"not": {}}, strict=True)]}, "tools", "'f': schema.not"),
    (
        {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "other"}}},
        "tool_choice",
        "name tools that the request offers",
    ),
    ({"tools": TOOLS, "tool_choice": "maybe"}, "tool_choice", "none, auto, required"),
]


@pytest.mark.parametrize(("fields", "param", "why"), REFUSED)
def test_what_cannot_be_made_is_refused_by_its_field(
    simulator: Simulator, client: openai.OpenAI, fields: dict[str, Any], param: str, why: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=why.replace(".", r"\.")) as refused:
        client.chat.completions.create(model="m", messages=HELLO, **fields)
    assert refused.value.param == param
    assert simulator.books()["entries"][0]["status"] == 400
    assert simulator.books()["prompt_tokens"] == 0


def test_a_function_that_is_not_strict_is_called_with_any_arguments(simulator: Simulator) -> None:
    message = post(simulator, tools=[function("f", {"not": {}})])["choices"][0]["message"]
    assert message["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}


def test_functions_as_they_were_before_tools(simulator: Simulator, client: openai.OpenAI) -> None:
    functions: Any = [{"name": "weather", "parameters": CITY}]
    done = client.chat.completions.create(model="m", messages=HELLO, functions=functions)
    assert done.choices[0].finish_reason == "function_call"
    call = done.choices[0].message.function_call
    assert call is not None
    assert (call.name, json.loads(call.arguments)) == ("weather", {"city": "word"})
    text = ""
    for chunk in client.chat.completions.create(model="m", messages=HELLO, functions=functions, stream=True):
        for choice in chunk.choices:
            text += (choice.delta.function_call and choice.delta.function_call.arguments) or ""
    assert text == call.arguments
