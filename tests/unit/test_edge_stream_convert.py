"""A completion as a stream and a stream as a completion, for agents that asked for the other one."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from keyforge.contracts.usage import Usage
from keyforge.edge.core.dialects.base import Converted
from keyforge.edge.core.dialects.openai_chat import convert
from keyforge.edge.core.dialects.openai_chat.stream import StreamMeter
from keyforge.edge.core.dialects.provider_error import ProviderError
from keyforge.edge.core.pricing.workload import Workload
from tests.unit.event_stream import DONE, USED, data, event, standard

CALLS = [
    {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},
    {"id": "call_2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
]
WHOLE: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_700_000_000,
    "model": "m-2026",
    "system_fingerprint": "fp",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "héllo"}, "logprobs": None, "finish_reason": "stop"},
        {
            "index": 1,
            "message": {"role": "assistant", "content": None, "tool_calls": CALLS},
            "finish_reason": "tool_calls",
        },
    ],
    "usage": {**USED, "cost": 0.5},
}


def as_stream(body: bytes, *, shows_usage: bool) -> Converted | ProviderError | None:
    return convert.as_stream(body, Workload(), shows_usage=shows_usage)


def as_completion(body: bytes, *, completions: int = 1) -> Converted | ProviderError | None:
    return convert.as_completion(body, Workload(completions=completions))


def converted(found: Converted | ProviderError | None) -> Converted:
    assert isinstance(found, Converted)
    return found


def chunks(stream: bytes) -> list[Any]:
    *documents, end = [data for _, data in standard(stream)]
    assert end == "[DONE]"
    return [json.loads(document) for document in documents]


@pytest.mark.parametrize("shows_usage", [True, False])
def test_a_completion_is_read_as_a_stream(shows_usage: bool) -> None:
    for body in (json.dumps(WHOLE).encode(), json.dumps(WHOLE, indent=1).encode()):
        found = converted(as_stream(body, shows_usage=shows_usage))
        assert found.metered.usage == Usage(input_tokens=9, output_tokens=3)
        assert found.metered.reported_cost_nusd == 500_000_000
        told = chunks(found.body)
        assert [ChatCompletionChunk.model_validate(chunk).object for chunk in told]
        assert [chunk["choices"][0]["delta"].get("content") for chunk in told[:2]] == ["héllo", None]
        assert [call["index"] for call in told[1]["choices"][0]["delta"]["tool_calls"]] == [0, 1]
        assert [chunk["choices"][0]["finish_reason"] for chunk in told[:2]] == ["stop", "tool_calls"]
        assert {(chunk["id"], chunk["model"], chunk["system_fingerprint"]) for chunk in told} == {
            ("chatcmpl-1", "m-2026", "fp")
        }
        assert [chunk["usage"] for chunk in told[2:]] == [WHOLE["usage"]] * shows_usage


def test_what_was_made_is_metered_as_any_stream() -> None:
    meter = StreamMeter(keep_usage=True, completions=2)
    found = converted(as_stream(json.dumps(WHOLE).encode(), shows_usage=True))
    assert meter.feed(found.body) == found.body
    assert (meter.begun, meter.finished, meter.done, meter.fault) == (True, True, True, None)
    assert meter.usage == found.metered.usage


def test_there_and_back_it_is_the_same() -> None:
    stream = converted(as_stream(json.dumps(WHOLE).encode(), shows_usage=True))
    back = converted(as_completion(stream.body, completions=2))
    assert back.metered == stream.metered
    assert json.loads(back.body) == WHOLE


def thought(text: str) -> bytes:
    """Return a chunk of OpenRouter's, which has a thought in two places."""
    return event({"reasoning": text, "reasoning_details": [{**THOUGHT, "text": text}]})


def called(number: int, id_: str | None, arguments: str, **more: str) -> bytes:
    function = {**({"name": "fg"[number]} if id_ else {}), "arguments": arguments}
    return event({"tool_calls": [{"index": number, "id": id_, "function": function, **more}]})


