"""Errors within a stream, in the forms of many providers; what is none; and when a stream has begun."""

import json
from typing import Any

import pytest

from keyforge.contracts.usage import Usage
from keyforge.edge.core.dialects.openai_chat.stream import StreamMeter
from tests.unit.event_stream import DONE, USED, data, event, reading, run

TEXT = event({"content": "hello"})
ROLE = event({"role": "assistant", "content": ""})
WORDS = "This model's maximum context length is 8192 tokens, and you asked for 9000."
TOLD: dict[str, tuple[bytes, int]] = {
    "openai": (data({"error": {"message": WORDS, "type": "server_error", "code": None}}), 500),
    "openrouter": (data({"id": "c", "error": {"code": 429, "message": WORDS}, "choices": []}), 429),
    "openrouter, in a choice": (
        data({"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error",
                           "error": {"code": 502, "message": WORDS}}]}), 502,
    ),
    "in a choice that writes": (
        data({"choices": [{"index": 0, "delta": {"content": "x"}, "error": {"code": 503, "message": WORDS}}]}), 503,
    ),
    "beside what was written": (event({"content": "x"}, error={"message": WORDS, "type": "timeout"}), 504),
    "anthropic": (
        b"event: error\n" + data({"type": "error", "error": {"type": "overloaded_error", "message": WORDS}}), 529,
    ),
    "vllm": (data({"object": "error", "message": WORDS, "type": "BadRequestError", "code": 400}), 400),
    "venice": (data({"id": "x", "choices": None, "error_message": WORDS, "code": 400}), 400),
    "gemini": (data([{"error": {"code": 429, "message": WORDS, "status": "RESOURCE_EXHAUSTED"}}]), 429),
    "groq": (b"event: error\n" + data({"error": {"message": WORDS, "code": "rate_limit_exceeded"}}), 429),
    "groq, in its own place": (data({"choices": [], "x_groq": {"id": "r", "error": WORDS}}), 502),
    "ollama": (data({"error": WORDS}), 502),
    "named error of its own shape": (b"event: error\n" + data({"message": WORDS, "code": 429}), 429),
    "named error in text": (b"event: error\ndata: " + WORDS.encode() + b"\n\n", 502),
    "bare line": (json.dumps({"error": {"message": WORDS, "code": 413}}).encode() + b"\n", 413),
    "bare list": (json.dumps([{"error": {"message": WORDS, "code": 429}}]).encode() + b"\r\n", 429),
    "several lines": (b'data: {"error":\ndata: {"message": ' + json.dumps(WORDS).encode() + b"}}\n\n", 502),
}  # fmt: skip


@pytest.mark.parametrize("before", [b"", ROLE, TEXT, b"event: message\r\n"], ids=["first", "role", "text", "cut"])
@pytest.mark.parametrize("name", TOLD)
def test_an_error_is_read_in_whichever_form_it_comes(name: str, before: bytes) -> None:
    told, status = TOLD[name]
    if before.endswith(b"\r\n"):
        before = b"" if told.startswith(b"event") else before
    out, meter = run(before + told + TEXT + DONE)
    assert out == (before if before.endswith(b"\n\n") else b"")
    assert meter.failure is not None
    assert (meter.failure.status, meter.failure.message) == (status, WORDS)
    assert meter.error is not None
    assert b"maximum context length" in meter.error
    assert b"\n" not in meter.error
    assert (meter.fault, meter.close_event(), meter.finished, meter.done) == (None, b"", False, False)
    assert meter.begun == (before == TEXT or name in ("in a choice that writes", "beside what was written"))
    whole_events = (len(before), len(before + told), len(before + told + TEXT))
    for cuts in (range(5_000), (3, 11, 120), (len(before) + 1, len(before) + 9), whole_events):
        assert reading(run(before + told + TEXT + DONE, cuts)[1]) == reading(meter)


@pytest.mark.parametrize("error", [None, {}, "", False, 0, []], ids=repr)
@pytest.mark.parametrize("chunk", [{"content": "x"}, None], ids=["text", "no choices"])
def test_a_falsy_error_is_none(error: Any, chunk: Any) -> None:
    stream = TEXT + event(chunk, error=error) + event({}, "stop") + DONE
    out, meter = run(stream)
    assert (out, meter.error, meter.failure, meter.done) == (stream, None, None, True)


@pytest.mark.parametrize(
    "harmless",
    [
        data({"choices": [], "prompt_filter_results": [{"prompt_index": 0}]}),  # Azure
        data({"id": "c", "choices": [], "object": "", "model": ""}),
        data({"choices": [], "moderation": {"results": []}}),  # OpenAI
        event({"content": "an error"}, None, type="completion"),
        b"event: error\ndata: {}\n\n",
        b'event: error\ndata: {"error": null}\n\n',
        data({}),
        b'x-note: {"error": {"message": "in a field"}}\n',
    ],
)
def test_what_has_no_error_goes_on(harmless: bytes) -> None:
    _, meter = run(TEXT + harmless + event({}, "stop") + DONE)
    assert (meter.error, meter.failure, meter.fault, meter.done) == (None, None, None, True)


