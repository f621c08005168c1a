"""Reasoning, cached prompts and maxima of the simulator: what it writes, reports and books agree."""

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from keyforge.testkit.simulator_process import Simulator

HELLO: Any = [{"role": "user", "content": "hello"}]
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
PLAN = {
    "type": "object",
    "properties": {"steps": {"type": "array", "items": CITY, "minItems": 3}},
    "required": ["steps"],
}
TOOLS: Any = [
    {"type": "function", "function": {"name": "weather", "parameters": CITY}},
    {"type": "function", "function": {"name": "time", "parameters": CITY}},
    {"type": "custom", "custom": {"name": "note"}},
]


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


REASONING: list[tuple[dict[str, Any], str, int]] = [
    ({"model": "x/sim-reasoning"}, "reasoning_content", 16),
    ({"reasoning_effort": "low"}, "reasoning_content", 8),
    ({"reasoning": {"effort": "high"}}, "reasoning", 32),
    ({"reasoning": {"enabled": True}}, "reasoning", 16),
    ({"reasoning": {"enabled": False}}, "reasoning", 0),
    ({"reasoning_effort": "none", "model": "sim-reasoning"}, "reasoning_content", 0),
]


@pytest.mark.parametrize(("fields", "name", "tokens"), REASONING)
def test_reasoning_is_in_message_deltas_and_usage(
    simulator: Simulator, fields: dict[str, Any], name: str, tokens: int
) -> None:
    whole = post(simulator, **fields)
    message, usage = whole["choices"][0]["message"], whole["usage"]
    assert len(message.get(name, "").split()) == tokens
    assert usage["completion_tokens_details"]["reasoning_tokens"] == tokens
    assert usage["completion_tokens"] == tokens + 16
    assert len(message["content"].split()) == 16
    raw = send(simulator, stream=True, stream_options={"include_usage": True}, **fields).decode()
    chunks = [json.loads(line[6:]) for line in raw.splitlines() if line.startswith("data: {")]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert "".join(delta.get(name, "") for delta in deltas) == message.get(name, "")
    assert "".join(delta.get("content", "") for delta in deltas) == message["content"]
    assert chunks[-1]["usage"]["completion_tokens"] == usage["completion_tokens"]
    entries = simulator.books()["entries"]
    assert [entry["reasoning_tokens"] for entry in entries] == [tokens] * 2
    assert {entry["completion_tokens"] for entry in entries} == {tokens + 16}


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_effort": "high"},
        {"tools": TOOLS},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": PLAN}}},
        {"reasoning_effort": "low", "tools": TOOLS},
    ],
)
@pytest.mark.parametrize("most", [1, 3, 10, 30])
def test_a_model_stops_at_the_maximum(simulator: Simulator, fields: dict[str, Any], most: int) -> None:
    """What it wrote until then is the beginning of all that it would have written."""

    def written(answer: Any) -> tuple[int, str, str]:
        """Tokens of reasoning, the text beside it, and why it ended."""
        (choice,) = answer["choices"]
        message = choice["message"]
        text = message["content"] or ""
        for call in message.get("tool_calls", []):
            inner = call[call["type"]]
            text += inner["name"] + inner.get("arguments", inner.get("input", ""))
        return len(message.get("reasoning_content", "").split()), text, choice["finish_reason"]

    whole, cut = (post(simulator, max_tokens=tokens, **fields) for tokens in (1000, most))
    thought, text, _ = written(whole)
    thought_then, text_then, finish = written(cut)
    assert text.startswith(text_then)
    assert thought_then == min(thought, most)
    assert thought_then + len(text_then) / 4 <= most or "word word" in text
    assert cut["usage"]["completion_tokens"] == min(most, whole["usage"]["completion_tokens"])
    stopped = (thought, text) != (thought_then, text_then) and not text_then.startswith("word ")
    assert (finish == "length") == stopped
    raw = send(simulator, stream=True, max_tokens=most, **fields).decode()
    assert f'"finish_reason":"{finish}"' in raw
    assert simulator.books()["entries"][-1]["completion_tokens"] == cut["usage"]["completion_tokens"]


def test_a_repeated_prompt_is_cached(simulator: Simulator, client: openai.OpenAI) -> None:
    long: Any = [{"role": "system", "content": "the same words again " * 400}, {"role": "user", "content": "first"}]
    cached: list[int] = []
    for last in ("first", "second", "second"):
        done = client.chat.completions.create(model="m", messages=[long[0], {"role": "user", "content": last}])
        assert done.usage is not None
        assert done.usage.prompt_tokens_details is not None
        cached.append(done.usage.prompt_tokens_details.cached_tokens or 0)
    assert cached[0] == 0
    assert cached[1] == cached[2] > 1024
    books = simulator.books()
    assert [entry["cached_tokens"] for entry in books["entries"]] == cached
    assert books["cached_tokens"] == sum(cached)
    with openai.OpenAI(base_url=simulator.url, api_key="fixture-other") as other:
        done = other.chat.completions.create(model="m", messages=long)
        assert done.usage is not None
        assert done.usage.prompt_tokens_details is not None
        assert done.usage.prompt_tokens_details.cached_tokens == 0