THOUGHT = {"type": "reasoning.text", "text": "ab", "format": "x", "index": 0}
STREAMED = [
    event({"role": "assistant", "content": ""}, model="m", created=7),
    thought("a"),
    thought("b"),
    event({"content": "hé"}),
    b": comment\n\nevent: ping\ndata: ping\n\n",
    event({"content": "llo\ud83d"}),
    called(0, "call_1", "", type="function"),
    called(0, "call_1", '{"a"'),
    called(1, "call_2", "{}", type="function"),
    called(0, None, ": 1}"),
    event({}, "tool_calls", usage={"prompt_tokens": 0, "completion_tokens": 0}),
    event(usage=USED),
    event(usage={}),
]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("tail", [DONE, b""], ids=["done", "cut after its finish"])
def test_a_stream_is_read_as_a_completion(tail: bytes, end: bytes) -> None:
    found = converted(as_completion((b"".join(STREAMED) + tail).replace(b"\n", end)))
    assert found.finished
    assert found.metered.usage == Usage(input_tokens=9, output_tokens=3)
    whole = json.loads(found.body)
    [choice] = whole["choices"]
    assert choice["message"] == {
        "role": "assistant",
        "content": "héllo\ud83d",
        "reasoning": "ab",
        "reasoning_details": [THOUGHT],
        "tool_calls": CALLS,
    }
    assert choice["finish_reason"] == "tool_calls"
    assert (whole["object"], whole["id"], whole["model"], whole["usage"]) == ("chat.completion", "c", "m", USED)
    found = converted(as_completion(b"".join(STREAMED).replace(b"\\ud83d", b"") + tail))
    assert ChatCompletion.model_validate_json(found.body).choices[0].message.tool_calls


def test_choices_are_put_together_each_for_itself() -> None:
    parts = [(1, "b"), (0, "a"), (1, "B"), (0, "A")]
    stream = b"".join(data({"choices": [{"index": place, "delta": {"content": text}}]}) for place, text in parts)
    ends = [data({"choices": [{"index": place, "delta": {}, "finish_reason": "stop"}]}) for place in (0, 1)]
    whole = json.loads(converted(as_completion(stream + b"".join(ends), completions=2)).body)
    assert [(one["index"], one["message"]["content"]) for one in whole["choices"]] == [(0, "aA"), (1, "bB")]
    assert not converted(as_completion(stream + ends[0], completions=2)).finished


def test_parts_of_content_and_calls_without_an_index() -> None:
    stream = [
        event({"content": "a"}),
        event({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "t"}]}]}),  # Mistral
        event({"content": "b"}),
        event({"tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]}),  # Gemini
        event({"tool_calls": [{"id": "2", "function": {"name": "f", "arguments": "{}"}}]}),
        event({"annotations": [{"type": "url_citation"}]}),
        event({"annotations": [{"type": "url_citation"}]}),
        event({"audio": {"id": "a", "data": "AA", "expires_at": 1}}, "stop"),
        event({"audio": {"data": "BB", "expires_at": 2}}),
    ]
    message = json.loads(converted(as_completion(b"".join(stream))).body)["choices"][0]["message"]
    assert message["content"] == [
        {"type": "text", "text": "a"},
        {"type": "thinking", "thinking": [{"type": "text", "text": "t"}]},
        {"type": "text", "text": "b"},
    ]
    assert [call["id"] for call in message["tool_calls"]] == ["1", "2"]
    assert len(message["annotations"]) == 2
    assert message["audio"] == {"id": "a", "data": "AABB", "expires_at": 2}


def test_logprobs_are_put_together() -> None:
    one = {"choices": [{"index": 0, "delta": {"content": "x"}, "logprobs": {"content": [{"token": "x"}]}}]}
    whole = json.loads(converted(as_completion(data(one) + data(one) + event({}, "stop"))).body)
    assert whole["choices"][0]["logprobs"] == {"content": [{"token": "x"}, {"token": "x"}]}


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "no", "code": 429}},
        [{"error": {"message": "no", "code": 429}}],
        {"object": "error", "message": "no", "code": 429},
        {"choices": None, "error_message": "no", "code": 429},
        {"choices": [{"message": {}, "finish_reason": "error", "error": {"message": "no", "code": 429}}]},
    ],
)
def test_an_error_is_handed_over_as_one(body: Any) -> None:
    told = as_stream(json.dumps(body).encode(), shows_usage=True)
    assert isinstance(told, ProviderError)
    assert (told.status, told.message) == (429, "no")
    for stream in (data(body), event({"content": "x"}) + data(body) + DONE):
        assert as_completion(stream) == told


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b"1", b"{", b'{"choices": 1}', b'{"choices": [1]}', b'{"choices": [{"text": "x"}]}']
)
def test_what_is_no_completion_is_none(body: bytes) -> None:
    assert as_stream(body, shows_usage=True) is None