@pytest.mark.parametrize("reason", ["", None, False, 0, "null"], ids=repr)
def test_a_reason_that_is_none_ends_nothing(reason: Any) -> None:
    usage = {**USED, "completion_tokens": 1}
    _, meter = run(event({"content": "x"}, reason, usage=usage))
    assert (meter.finished, meter.usage) == (False, None)
    _, ended = run(event({"content": "x"}, reason) + event({}, "length", usage=USED))
    assert (ended.finished, ended.usage) == (True, Usage(input_tokens=9, output_tokens=3))


def test_what_an_error_reports_to_have_used_counts() -> None:
    failed = data({"error": {"message": WORDS, "code": 500}, "choices": [], "usage": USED})
    assert run(TEXT + failed)[1].usage == Usage(input_tokens=9, output_tokens=3)
    assert run(TEXT + data({"error": {"message": WORDS}, "usage": {"prompt_tokens": 0}}))[1].usage is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"Internal Server Error\n", "Internal Server Error"),
        (b"<html><head><title>502</title></head><body>Bad gateway</body></html>\n", "502 Bad gateway"),
        (b"data: upstream connect error\n\n", "upstream connect error"),
        (b'data: "Too many requests"\n\n', "Too many requests"),
        (b"\xef\xbb\xbferror code: 1015", "error code: 1015"),
    ],
)
def test_text_in_place_of_a_stream_is_an_error_told_in_words(text: bytes, message: str) -> None:
    out, meter = run(text)
    assert (out, meter.malformed, meter.begun) == (b"", True, False)
    assert meter.failure is not None
    assert (meter.failure.status, meter.failure.message) == (502, message)


def test_damaged_json_says_nothing() -> None:
    for damaged in (b'data: {"choi\n\n', b"data: [1\n\n", b'data: {"choices": "x"}\n\n'):
        meter = run(damaged)[1]
        assert (meter.malformed, meter.failure) == (True, None)


def test_a_whole_answer_in_place_of_a_stream_is_kept() -> None:
    whole = json.dumps({"choices": [{"message": {"content": "hello"}}]}, indent=1).encode()
    for cuts in ((), range(len(whole))):
        meter = run(whole, cuts)[1]
        assert (meter.fault, meter.failure, meter.error) == ("not_sse", None, None)
        assert json.loads(meter.stray) == json.loads(whole)
    assert not run(TEXT + b"{}\n")[1].stray, "a stream had begun"
    broken = json.dumps({"error": {"message": WORDS, "code": 429}}, indent=1).encode()
    meter = run(broken)[1]
    assert meter.failure is not None
    assert (meter.failure.status, meter.failure.message) == (429, WORDS)


def test_what_comes_in_place_of_a_stream_is_bounded() -> None:
    meter = StreamMeter(keep_usage=True, event_bytes_max=1_000)
    for _ in range(200):
        meter.feed(b"x: 3456\n")
    assert meter.fault == "event_too_large"
    begun = StreamMeter(keep_usage=True, event_bytes_max=1_000)
    begun.feed(TEXT)
    for _ in range(200):
        begun.feed(b"x: 3456\n")
    assert (begun.fault, bytes(begun.stray)) == (None, b"")


@pytest.mark.parametrize(
    ("first", "begun"),
    [
        (b": comment\n\n", False),
        (b"event: ping\ndata: ping\n\n", False),
        (ROLE, False),
        (event({"content": None}), False),
        (data({"choices": [], "prompt_filter_results": []}), False),
        (event(usage=None), False),
        (event(usage={"prompt_tokens": 0, "completion_tokens": 0}), False),
        (event({"content": " "}), True),
        (event({"reasoning": "x"}), True),
        (event({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}]}), True),
        (event({"images": [{"image_url": {"url": "data:image/png;base64,AAAA"}}]}), True),
        (event({}, "stop"), True),
        (event(usage=USED), True),
        (ROLE + DONE, True),
    ],
)
def test_a_stream_has_begun_when_something_was_written_finished_or_used(first: bytes, begun: bool) -> None:
    for cuts in ((), range(len(first))):
        assert run(first, cuts)[1].begun == begun
    assert run(first + TEXT)[1].begun


def test_deep_nests_never_raise() -> None:
    for depth in (50, 300, 450, 900, 5_000):
        for shape in (
            b'{"error":[%s]}',
            b'{"error":{"a":%s}}',
            b'{"usage":{"a":%s}}',
            b'{"choices":[{"delta":{"a":%s}}]}',
        ):
            nest = b"1"
            for _ in range(depth):
                nest = shape.replace(b"choices", b"c") % nest
            meter = run(b"data: " + (shape % nest) + b"\n\n" + TEXT)[1]
            run(b"event: error\ndata: " + nest + b"\n\n")
            run(nest + b"\n")
            assert reading(meter)