@pytest.mark.parametrize(
    "body", [b"", DONE, b": c\n\n", b'{"choices": [{"message": {}}]}', b"data: {\n\n", b"event: x\ndata: {}\n\n" + DONE]
)
def test_what_is_no_stream_is_none(body: bytes) -> None:
    assert as_completion(body) is None


def test_a_stream_that_was_cut_is_not_finished() -> None:
    found = converted(as_completion(event({"content": "x"}, usage=USED)))
    assert (found.finished, found.metered.usage) == (False, None)


def test_a_long_stream_takes_time_that_grows_with_its_length() -> None:
    stream = event({"content": "x" * 9, "tool_calls": [{"index": 1, "function": {"arguments": "y" * 9}}]}) * 30_000
    message = json.loads(converted(as_completion(stream)).body)["choices"][0]["message"]
    assert len(message["content"]) == len(message["tool_calls"][0]["function"]["arguments"]) == 270_000


leaves = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
names = st.sampled_from(["content", "index", "id", "delta", "choices", "tool_calls", "name", "text"])
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4), max_leaves=12
)


@given(st.lists(st.dictionaries(st.sampled_from(["content", "tool_calls", "audio", "role", "x"]), values), max_size=5))
def test_whatever_deltas_come_it_is_put_together(deltas: list[dict[str, Any]]) -> None:
    stream = b"".join(event(delta, logprobs=deltas) for delta in deltas) + event({}, "stop") + DONE
    found = converted(as_completion(stream))
    assert json.loads(found.body)["choices"][0]["finish_reason"] == "stop"
    assert isinstance(as_stream(found.body, shows_usage=True), Converted)


@given(values)
def test_whatever_document_comes_it_does_not_raise(document: Any) -> None:
    body = json.dumps(document).encode()
    as_stream(body, shows_usage=True)
    as_completion(b"event: x\ndata: " + body + b"\n\n" + event({"content": "x"}))
    as_completion(data({"choices": [{"delta": {"content": document}, "index": document}], "n": document}))


def unnumbered(message: dict[str, Any]) -> list[Any]:
    return [{**call, "index": None} for call in message.get("tool_calls") or ()]


def test_recordings_there_and_back() -> None:
    folder = os.environ.get("KEYFORGE_RECORDINGS")
    if not folder:
        pytest.skip("KEYFORGE_RECORDINGS is not set: no recorded provider traffic to read")
    from keyforge.testkit.recordings import load

    streams = completions = 0
    for _, recording in load(Path(folder)):
        if recording.is_stream and b"chat.completion.chunk" in recording.body:
            found = as_completion(recording.body)
            if isinstance(found, Converted):
                streams += 1
                assert ChatCompletion.model_validate_json(found.body).choices, recording.id
                texts = [json.loads(text)["choices"] for _, text in standard(recording.body) if text != "[DONE]"]
                text = "".join(one["delta"].get("content") or "" for choices in texts for one in choices if one)
                message = json.loads(found.body)["choices"][0]["message"]
                assert (message["content"] or "") == text, recording.id
        elif isinstance(recording.response, dict) and recording.response.get("object") == "chat.completion":
            completions += 1
            told = converted(as_stream(recording.body, shows_usage=True))
            back = json.loads(converted(as_completion(told.body)).body)
            for one, other in zip(back["choices"], recording.response["choices"], strict=True):
                message = {name: value for name, value in other["message"].items() if value not in (None, [])}
                calls = [{**call, "index": None} for call in message.get("tool_calls", ())]
                assert [{**call, "index": None} for call in one["message"].get("tool_calls") or ()] == calls, (
                    recording.id
                )
                for name in message.keys() - {"tool_calls"}:
                    assert one["message"][name] == message[name], (recording.id, name)
    assert streams > 30
    assert completions > 100
